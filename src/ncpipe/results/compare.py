"""What differs between two results folders: runs, configuration, versions, digests, and numbers beyond rounding."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ncpipe.errors import InputError, StoreError
from ncpipe.results.tree import Tree, read_tree
from ncpipe.stores.files import check_folder, differences, read_json

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1e-6
_HASHES = ("store_digest", "identity_hash", "manifest_hash", "history_sha256")


def compare_results(a: Path, b: Path, *, tolerance: float = TOLERANCE) -> Iterator[str]:
    """Yield one line per difference of `b` from `a`; none where they are the same up to rounding.

    Symbolic links are followed. Manifests are compared key by key, with a line of its own where equal settings gave
    other bytes; theory files and tables number by number.

    Parameters
    ----------
    a, b : Path
        Two results folders.
    tolerance : float
        Numbers differ where they are further apart than this times the larger of 1 and their magnitude.

    Raises
    ------
    InputError
        If one of them is no results folder, or `tolerance` is no number >= 0.
    StoreError
        If a manifest, a theory file or a table is damaged.
    """
    if not tolerance >= 0:
        raise InputError(f"tolerance: found {tolerance}; allowed: a number >= 0")
    for folder in (a, b):
        check_folder(folder)
    trees = [read_tree(folder) for folder in (a, b)]
    for folder, tree in zip((a, b), trees, strict=True):
        if not _files(tree, "manifest.json") and not _files(tree, "theory/*.json"):
            raise InputError(f"{folder}: holds no manifest and no theory file; is it a results folder?")
    for pattern, compare in (
        ("manifest.json", _compare_manifests),
        ("theory/*.json", _compare_json),
        ("report/claims.json", _compare_json),
        ("*/*.csv", _compare_tables),
    ):
        first, second = (_files(tree, pattern) for tree in trees)
        for name in sorted(first ^ second):
            yield f"{name}: only in {a if name in first else b}"
        for name in sorted(first & second):
            for line in compare(a / name, b / name, tolerance):
                yield f"{name}: {line}"


def _files(tree: Tree, pattern: str) -> set[str]:
    """Names below the folder that match: a file's name in any stage, or a pattern of whole paths."""
    names = {path.relative_to(tree.folder).as_posix() for path in tree.files}
    if "/" not in pattern:
        return {name for name in names if "/" in name and name.rsplit("/", 1)[1] == pattern}
    return {name for name in names if fnmatchcase(name, pattern) and (pattern != "*/*.csv" or name.count("/") == 1)}


def _compare_manifests(a: Path, b: Path, tolerance: float) -> Iterator[str]:
    first, second = read_json(a), read_json(b)
    before, after = ({k: v for k, v in content.items() if k not in _HASHES} for content in (first, second))
    changes = differences(before, after)
    yield from changes
    if first.get("store_digest") != second.get("store_digest"):
        inputs = [key for key in changes if not key.startswith(("environment.", "versions."))]
        yield "other values in its store" + ("" if inputs else ", although settings and data are the same")


def _compare_json(a: Path, b: Path, tolerance: float) -> Iterator[str]:
    yield from _value_differences(read_json(a), read_json(b), tolerance)


def _value_differences(a: Any, b: Any, tolerance: float, where: str = "") -> Iterator[str]:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in sorted({*a, *b}):
            yield from _value_differences(a.get(key), b.get(key), tolerance, f"{where}.{key}" if where else str(key))
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for position, pair in enumerate(zip(a, b, strict=True)):
            yield from _value_differences(*pair, tolerance, f"{where}[{position}]")
    elif _number(a) and _number(b):
        if abs(a - b) > tolerance * max(1.0, abs(a), abs(b)):
            yield f"{where}: was {a!r}, now {b!r}"
    elif a != b:
        yield f"{where}: was {_short(a)}, now {_short(b)}"


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _short(value: Any, length: int = 60) -> str:
    text = json.dumps(value)
    return text if len(text) <= length else f"{text[:length]}..."


def _compare_tables(a: Path, b: Path, tolerance: float) -> Iterator[str]:
    """One line per column: how many of its values differ, and the row where they differ most."""
    import numpy as np
    import pandas as pd

    first, second = (_read_table(path) for path in (a, b))
    if list(first.columns) != list(second.columns) or len(first) != len(second):
        yield f"{len(first)} rows of {list(first.columns)}, now {len(second)} of {list(second.columns)}"
        return
    for name in first.columns:
        old, new = first[name], second[name]
        x, y = (pd.to_numeric(column, errors="coerce").to_numpy(dtype=float) for column in (old, new))
        both = np.isfinite(x) & np.isfinite(y)
        distance = np.where(both, np.abs(x - y) / np.maximum(1.0, np.fmax(np.abs(x), np.abs(y))), np.inf)
        differs = (old != new).to_numpy() & (distance > tolerance)
        if differs.any():
            worst = int(np.argmax(np.where(differs, distance, -1.0)))
            count = f"{int(differs.sum())} of {len(first)} differ"
            yield f"{name}: {count}, most in row {worst + 1}: was {old[worst]}, now {new[worst]}"


def _read_table(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_csv(path, keep_default_na=False, dtype=str)
    except ValueError as error:  # pandas' own kinds, and bytes that are no text
        raise StoreError(f"{path}: damaged, not a table ({' '.join(str(error).split())})") from error
