"""Label files: the label distribution of a data set, from whatever format its labels are kept in.

=====================================  ==============================================================================
file                                   what it holds
=====================================  ==============================================================================
``.npz``                               0/1 matrix (samples × classes) under the key ``Y``, class names under
                                       ``label_names`` where they are there, all else ignored; or a sparse matrix as
                                       ``scipy.sparse.save_npz`` writes it
``.npy``                               0/1 matrix
``.csv``, ``.tsv``                     0/1 matrix, or True and False, separated by commas, semicolons or tabs; the
                                       first line is a header of class names if a cell of it is not a number, or if it
                                       counts 0,1,2,… or 1,2,3,…; the option header says otherwise
``.arff``                              MEKA (``@relation 'name: -C 14'``, the first 14 attributes are labels, or the
                                       last with -14) or Mulan (an ``.xml`` beside it lists the labels); dense or sparse
``.svm``, ``.svmlight``, ``.libsvm``,  one sample a line: classes joined by commas, then features, if any, which are
``.txt``                               not read: ``1,3 5:0.5 7:1``; an empty line before the last sample is a sample
                                       without labels; also with the first line ``samples features classes`` of the
                                       extreme classification repository
``.json``                              label sets and counts, or shares: ``{"classes": 3, "label_sets": [[0], [0, 2]],
                                       "counts": [7, 3]}`` and, where wanted, ``class_names`` and ``unlabelled``; or a
                                       theory file of the pipeline, which holds the same under ``distribution``
a folder                               a run (``features.zarr``) or a data set (``images.zarr``) of the pipeline
=====================================  ==============================================================================

All but ``.npz`` also with ``.gz`` or ``.bz2`` behind. Only labels are kept, sparse: memory does not grow with the
number of features, or of classes that a sample lacks, and a compressed file cannot fill it.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ncpipe.errors import InputError, near_match
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.labels.files.arff import read_arff
from ncpipe.labels.files.arrays import read_npy, read_npz
from ncpipe.labels.files.counts import read_counts
from ncpipe.labels.files.delimited import header_of, read_delimited
from ncpipe.labels.files.folder import read_folder
from ncpipe.labels.files.opening import is_compressed, split_name
from ncpipe.labels.files.svmlight import read_svmlight


@dataclass(frozen=True)
class _Reader:
    """What reads a format, and the options that it knows."""

    read: Callable[..., LabelDistribution]
    options: tuple[str, ...] = ()
    compressed: bool = True


_DELIMITED = _Reader(read_delimited, ("header", "present"))
_SVMLIGHT = _Reader(read_svmlight, ("first_class", "classes"))
_READERS = {
    ".npz": _Reader(read_npz, ("key", "present"), compressed=False),
    ".npy": _Reader(read_npy, ("present",)),
    ".csv": _DELIMITED,
    ".tsv": _DELIMITED,
    ".arff": _Reader(read_arff, ("labels",)),
    ".svm": _SVMLIGHT,
    ".svmlight": _SVMLIGHT,
    ".libsvm": _SVMLIGHT,
    ".txt": _SVMLIGHT,
    ".json": _Reader(read_counts),
    "a folder": _Reader(read_folder, ("split",), compressed=False),
}


def read_labels(
    path: Path | str,
    *,
    key: str | None = None,
    header: bool | None = None,
    present: float | None = None,
    labels: int | Path | None = None,
    first_class: int | None = None,
    classes: int | None = None,
    split: str | None = None,
) -> LabelDistribution:
    """Read the label distribution of a file or folder; its suffix decides the format (see the module's table).

    Samples without a label are counted and left out, equal label sets are merged.

    Parameters
    ----------
    path : Path or str
    key : str, optional
        For ``.npz``: the name of the label matrix; ``Y`` unless given.
    header : bool, optional
        For ``.csv`` and ``.tsv``: whether the first line holds class names. Unless given, it does if a cell of it is
        not a number, or if it counts 0,1,2,… or 1,2,3,….
    present : float, optional
        For ``.npz``, ``.npy``, ``.csv`` and ``.tsv``: the entry that says that a sample has the label; every other
        number (absent, difficult, unknown) then says that it has not. Unless given, entries must be 0 or 1.
    labels : int or Path, optional
        For ``.arff``: how many attributes are labels, the first ones or, if negative, the last ones; or a Mulan label
        list (``.xml``). Unless given, the file and what lies beside it must say so.
    first_class : {0, 1}, optional
        For svmlight: the number of the first class. Unless given, 0 if the file has a class 0 or the extreme
        classification header, else 1.
    classes : int, optional
        For svmlight: number of classes; unless given, up to the largest number that occurs.
    split : {"train", "test"}, optional
        For a folder: ``train`` unless given.

    Raises
    ------
    InputError
        If the file is missing or not what its suffix says, an option does not apply to it, an entry is neither 0 nor
        1, or fewer than two samples or two classes are left to tell apart: one line with the file, and the line or
        key where there is one.
    StoreError
        If a folder's store is damaged.

    Examples
    --------
    >>> labels = LabelDistribution.from_counts({(0,): 3, (0, 1): 1}, classes=2)
    >>> write_labels("labels.json", labels)
    >>> read_labels("labels.json").as_counts()
    {(0,): 3.0, (0, 1): 1.0}
    """
    path = Path(path)
    given = {
        "key": key,
        "header": header,
        "present": present,
        "labels": labels,
        "first_class": first_class,
        "classes": classes,
        "split": split,
    }
    options = {name: value for name, value in given.items() if value is not None}
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    reader = _reader(path)
    for name, value in options.items():
        if name not in reader.options:
            takers = ", ".join(kind for kind, other in _READERS.items() if name in other.options)
            raise InputError(f"{name}: found {value} for {path}; allowed for {takers} only")
    try:
        distribution = reader.read(path, **options)
    except FileNotFoundError as error:
        raise InputError(f"{error.filename}: no such file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    if distribution.samples < 2 and not np.any(distribution.counts % 1):  # shares may sum to 1
        raise InputError(f"{path}: found 1 sample with a label; a label distribution needs at least 2")
    occurring = np.flatnonzero(distribution.class_counts())
    if len(occurring) < 2:
        name = distribution.class_names[int(occurring[0])]
        raise InputError(f"{path}: found one class that occurs ({name!r}); allowed are 2 or more")
    return distribution


def _reader(path: Path) -> _Reader:
    if path.is_dir():
        return _READERS["a folder"]
    suffix = split_name(path)[1]
    reader = _READERS.get(suffix)
    if reader is None or (is_compressed(path) and not reader.compressed):
        found = suffix + path.suffix if is_compressed(path) else suffix
        raise InputError(
            f"{path}: found suffix {found!r}{near_match(found, list(_READERS)) or ';'} allowed are "
            f"{', '.join(_READERS)}; all but .npz also with .gz or .bz2 behind"
        )
    return reader


def class_names_line(path: Path, *, header: bool | None = None) -> tuple[str, ...] | None:
    """What `read_labels` takes for a header, of ``.csv`` and ``.tsv``; None where there is none."""
    if path.is_dir() or split_name(path)[1] not in (".csv", ".tsv"):
        return None
    return header_of(path, header=header)


def write_labels(path: Path | str, distribution: LabelDistribution) -> None:
    """Write a distribution so that `read_labels` reads it back: label sets and counts (``.json``) or rows (``.npz``).

    Raises
    ------
    InputError
        If the suffix is another one, or rows are asked for and a count is not whole.

    Examples
    --------
    >>> write_labels("labels.npz", LabelDistribution.from_counts({(0,): 3, (0, 1): 1}, classes=2))
    >>> read_labels("labels.npz").as_counts()
    {(0,): 3.0, (0, 1): 1.0}
    """
    path = Path(path)
    from ncpipe.stores.files import write_atomically, write_json

    if path.suffix == ".json":
        write_json(path, describe(distribution))
    elif path.suffix == ".npz":
        if np.any(distribution.counts % 1):
            raise InputError(f"{path}: counts that are not whole cannot be written as rows; allowed is .json")
        repeats = np.repeat(np.arange(len(distribution.counts)), distribution.counts.astype(np.int64))
        rows = distribution.indicator.astype(np.uint8)[repeats].toarray()
        empty = np.zeros((distribution.unlabelled, distribution.classes), np.uint8)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, Y=np.vstack([rows, empty]), label_names=np.array(distribution.class_names))
        write_atomically(path, buffer.getvalue())
    else:
        raise InputError(f"{path}: found suffix {path.suffix!r}; allowed are .json, .npz")


def describe(distribution: LabelDistribution) -> dict[str, Any]:
    """Label sets and counts as builtins, the content of a ``.json`` label file."""
    return {**distribution.to_json(), "counts": [whole(count) for count in distribution.counts.tolist()]}


def whole(number: float) -> int | float:
    """Return the number as an int where it is one, as readers of JSON expect of counts."""
    return int(number) if number == int(number) else number
