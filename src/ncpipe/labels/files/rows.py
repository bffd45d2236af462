"""What the readers share: rows of labels as they are read, the words of their messages, and the distribution."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np
from scipy import sparse

from ncpipe.errors import InputError
from ncpipe.labels.distribution import MOST_CLASSES, LabelDistribution

MOST_ENTRIES = 100_000_000  # samples and labels that a file may have: 2 GB while they are counted

CELLS = {"0": False, "1": True, "0.0": False, "1.0": True}  # the usual spellings, found without parsing a number
_SHOWN = 40  # characters of an offending value that a message repeats


@dataclass
class Rows:
    """Label rows as they are read, 4 bytes per label and 8 per sample, and not without end."""

    path: Path
    indices: array[int] = field(default_factory=lambda: array("i"))
    ends: array[int] = field(default_factory=lambda: array("q", [0]))

    def __len__(self) -> int:
        return len(self.ends) - 1

    def append(self, row: Iterable[int]) -> None:
        """Add a sample with these classes.

        Raises
        ------
        InputError
            If there are more samples and labels than memory is meant for.
        """
        self.indices.extend(row)
        self.ends.append(len(self.indices))
        check_entries(self.path, len(self.indices) + len(self.ends))

    def matrix(self, classes: int) -> sparse.csr_array:
        """The multi-hot matrix, shape (N, classes)."""
        indices, ends = np.frombuffer(self.indices, np.int32), np.frombuffer(self.ends, np.int64)
        return sparse.csr_array((np.ones(len(indices)), indices, ends), shape=(len(self), classes))


def check_entries(path: Path | str, entries: int) -> None:
    """Refuse more samples and labels than `MOST_ENTRIES`."""
    if entries > MOST_ENTRIES:
        raise InputError(f"{path}: found more than {MOST_ENTRIES:,} samples and labels; allowed are fewer")


def check_classes(path: Path, classes: int) -> None:
    """Refuse a number of classes that labels do not have."""
    if not 2 <= classes <= MOST_CLASSES:
        raise InputError(f"{path}: found {classes} classes; allowed are 2 to {MOST_CLASSES:,}")


def to_distribution(path: Path, matrix: sparse.csr_array, names: Sequence[str] | None) -> LabelDistribution:
    """Count the rows of a file; what is wrong with them is said with its name."""
    check_classes(path, matrix.shape[1])
    try:
        return LabelDistribution.from_matrix(matrix, class_names=names)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def fault(path: Path, line: int, text: str) -> NoReturn:
    """Refuse a line."""
    raise InputError(f"{path}: line {line}: {text}")


def shown(value: str) -> str:
    """Quote what was found, shortened, and with what a terminal cannot show escaped."""
    return repr(value if len(value) <= _SHOWN else value[:_SHOWN] + "…")


def reason(error: Exception) -> str:
    """The first line of what a library says."""
    text = str(error).partition("\n")[0] or type(error).__name__
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def number(text: str) -> float | None:
    """A number, or True or False as 1 or 0; None for anything else."""
    try:
        return float(text)
    except ValueError:
        return {"true": 1.0, "false": 0.0}.get(text.strip().lower())


def cell(text: str) -> bool | None:
    """0 or 1, in any spelling of the number, or False or True; None for anything else."""
    value = number(text)
    return bool(value) if value in (0.0, 1.0) else None
