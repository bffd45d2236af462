"""The parser of every command, and types of arguments: a refusal says what was found and what is allowed."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from ncpipe.errors import near_match

EXIT_USAGE = 2


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line, as every other message to the user is."""

    def error(self, message: str) -> NoReturn:
        """Print the flag, and what is wrong with it; where argparse does not say what is allowed, the help does."""
        advice = "" if " allowed: " in message else f"; see {self.prog} --help"
        self.exit(EXIT_USAGE, f"{self.prog}: {message.removeprefix('argument ')}{advice}\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            allowed = [str(choice) for choice in action.choices]
            hint = near_match(str(value).lower(), allowed) or ";"
            raise argparse.ArgumentError(action, f"found {value!r}{hint} allowed: {', '.join(allowed)}")


def number(*, above: float | None = None, least: float | None = None) -> Callable[[str], float]:
    """Make a type of finite numbers: of those > `above`, or of those >= `least`."""
    limit = "" if above is None and least is None else f" > {above:g}" if least is None else f" >= {least:g}"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or (above is not None and value <= above) or (least is not None and value < least):
            raise argparse.ArgumentTypeError(f"found {text}; allowed: a number{limit}")
        return value

    return parse


def whole(*, least: int | None = None, most: int | None = None) -> Callable[[str], int]:
    """Make a type of whole numbers from `least` to `most`."""
    limits = "" if least is None else f" >= {least}" if most is None else f" from {least} to {most}"

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or (least is not None and value < least) or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"found {text}; allowed: a whole number{limits}")
        return value

    return parse


def file_with(*suffixes: str) -> Callable[[str], Path]:
    """Make a type of files to write, so that one of no such kind is refused before the work, not after it."""

    def parse(text: str) -> Path:
        path = Path(text)
        if path.suffix.lower() not in suffixes:
            raise argparse.ArgumentTypeError(f"found suffix {path.suffix!r}; allowed: {', '.join(suffixes)}")
        return path

    return parse


def listed(parse_one: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    """Make a type of values with commas between them."""

    def parse(text: str) -> tuple[Any, ...]:
        return tuple(map(parse_one, text.split(",")))

    return parse
