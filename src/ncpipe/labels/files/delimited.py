"""``.csv`` and ``.tsv``: a 0/1 matrix as text.

The first line is a header of class names if a cell of it is not a number (True and False count as numbers), or if it
counts 0,1,2,… or 1,2,3,…, as names that software gives do: also where it could be a sample of two classes. The option
`header` says otherwise.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from ncpipe.labels.distribution import LabelDistribution
from ncpipe.labels.files.opening import open_text, split_name
from ncpipe.labels.files.rows import CELLS, Rows, cell, fault, number, reason, shown, to_distribution

_DELIMITERS = (",", ";", "\t")
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


def read_delimited(path: Path, *, header: bool | None = None, present: float | None = None) -> LabelDistribution:
    """Read a 0/1 matrix, or one whose entry `present` says that a sample has the label."""
    rows, names, width, first = Rows(path), None, 0, 0
    for line, cells in _lines(path):
        if not width:
            width, first = len(cells), line
            if _is_header(cells) if header is None else header:
                names = _names(path, line, cells)
                continue
        if len(cells) != width:
            fault(path, line, f"found {len(cells)} values; allowed are {width}, as many as in line {first}")
        ones = []
        for k, text in enumerate(cells):
            if text == "0" and present is None:
                continue
            value = CELLS.get(text) if present is None else None
            value = _entry(text, present) if value is None else value
            if value is None:
                column = names[k] if names else str(k + 1)
                allowed = "0 and 1, or True and False" if present is None else "numbers"
                hint = _hint(text, header=line == first) if present is None else ""
                fault(path, line, f"column {shown(column)}: found {shown(text)}; allowed are {allowed}{hint}")
            if value:
                ones.append(k)
        rows.append(ones)
    return to_distribution(path, rows.matrix(width), names)


def header_of(path: Path, *, header: bool | None = None) -> tuple[str, ...] | None:
    """The class names that `read_delimited` takes from the first line; None where it takes it for a sample."""
    for line, cells in _lines(path):
        is_header = _is_header(cells) if header is None else header
        return tuple(_names(path, line, cells)) if is_header else None
    return None


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of each line that is not empty."""
    with open_text(path, newline="") as handle:
        top = handle.readline()
        bare = _QUOTED.sub("", top)
        tabs = split_name(path)[1] == ".tsv"
        separator = "\t" if tabs else max(_DELIMITERS, key=bare.count)
        reader = csv.reader(chain([top], handle), delimiter=separator, strict=True)
        try:
            for cells in reader:
                if len(cells) > 1 or (cells and cells[0].strip()):
                    yield reader.line_num, cells
        except csv.Error as error:
            fault(path, reader.line_num, f"not CSV ({reason(error)})")


def _is_header(cells: list[str]) -> bool:
    if any(number(text) is None for text in cells):
        return True
    words = [text.strip() for text in cells]
    return any(words == [str(k) for k in range(start, start + len(words))] for start in (0, 1))


def _names(path: Path, line: int, cells: list[str]) -> list[str]:
    names = [text.strip() for text in cells]
    if "" in names:
        empty = names.index("") + 1
        fault(path, line, f"column {empty} has no name; if it numbers the samples, leave it out")
    return names


def _entry(text: str, present: float | None) -> bool | None:
    if present is None:
        return cell(text)
    value = number(text)
    return None if value is None or math.isnan(value) else value == present


def _hint(text: str, *, header: bool) -> str:
    if header and number(text) is not None:
        return " (names that are numbers are a header where they count 0,1,2,… or 1,2,3,…, or with the option header)"
    return " (the option present says which number is a label)" if number(text) is not None else ""
