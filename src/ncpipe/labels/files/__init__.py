"""Label files: the label distribution of a data set, from whatever format its labels are kept in.

=====================================  ==============================================================================
file                                   what it holds
=====================================  ==============================================================================
``.npz``                               0/1 matrix (samples × classes) under the key ``Y``, class names under
                                       ``label_names`` where they are there, all else ignored; or a sparse matrix as
                                       ``scipy.sparse.save_npz`` writes it (csr)
``.npy``                               0/1 matrix
``.csv``                               0/1 matrix, separated by commas, semicolons or tabs; the first line is a header
                                       of class names if a cell of it is not a number (or if it counts 0,1,2,… or
                                       1,2,3,…)
``.arff``                              MEKA (``@relation 'name: -C 14'``, the first 14 attributes are labels, or the
                                       last with -14) or Mulan (an ``.xml`` beside it lists the labels); dense or sparse
``.svm``, ``.svmlight``, ``.libsvm``,  one sample a line: classes joined by commas, then features, if any, which are
``.txt``                               not read: ``1,3 5:0.5 7:1``; also with the first line ``samples features
                                       classes`` of the extreme classification repository
``.json``                              label sets and counts: ``{"classes": 3, "label_sets": [[0], [0, 2]], "counts":
                                       [7, 3]}`` and, where wanted, ``class_names`` and ``unlabelled``; or a theory
                                       file of the pipeline, which holds the same under ``distribution``
a folder                               a run (``features.zarr``) or a data set (``images.zarr``) of the pipeline
=====================================  ==============================================================================

Only labels are kept, sparse: memory does not grow with the number of features, or of classes that a sample lacks.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
from scipy import sparse

from ncpipe.errors import InputError
from ncpipe.labels.distribution import MOST_CLASSES, LabelDistribution

_BLOCK_BYTES = 1 << 24
_CELLS = {"0": False, "1": True, "0.0": False, "1.0": True}  # the usual spellings, found without parsing a number
_DELIMITERS = (",", ";", "\t")
_CSV_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_LONGEST_NUMBER = 9  # digits of a class number
_SHOWN = 40  # characters of an offending value that a message repeats


def read_labels(
    path: Path | str,
    *,
    key: str | None = None,
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
    present : float, optional
        For ``.npz`` and ``.npy``: the entry that says that a sample has the label; every other number (absent,
        difficult, unknown) then says that it has not. Unless given, entries must be 0 or 1.
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
    """
    path = Path(path)
    given = {
        "key": key,
        "present": present,
        "labels": labels,
        "first_class": first_class,
        "classes": classes,
        "split": split,
    }
    options = {name: value for name, value in given.items() if value is not None}
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    kind = "a folder" if path.is_dir() else path.suffix.lower()
    if kind not in _READERS:
        raise InputError(f"{path}: found suffix {path.suffix!r}; allowed are {', '.join(_READERS)}")
    read, known = _READERS[kind]
    for name, value in options.items():
        if name not in known:
            takers = ", ".join(k for k, (_, names) in _READERS.items() if name in names)
            raise InputError(f"{name}: found {value} for {path}; allowed for {takers} only")
    try:
        distribution = read(path, **options)
    except FileNotFoundError as error:
        raise InputError(f"{error.filename}: no such file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    if distribution.samples < 2:
        raise InputError(f"{path}: found 1 sample with a label; a label distribution needs at least 2")
    occurring = np.flatnonzero(distribution.class_counts())
    if len(occurring) < 2:
        name = distribution.class_names[int(occurring[0])]
        raise InputError(f"{path}: found one class that occurs ({name!r}); allowed are 2 or more")
    return distribution


def write_labels(path: Path, distribution: LabelDistribution) -> None:
    """Write a distribution so that `read_labels` reads it back: label sets and counts (``.json``) or rows (``.npz``).

    Raises
    ------
    InputError
        If the suffix is another one, or rows are asked for and a count is not whole.
    """
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


# --- rows -------------------------------------------------------------------------------------------------------


@dataclass
class _Rows:
    """Label rows as they are read, 4 bytes per label."""

    indices: array[int] = field(default_factory=lambda: array("i"))
    ends: array[int] = field(default_factory=lambda: array("q", [0]))

    def append(self, row: Iterable[int]) -> None:
        self.indices.extend(row)
        self.ends.append(len(self.indices))

    def matrix(self, classes: int) -> sparse.csr_array:
        """The multi-hot matrix, shape (N, classes)."""
        indices, ends = np.frombuffer(self.indices, np.int32), np.frombuffer(self.ends, np.int64)
        return sparse.csr_array((np.ones(len(indices)), indices, ends), shape=(len(ends) - 1, classes))


def _distribution(path: Path, matrix: sparse.csr_array, names: Sequence[str] | None) -> LabelDistribution:
    _check_classes(path, matrix.shape[1])
    try:
        return LabelDistribution.from_matrix(matrix, class_names=names)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _check_classes(path: Path, classes: int) -> None:
    if not 2 <= classes <= MOST_CLASSES:
        raise InputError(f"{path}: found {classes} classes; allowed are 2 to {MOST_CLASSES:,}")


def _fault(path: Path, line: int, text: str) -> NoReturn:
    raise InputError(f"{path}: line {line}: {text}")


def _shown(value: str) -> str:
    """Quote what was found, shortened, and with what a terminal cannot show escaped."""
    return repr(value if len(value) <= _SHOWN else value[:_SHOWN] + "…")


def _reason(error: Exception) -> str:
    text = str(error).partition("\n")[0] or type(error).__name__
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _cell(text: str) -> bool | None:
    """0 or 1, in any spelling of the number; None for anything else."""
    try:
        value = float(text)
    except ValueError:
        return None
    return bool(value) if value in (0.0, 1.0) else None


# --- .npy, .npz -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool


def _array_header(handle: IO[bytes], where: str, size: int) -> _Header:
    """The header of an .npy file, checked against the `size` of the file, so that nothing huge is allocated."""
    try:
        version = np.lib.format.read_magic(handle)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(handle)
        held = size - handle.tell()
    except Exception as error:  # numpy and zipfile raise many kinds on damaged bytes
        raise InputError(f"{where}: damaged, not a numpy array ({_reason(error)})") from error
    if dtype.kind not in "biufUS" or dtype.itemsize == 0 or dtype.subdtype is not None:
        raise InputError(f"{where}: found elements of type {dtype}; allowed are numbers")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > held:
        raise InputError(f"{where}: damaged, shape {shape} of {dtype} is declared but {held} bytes follow")
    return _Header(shape, dtype, fortran)


def _read_exactly(handle: IO[bytes], size: int, where: str) -> bytes:
    try:
        data = handle.read(size)
    except Exception as error:  # zipfile and its decompressors raise many kinds on damaged bytes
        raise InputError(f"{where}: damaged ({_reason(error)})") from error
    if len(data) < size:
        raise InputError(f"{where}: damaged, it ends too early")
    return data


def _small_array(handle: IO[bytes], where: str, size: int) -> np.ndarray:
    """A whole list of numbers or names, or a single one."""
    header = _array_header(handle, where, size)
    if len(header.shape) > 1:
        raise InputError(f"{where}: found {len(header.shape)} dimensions; allowed is a list")
    return np.frombuffer(_read_exactly(handle, math.prod(header.shape) * header.dtype.itemsize, where), header.dtype)


def _dense(handle: IO[bytes], where: str, size: int, present: float | None = None) -> sparse.csr_array:
    """A dense matrix of 0 and 1, or of `present` and anything else, read and made sparse block by block."""
    header = _array_header(handle, where, size)
    if header.dtype.kind not in "biuf":
        raise InputError(f"{where}: found elements of type {header.dtype}; allowed are numbers")
    if len(header.shape) != 2:
        raise InputError(f"{where}: found {len(header.shape)} dimensions; allowed are 2 (samples x classes)")
    rows, columns = header.shape
    if not 2 <= columns <= MOST_CLASSES:
        raise InputError(f"{where}: found {columns} classes (columns); allowed are 2 to {MOST_CLASSES:,}")
    # Lines are rows or, in Fortran order, columns: whatever lies together in the file.
    lines, length = (columns, rows) if header.fortran else (rows, columns)
    at_once = max(1, _BLOCK_BYTES // max(1, length * header.dtype.itemsize))
    parts = []
    for start in range(0, lines, at_once):
        count = min(at_once, lines - start)
        block = np.frombuffer(_read_exactly(handle, count * length * header.dtype.itemsize, where), header.dtype)
        if header.dtype.kind == "b":
            block = block.view(np.uint8)
        block = block.reshape(count, length)
        bad = ~((block == 0) | (block == 1)) if present is None else np.isnan(block)
        if bad.any():
            line, place = np.argwhere(bad)[0].tolist()
            row, column = (place, start + line) if header.fortran else (start + line, place)
            found = block[line, place].item()
            allowed = "0 and 1" if present is None else "numbers"
            raise InputError(f"{where}: found {found} at row {row}, column {column} (from 0); allowed are {allowed}")
        parts.append(sparse.csr_array(block == (1 if present is None else present)))
    if not parts:
        return sparse.csr_array((rows, columns))
    matrix = sparse.vstack(parts, format="csr")
    return sparse.csr_array(matrix.T if header.fortran else matrix)


def _read_npy(path: Path, *, present: float | None = None) -> LabelDistribution:
    with path.open("rb") as handle:
        return _distribution(path, _dense(handle, str(path), path.stat().st_size, present), None)


def _read_npz(path: Path, *, key: str = "Y", present: float | None = None) -> LabelDistribution:
    import zipfile

    with path.open("rb") as raw:
        try:
            archive = zipfile.ZipFile(raw)
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        except Exception as error:  # zipfile raises many kinds on damaged bytes
            raise InputError(f"{path}: damaged, not an .npz file ({_reason(error)})") from error

        def use(name: str, read: Callable[[IO[bytes], str, int], Any]) -> Any:
            where = f"{path}: key {name!r}"
            try:
                handle = archive.open(members[name])
            except Exception as error:  # as above
                raise InputError(f"{where}: damaged ({_reason(error)})") from error
            with handle:
                return read(handle, where, members[name].file_size)

        if key not in members:
            if {"data", "indices", "indptr", "format", "shape"} <= set(members):
                parts = {name: use(name, _small_array) for name in ("format", "shape", "data", "indices", "indptr")}
                return _distribution(path, _compressed(path, parts), None)
            found = ", ".join(_shown(name) for name in list(members)[:10]) or "none"
            raise InputError(f"{path}: no key {key!r}, the label matrix; found are {found}")
        names = None
        if "label_names" in members:
            values = use("label_names", _small_array)
            if values.dtype.kind not in "US":
                raise InputError(f"{path}: key 'label_names': found {values.dtype}; allowed is a list of names")
            names = [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in values.tolist()]
        return _distribution(path, use(key, partial(_dense, present=present)), names)


def _compressed(path: Path, parts: dict[str, np.ndarray]) -> sparse.csr_array:
    """The matrix of ``scipy.sparse.save_npz``."""
    kind = parts["format"].item() if parts["format"].size == 1 else None
    if kind not in (b"csr", "csr"):
        raise InputError(f"{path}: key 'format': found {kind!r}; allowed is csr (`matrix.tocsr()` before saving)")
    try:
        shape = tuple(int(n) for n in parts["shape"].tolist())
        _check_classes(path, shape[1])
        matrix = sparse.csr_array((parts["data"], parts["indices"], parts["indptr"]), shape=shape)
        matrix.check_format(full_check=True)
        return sparse.csr_array(matrix, dtype=np.float64)
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise InputError(f"{path}: damaged, not a csr matrix ({_reason(error)})") from error


# --- .csv -------------------------------------------------------------------------------------------------------


def _read_csv(path: Path) -> LabelDistribution:
    rows, names, width, first = _Rows(), None, 0, 0
    with path.open(encoding="utf-8-sig", newline="") as handle:
        top = handle.readline()
        bare = _CSV_QUOTED.sub("", top)
        separator = max(_DELIMITERS, key=bare.count)
        reader = csv.reader(chain([top], handle), delimiter=separator, strict=True)
        try:
            for row in reader:
                if not row:
                    continue
                if not width:
                    width, first = len(row), reader.line_num
                    if _is_header(row):
                        names = [cell.strip() for cell in row]
                        if "" in names:
                            empty = names.index("") + 1
                            _fault(path, first, f"column {empty} has no name; if it numbers the samples, leave it out")
                        continue
                if len(row) != width:
                    _fault(
                        path,
                        reader.line_num,
                        f"found {len(row)} values; allowed are {width}, as many as in line {first}",
                    )
                ones = []
                for k, cell in enumerate(row):
                    if cell == "0":
                        continue
                    value = _CELLS[cell] if cell in _CELLS else _cell(cell)
                    if value is None:
                        column = names[k] if names else str(k + 1)
                        _fault(
                            path, reader.line_num, f"column {_shown(column)}: found {_shown(cell)}; allowed are 0 and 1"
                        )
                    if value:
                        ones.append(k)
                rows.append(ones)
        except csv.Error as error:
            _fault(path, reader.line_num, f"not CSV ({_reason(error)})")
    return _distribution(path, rows.matrix(width), names)


def _is_header(row: list[str]) -> bool:
    """Whether the first row names classes; names that merely count (0,1,2,… or 1,2,3,…) cannot be labels either."""
    try:
        numbers = [float(cell) for cell in row]
    except ValueError:
        return True
    return len(row) > 2 and any(numbers == list(range(start, start + len(row))) for start in (0, 1))


# --- .arff ------------------------------------------------------------------------------------------------------

_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")
_NAME = re.compile(r"""(?:(?P<quoted>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(?P<plain>[^\s'"{]+))(?=[\s{]|$)""")
_VALUE = re.compile(r"""\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^,'"]*)\s*(?:,|$)""")
_ESCAPE = re.compile(r"\\(.)")
_MEKA = re.compile(r"[:\s]-[Cc]\s+(-?\d{1,9})(?!\d)")
_TYPES = ("numeric", "real", "integer", "string", "date")


@dataclass(frozen=True)
class _Attribute:
    name: str
    values: list[str] | None  # None: not nominal
    line: int


@dataclass(frozen=True)
class _ArffHeader:
    relation: str
    attributes: list[_Attribute]


def _read_arff(path: Path, *, labels: int | Path | None = None) -> LabelDistribution:
    # Bytes that are not UTF-8 may stand in values that nobody reads.
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as handle:
        lines = enumerate(handle, start=1)
        header = _arff_header(path, lines)
        chosen = _arff_labels(path, header, labels)
        attributes = [header.attributes[i] for i in chosen]
        for attribute in attributes:
            if attribute.values is not None and not all(_cell(value) is not None for value in attribute.values):
                found = ",".join(attribute.values)
                _fault(
                    path,
                    attribute.line,
                    f"label {_shown(attribute.name)}: found values {_shown('{' + found + '}')}; allowed are 0 and 1",
                )
        _check_classes(path, len(chosen))
        rows = _arff_rows(path, lines, header, chosen)
    return _distribution(path, rows.matrix(len(chosen)), [attribute.name for attribute in attributes])


def _unquote(text: str) -> str:
    if text[:1] in ("'", '"'):
        text = _ESCAPE.sub(r"\1", text[1:-1])
    # Names of other encodings, most often Latin-1, must still be printable.
    return text if text.isprintable() else text.encode("utf-8", "surrogateescape").decode("latin-1")


def _arff_header(path: Path, lines: Iterator[tuple[int, str]]) -> _ArffHeader:
    relation, attributes = "", []
    for number, line in lines:
        text = line.strip()
        if not text or text.startswith("%"):
            continue
        word, *rest = text.split(None, 1)
        match word.lower():
            case "@relation":
                relation = "".join(rest)
            case "@attribute":
                attributes.append(_attribute(path, number, "".join(rest)))
            case "@data":
                if not attributes:
                    _fault(path, number, "found @data before any @attribute")
                return _ArffHeader(relation, attributes)
            case _:
                _fault(path, number, f"found {_shown(text)}; allowed before @data are @relation and @attribute")
    raise InputError(f"{path}: not ARFF, there is no @data line")


def _attribute(path: Path, line: int, text: str) -> _Attribute:
    match = _NAME.match(text)
    if match is None:
        _fault(path, line, f"found the attribute name {_shown(text)}; one with quotes or spaces is quoted, \\' inside")
    name, kind = _unquote(match[0]), text[match.end() :].strip()
    if kind.startswith("{"):
        kind = _strip_comment(kind)
        if not kind.endswith("}"):
            _fault(path, line, f"attribute {_shown(name)}: its list of values is not closed by }}")
        return _Attribute(name, _nominal(path, line, name, kind[1:-1]), line)
    if kind.lower().split(maxsplit=1)[:1] not in [[known] for known in _TYPES]:
        allowed = ", ".join(_TYPES)
        _fault(path, line, f"attribute {_shown(name)}: found type {_shown(kind)}; allowed are {allowed} or {{...}}")
    return _Attribute(name, None, line)


def _strip_comment(text: str) -> str:
    """Cut off a comment, which starts at a % outside quotes."""
    if "%" not in text:
        return text
    masked = _QUOTED.sub(lambda quoted: "_" * len(quoted[0]), text)
    return text[: masked.index("%")].rstrip() if "%" in masked else text


def _nominal(path: Path, line: int, name: str, text: str) -> list[str]:
    values, position = [], 0
    while position < len(text):
        match = _VALUE.match(text, position)
        if match is None:
            _fault(path, line, f"attribute {_shown(name)}: a quote in its list of values is not closed")
        values.append(_unquote(match[1].strip()))
        position = match.end()
    return values


def _arff_labels(path: Path, header: _ArffHeader, labels: int | Path | None) -> list[int]:
    """Positions of the label attributes."""
    total = len(header.attributes)
    if labels is None:
        declared = _MEKA.search(header.relation)
        if declared:
            return _ends(path, int(declared[1]), total, f"@relation says -C {declared[1]}")
        beside = [path.with_name(f"{stem}.xml") for stem in dict.fromkeys((path.stem, _base_name(path.stem)))]
        labels = next((candidate for candidate in beside if candidate.is_file()), None)
        if labels is None:
            raise InputError(
                f"{path}: does not say which attributes are labels: found no '-C N' in @relation (MEKA) and no "
                f"{' or '.join(candidate.name for candidate in beside)} beside it (Mulan); the option labels can say it"
            )
    if isinstance(labels, int):
        return _ends(path, labels, total, f"labels: found {labels}")
    positions = {attribute.name: i for i, attribute in enumerate(header.attributes)}
    names = _mulan_labels(labels)
    for name in names:
        if name not in positions:
            raise InputError(f"{labels}: label {_shown(name)}: {path} has no such attribute")
    return [positions[name] for name in names]


def _base_name(stem: str) -> str:
    """``yeast-train`` and ``yeast-test`` share the label list of ``yeast``."""
    return re.sub(r"[-_](train|test)$", "", stem)


def _ends(path: Path, count: int, total: int, found: str) -> list[int]:
    if not 1 <= abs(count) <= total:
        raise InputError(f"{path}: {found}; allowed are 1 to {total}, or -1 to -{total}, of {total} attributes")
    return list(range(count)) if count > 0 else list(range(total + count, total))


def _mulan_labels(path: Path) -> list[str]:
    from xml.etree import ElementTree

    try:
        tree = ElementTree.parse(path)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"{path}: not XML ({_reason(error)})") from error
    names = [element.get("name") for element in tree.iter() if element.tag.rpartition("}")[2] == "label"]
    if not names or None in names:
        raise InputError(f'{path}: not a Mulan label list: allowed are <label name="..."> elements, one for each label')
    if len(set(names)) < len(names):
        raise InputError(f"{path}: a label is listed twice")
    return [str(name) for name in names]


def _arff_rows(path: Path, lines: Iterator[tuple[int, str]], header: _ArffHeader, chosen: list[int]) -> _Rows:
    """The label part of the data section; values of other attributes are counted, never read."""
    rows, total = _Rows(), len(header.attributes)
    columns: dict[str, int | None] = dict.fromkeys(map(str, range(total)))
    columns |= {str(attribute): k for k, attribute in enumerate(chosen)}
    # What a sparse row leaves out is 0 or, of a nominal attribute, its first value.
    omitted = [k for k, i in enumerate(chosen) if _cell((header.attributes[i].values or ["0"])[0])]

    def value(text: str, column: int, line: int) -> bool:
        text = text.strip()
        found = _CELLS[text] if text in _CELLS else _cell(text)
        if found is None:
            name = header.attributes[chosen[column]].name
            _fault(path, line, f"label {_shown(name)}: found {_shown(text)}; allowed are 0 and 1")
        return found

    for number, line in lines:
        text = line.strip()
        if not text or text.startswith("%"):
            continue
        if "'" in text or '"' in text:
            # Quoted values can hold separators; the only ones of interest are 0 and 1.
            text = _QUOTED.sub(lambda quoted: quoted[0][1:-1] if quoted[0][1:-1] in _CELLS else "_", text)
            if "'" in text or '"' in text:
                _fault(path, number, "a quote is not closed")
        text = _strip_comment(text)
        if text.startswith("{"):
            if not text.endswith("}"):
                _fault(path, number, "a sparse row is not closed by }")
            row: dict[int, bool] = {}
            for pair in text[1:-1].split(",") if text[1:-1].strip() else ():
                parts = pair.split(None, 1)
                if len(parts) < 2 or parts[0] not in columns:
                    _fault(
                        path,
                        number,
                        f"found {_shown(pair.strip())}; allowed is an attribute 0 to {total - 1} and a value",
                    )
                column = columns[parts[0]]
                if column is not None:
                    if column in row:
                        _fault(path, number, f"attribute {parts[0]} occurs twice")
                    row[column] = value(parts[1], column, number)
            rows.append([k for k, there in row.items() if there] + [k for k in omitted if k not in row])
        else:
            cells = text.split(",") if "," in text else text.split()
            if len(cells) != total:
                _fault(path, number, f"found {len(cells)} values; allowed are {total}, one for each attribute")
            rows.append([k for k, i in enumerate(chosen) if cells[i] != "0" and value(cells[i], k, number)])
    return rows


# --- svmlight ---------------------------------------------------------------------------------------------------


def _read_svmlight(path: Path, *, first_class: int | None = None, classes: int | None = None) -> LabelDistribution:
    if first_class not in (None, 0, 1):
        raise InputError(f"first_class: found {first_class}; allowed are 0 and 1")
    if classes is not None:
        _check_classes(path, classes)
    rows, samples, limit, begun = _Rows(), None, classes, False
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as handle:
        for number, line in enumerate(handle, start=1):
            parts = line.partition("#")[0].split(None, 1)
            if not parts:
                continue
            if not begun:
                begun = True
                declared = line.split()
                if len(declared) == 3 and all(_number(part) is not None for part in declared):
                    samples, _, limit = (int(part) for part in declared)
                    first_class = 0 if first_class is None else first_class
                    _check_classes(path, limit)
                    continue
            if ":" in parts[0]:
                rows.append(())
                continue
            if len(parts) > 1 and ":" not in parts[1].split(None, 1)[0]:
                found = _shown(parts[1].split(None, 1)[0])
                _fault(path, number, f"found {found} after the labels; allowed are features (index:value)")
            rows.append(_svmlight_row(path, number, parts[0], first_class, limit))
    if samples is not None and samples != len(rows.ends) - 1:
        raise InputError(f"{path}: line 1: {samples} samples are declared, {len(rows.ends) - 1} follow")
    indices = np.frombuffer(rows.indices, np.int32)
    if not len(indices):
        raise InputError(f"{path}: no labelled sample")
    if first_class is None:
        first_class = int(indices.min() > 0)
    limit = int(indices.max()) + 1 - first_class if limit is None else limit
    if indices.max() >= limit + first_class:
        raise InputError(f"{path}: found class {indices.max()}; allowed are {first_class} to {limit + first_class - 1}")
    _check_classes(path, limit)
    rows.indices = array("i", (indices - first_class).tobytes())
    return _distribution(path, rows.matrix(limit), [str(k + first_class) for k in range(limit)])


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _LONGEST_NUMBER else None


def _svmlight_row(path: Path, line: int, text: str, first_class: int | None, limit: int | None) -> list[int]:
    row = []
    for part in text.split(","):
        number = _number(part)
        if number is None:
            _fault(path, line, f"found the class {_shown(part)}; allowed are whole numbers >= 0")
        row.append(number)
    if len(set(row)) < len(row):
        _fault(path, line, f"found {_shown(text)}; a class occurs twice")
    if first_class is not None:
        last = math.inf if limit is None else first_class + limit - 1
        if min(row) < first_class or max(row) > last:
            _fault(path, line, f"found {_shown(text)}; allowed are the classes {first_class} to {last}")
    return row


# --- .json, folders ---------------------------------------------------------------------------------------------


def _read_json(path: Path) -> LabelDistribution:
    try:
        payload = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({_reason(error)})") from error
    if isinstance(payload, dict) and "label_sets" not in payload:
        payload = payload.get("distribution", payload)
    if not isinstance(payload, dict) or "label_sets" not in payload:
        raise InputError(f"{path}: no key 'label_sets'; allowed is a list of lists of classes, counted from 0")
    label_sets = payload["label_sets"]
    if isinstance(label_sets, list):
        present = [k for label_set in label_sets if isinstance(label_set, list) for k in label_set]
        highest = max((k for k in present if isinstance(k, int)), default=0)
        payload = {"counts": [1] * len(label_sets), "classes": highest + 1} | payload
    try:
        return LabelDistribution.from_json(payload)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _read_folder(path: Path, *, split: str = "train") -> LabelDistribution:
    from ncpipe.stores.zarr import Store

    if split not in ("train", "test"):
        raise InputError(f"split: found {split!r}; allowed are train, test")
    candidates = [path, path / "features.zarr", path / "images.zarr"]
    folder = next((c for c in candidates if (c / "zarr.json").is_file()), None)
    if folder is None:
        raise InputError(f"{path}: found neither features.zarr (a run) nor images.zarr (a data set) in this folder")
    name = f"label_set_{split}"
    store = Store(folder)
    loaded = store.static(name, "label_sets")
    index, label_sets = loaded[name].values, loaded["label_sets"].values
    counts = np.bincount(index, minlength=len(label_sets))
    return LabelDistribution.from_matrix(label_sets, counts=counts, class_names=store.attrs.get("class_names"))


_SVMLIGHT = (_read_svmlight, ("first_class", "classes"))
_READERS: dict[str, tuple[Callable[..., LabelDistribution], tuple[str, ...]]] = {
    ".npz": (_read_npz, ("key", "present")),
    ".npy": (_read_npy, ("present",)),
    ".csv": (_read_csv, ()),
    ".arff": (_read_arff, ("labels",)),
    ".svm": _SVMLIGHT,
    ".svmlight": _SVMLIGHT,
    ".libsvm": _SVMLIGHT,
    ".txt": _SVMLIGHT,
    ".json": (_read_json, ()),
    "a folder": (_read_folder, ("split",)),
}
