"""What each room loads when it is imported, and that every text file is read and written as UTF-8 by name."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
SOURCES = [
    *(REPOSITORY / "src").rglob("*.py"),
    *(REPOSITORY / "workflow").rglob("*.py"),
    *(REPOSITORY / "tests/support").glob("*.py"),
    *(REPOSITORY / "benchmarks").glob("*.py"),
]
WINGS = (
    "labels",
    "objective",
    "optimum",
    "geometry",
    "stores",
    "results",
    "theory",
    "collapse",
    "data",
    "experiment",
    "command",
)
LIGHT = ("experiment", "command")  # the Snakefile, and help, start with these


@pytest.mark.parametrize("room", WINGS)
def test_a_room_loads_nothing_heavy(room: str) -> None:
    """All its modules, but for what they import where it is used."""
    folder = REPOSITORY / "src/ncpipe" / room
    modules = [".".join(path.relative_to(REPOSITORY / "src").with_suffix("").parts) for path in folder.rglob("*.py")]
    if room == "command":
        modules = ["ncpipe.command.main"]
    heavy = ["torch", "sklearn", "matplotlib.pyplot", *(["numpy", "scipy", "zarr"] if room in LIGHT else [])]
    code = f"import sys, importlib\nfor m in {modules!r}: importlib.import_module(m)\n"
    code += f"print(set({heavy!r}) & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_text_is_utf_8_by_name(path: Path) -> None:
    for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(call, ast.Call):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            named = {keyword.arg for keyword in call.keywords}
            if name in ("read_text", "write_text"):
                assert "encoding" in named, ast.unparse(call)
            if name == "open" and isinstance(call.func, ast.Name):
                mode = [a.value for a in call.args[1:2] if isinstance(a, ast.Constant)]
                assert "encoding" in named or (mode and "b" in mode[0]), ast.unparse(call)
