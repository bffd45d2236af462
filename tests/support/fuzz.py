"""Fuzzing tests of the default suite, marked and counted.

python tests/support/fuzz.py      how many cases each of them draws, and the sum
pytest -m fuzz --durations=0      run them alone, with their seconds
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

TESTS = Path(__file__).parents[1]


def fuzz(cases: int) -> Callable[[Any], Any]:
    """Draw so many cases for a test; `cases` is a number, not a name, so that `fuzz_cases` can read it."""

    def mark(test: Any) -> Any:
        quiet = settings(max_examples=cases, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        return pytest.mark.fuzz(quiet(test))

    return mark


def fuzz_cases() -> dict[str, int]:
    """Cases of every test that is decorated with `fuzz`, read from the tests' source."""
    cases = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        source = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)) if "@fuzz(" in source else ():
            if isinstance(node, ast.FunctionDef):
                for decorator in node.decorator_list:
                    match decorator:
                        case ast.Call(func=ast.Name(id="fuzz"), args=[ast.Constant(value=int(number))]):
                            cases[f"{path.relative_to(TESTS)}::{node.name}"] = number
    return cases


if __name__ == "__main__":
    for test, number in fuzz_cases().items():
        print(f"{number:6,}  {test}")
    print(f"{sum(fuzz_cases().values()):6,}  in {len(fuzz_cases())} tests")
