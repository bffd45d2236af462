"""Which modules of the package a script is made of, read from the import statements of their text."""

from __future__ import annotations

import re
from pathlib import Path

_IMPORT = re.compile(r"^[ \t]*(?:from (ncpipe[\w.]*) import (\([^)]*\)|[^\n]*)|import (ncpipe[\w.]*))", re.MULTILINE)
_TYPES_ONLY = re.compile(r"^if TYPE_CHECKING:\n(?:[ \t]+[^\n]*\n|\n)*", re.MULTILINE)


def reachable_modules(script: Path, source: Path) -> list[str]:
    """Files below `source` that a script imports, directly or not, inside functions too; sorted, relative to `source`.

    Packages on the way count, imports for type checkers do not. Modules that are imported by a computed name are not
    seen.
    """
    reached: set[str] = set()
    waiting = [script]
    while waiting:
        text = _TYPES_ONLY.sub("", waiting.pop().read_text(encoding="utf-8"))
        for match in _IMPORT.finditer(text):
            module = match[1] or match[3]
            names = re.findall(r"(\w+)(?: as \w+)?", match[2] or "")
            for name in (module, *(f"{module}.{name}" for name in names)):
                parts = name.split(".")
                packages = ["/".join([*parts[:i], "__init__.py"]) for i in range(1, len(parts) + 1)]
                for file in (*packages, "/".join(parts) + ".py"):
                    if file not in reached and (source / file).is_file():
                        reached.add(file)
                        waiting.append(source / file)
    return sorted(reached)
