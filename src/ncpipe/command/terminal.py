"""What commands print and write: tables, contrasts, JSON, arrays; and the seconds that pass meanwhile."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ncpipe.errors import InputError

_TICK_SECONDS = 0.5


def format_table(rows: Sequence[Sequence[str]], *, left: Sequence[int] | None = None) -> str:
    """Align columns: to the right, those in `left` (by default the last one) to the left."""
    left = (len(rows[0]) - 1,) if left is None else left
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def format_count(samples: float) -> str:
    """Write a number of samples with separators; one that is not whole keeps ten digits."""
    return f"{samples:,.10g}"


def format_contrast(sides: Sequence[Sequence[str]], *, most: int | None = None) -> str:
    """Name a contrast, ``a, b against c``, with at most so many names on each side."""
    shown = []
    for side in sides:
        more = 0 if most is None else len(side) - most
        shown.append((", ".join(side[:most]) + (f" and {more} more" if more > 0 else "")) or "nothing")
    return " against ".join(shown)


def plain(value: Any) -> Any:
    """Builtins that JSON holds: arrays as lists, numbers that are not finite as None."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_json(payload: Mapping[str, Any]) -> None:
    """Print one JSON object, valid for every reader: what is not finite is null."""
    print(json.dumps(plain(payload), indent=1, allow_nan=False))


def write_values(path: Path, payload: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write the printed object and the arrays: together in JSON, the numbers as 0-d arrays in .npz."""
    import io

    import numpy as np

    from ncpipe.stores.files import write_atomically, write_json

    with writing(path):
        if path.suffix.lower() == ".json":
            write_json(path, plain({**payload, **arrays}))
        else:
            scalars = {k: v for k, v in payload.items() if v is not None and not isinstance(v, list | dict)}
            content: dict[str, Any] = {k: np.asarray(v) for k, v in {**scalars, **arrays}.items()}
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **content)
            write_atomically(path, buffer.getvalue())


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in one line that a file cannot be written."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error


@contextlib.contextmanager
def ticking(what: str) -> Iterator[None]:
    """Show the seconds that pass, on a terminal only."""
    if not sys.stderr.isatty():
        yield
        return
    from ncpipe.progress import clock

    done, started = threading.Event(), time.monotonic()

    def tick() -> None:
        shown = False
        while not done.wait(_TICK_SECONDS):
            shown = True
            print(f"\r{what}  {clock(time.monotonic() - started)}", end="", file=sys.stderr, flush=True)
        if shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
