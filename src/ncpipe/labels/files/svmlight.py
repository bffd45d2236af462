"""svmlight and the extreme classification repository: the classes of a sample, then features that are not read."""

from __future__ import annotations

import math
from array import array
from pathlib import Path

import numpy as np

from ncpipe.errors import InputError
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.labels.files.opening import open_text
from ncpipe.labels.files.rows import Rows, check_classes, fault, shown, to_distribution

_LONGEST_NUMBER = 9  # digits of a class number


def read_svmlight(path: Path, *, first_class: int | None = None, classes: int | None = None) -> LabelDistribution:
    """Read one sample a line; a line without classes, also an empty one before the last sample, has no label."""
    if first_class not in (None, 0, 1):
        raise InputError(f"first_class: found {first_class}; allowed are 0 and 1")
    if classes is not None:
        check_classes(path, classes)
    rows, samples, limit, begun, empty = Rows(path), None, classes, False, 0
    with open_text(path, errors="surrogateescape") as handle:
        for number, line in enumerate(handle, start=1):
            parts = line.partition("#")[0].split(None, 1)
            if not parts:
                empty += not line.strip()  # samples, unless nothing follows; a comment is none
                continue
            if not begun:
                begun = True
                declared = line.split()
                if len(declared) == 3 and all(_number(part) is not None for part in declared):
                    samples, _, limit = (int(part) for part in declared)
                    first_class = 0 if first_class is None else first_class
                    check_classes(path, limit)
                    empty = 0
                    continue
            for _ in range(empty):
                rows.append(())
            empty = 0
            if ":" in parts[0]:
                rows.append(())
                continue
            if len(parts) > 1 and ":" not in parts[1].split(None, 1)[0]:
                found = shown(parts[1].split(None, 1)[0])
                fault(path, number, f"found {found} after the labels; allowed are features (index:value)")
            rows.append(_svmlight_row(path, number, parts[0], first_class, limit))
    if samples is not None:
        for _ in range(min(empty, samples - len(rows))):  # of the empty lines at the end, as many as are declared
            rows.append(())
        if samples != len(rows):
            raise InputError(f"{path}: line 1: {samples} samples are declared, {len(rows)} follow")
    indices = np.frombuffer(rows.indices, np.int32)
    if not len(indices):
        raise InputError(f"{path}: no labelled sample")
    if first_class is None:
        first_class = int(indices.min() > 0)
    limit = int(indices.max()) + 1 - first_class if limit is None else limit
    if indices.max() >= limit + first_class:
        raise InputError(f"{path}: found class {indices.max()}; allowed are {first_class} to {limit + first_class - 1}")
    check_classes(path, limit)
    rows.indices = array("i", (indices - first_class).tobytes())
    return to_distribution(path, rows.matrix(limit), [str(k + first_class) for k in range(limit)])


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _LONGEST_NUMBER else None


def _svmlight_row(path: Path, line: int, text: str, first_class: int | None, limit: int | None) -> list[int]:
    row = []
    for part in text.split(","):
        number = _number(part)
        if number is None:
            fault(path, line, f"found the class {shown(part)}; allowed are whole numbers >= 0")
        row.append(number)
    if len(set(row)) < len(row):
        fault(path, line, f"found {shown(text)}; a class occurs twice")
    if first_class is not None:
        last = math.inf if limit is None else first_class + limit - 1
        if min(row) < first_class or max(row) > last:
            fault(path, line, f"found {shown(text)}; allowed are the classes {first_class} to {last}")
    return row
