"""``.npy`` and ``.npz``: a 0/1 matrix, dense or as ``scipy.sparse.save_npz`` writes it; nothing is unpickled."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from scipy import sparse

from ncpipe.errors import InputError
from ncpipe.labels.distribution import MOST_CLASSES, LabelDistribution
from ncpipe.labels.files.opening import MOST_BYTES, is_compressed, open_bytes
from ncpipe.labels.files.rows import check_classes, check_entries, reason, shown, to_distribution

_BLOCK_BYTES = 1 << 24
_NAMES = "a list of names as text: np.array(names, dtype=str), never objects"
_SPARSE_FORMATS = ("csr", "csc", "bsr", "coo", "dia")
_SPARSE_PARTS = ("format", "shape", "data", "indices", "indptr", "row", "col", "coords", "offsets")


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool


def _array_header(handle: IO[bytes], where: str, size: int, allowed: str) -> _Header:
    """The header of an .npy file, checked against the `size` of the file, so that nothing huge is allocated."""
    try:
        version = np.lib.format.read_magic(handle)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(handle)
        held = size - handle.tell()
    except InputError:
        raise
    except Exception as error:  # numpy and zipfile raise many kinds on damaged bytes
        raise InputError(f"{where}: damaged, not a numpy array ({reason(error)})") from error
    if dtype.kind not in "biufUS" or dtype.itemsize == 0 or dtype.subdtype is not None:
        raise InputError(f"{where}: found elements of type {dtype}; allowed {allowed}")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > held:
        raise InputError(f"{where}: damaged, shape {shape} of {dtype} is declared but {held} bytes follow")
    return _Header(shape, dtype, fortran)


def _read_exactly(handle: IO[bytes], size: int, where: str) -> bytes:
    try:
        data = handle.read(size)
    except InputError:
        raise
    except Exception as error:  # zipfile and its decompressors raise many kinds on damaged bytes
        raise InputError(f"{where}: damaged ({reason(error)})") from error
    if len(data) < size:
        raise InputError(f"{where}: damaged, it ends too early")
    return data


def _small_array(handle: IO[bytes], where: str, size: int, allowed: str = "are numbers") -> np.ndarray:
    """A whole list of numbers or names, or a single one; blocks and diagonals of a sparse matrix."""
    header = _array_header(handle, where, min(size, MOST_BYTES), allowed)
    if len(header.shape) > 3 or (len(header.shape) > 1 and header.dtype.kind in "US"):
        raise InputError(f"{where}: found {len(header.shape)} dimensions; allowed is a list")
    data = _read_exactly(handle, math.prod(header.shape) * header.dtype.itemsize, where)
    return np.frombuffer(data, header.dtype).reshape(header.shape, order="F" if header.fortran else "C")


def _dense(handle: IO[bytes], where: str, size: int, present: float | None = None) -> sparse.csr_array:
    """A dense matrix of 0 and 1, or of `present` and anything else, read and made sparse block by block."""
    header = _array_header(handle, where, size, "are numbers")
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
    parts, entries = [], 0
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
            allowed = "0 and 1 (the option present says which number is a label)" if present is None else "numbers"
            raise InputError(f"{where}: found {found} at row {row}, column {column} (from 0); allowed are {allowed}")
        parts.append(sparse.csr_array(block == (1 if present is None else present)))
        entries += parts[-1].nnz
        check_entries(where, entries)
    if not parts:
        return sparse.csr_array((rows, columns))
    matrix = sparse.vstack(parts, format="csr")
    return sparse.csr_array(matrix.T if header.fortran else matrix)


def read_npy(path: Path, *, present: float | None = None) -> LabelDistribution:
    """Read a dense matrix of 0 and 1, or of `present` and anything else."""
    size = MOST_BYTES if is_compressed(path) else path.stat().st_size
    with open_bytes(path) as handle:
        return to_distribution(path, _dense(handle, str(path), size, present), None)


def read_npz(path: Path, *, key: str = "Y", present: float | None = None) -> LabelDistribution:
    """Read the matrix under a key, dense, or the one that ``scipy.sparse.save_npz`` wrote; nothing else is read."""
    import zipfile

    with path.open("rb") as raw:
        try:
            archive = zipfile.ZipFile(raw)
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        except Exception as error:  # zipfile raises many kinds on damaged bytes
            raise InputError(f"{path}: damaged, not an .npz file ({reason(error)})") from error

        def use(name: str, read: Callable[[IO[bytes], str, int], Any]) -> Any:
            where = f"{path}: key {name!r}"
            try:
                handle = archive.open(members[name])
            except Exception as error:  # as above
                raise InputError(f"{where}: damaged ({reason(error)})") from error
            with handle:
                return read(handle, where, members[name].file_size)

        if key not in members:
            if {"data", "format", "shape"} <= set(members):
                parts = {name: use(name, _small_array) for name in _SPARSE_PARTS if name in members}
                return to_distribution(path, _saved_sparse(path, parts), None)
            keys = ", ".join(shown(name) for name in list(members)[:10]) or "none"
            raise InputError(f"{path}: no key {key!r}, the label matrix; found are {keys}")
        names = None
        if "label_names" in members:
            values = use("label_names", partial(_small_array, allowed=f"is {_NAMES}"))
            if values.dtype.kind not in "US":
                raise InputError(f"{path}: key 'label_names': found {values.dtype}; allowed is {_NAMES}")
            names = [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in values.tolist()]
        return to_distribution(path, use(key, partial(_dense, present=present)), names)


def _saved_sparse(path: Path, parts: dict[str, np.ndarray]) -> sparse.csr_array:
    """The matrix of ``scipy.sparse.save_npz``: csr, csc, bsr, coo or dia."""
    kind = parts["format"].item() if parts["format"].size == 1 else None
    kind = kind.decode("ascii", "replace") if isinstance(kind, bytes) else kind
    if kind not in _SPARSE_FORMATS:
        raise InputError(f"{path}: key 'format': found {kind!r}; allowed are {', '.join(_SPARSE_FORMATS)}")
    try:
        rows, columns = (int(n) for n in parts["shape"].tolist())
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: key 'shape': damaged; allowed are two numbers, samples x classes") from error
    check_classes(path, columns)
    check_entries(path, rows + parts["data"].size)
    try:
        match kind:
            case "coo":
                places = parts["coords"] if "coords" in parts else (parts["row"], parts["col"])
                matrix = sparse.coo_array((parts["data"], tuple(places)), shape=(rows, columns))
            case "dia":
                matrix = sparse.dia_array((parts["data"], parts["offsets"]), shape=(rows, columns))
            case _:
                build = getattr(sparse, f"{kind}_array")
                matrix = build((parts["data"], parts["indices"], parts["indptr"]), shape=(rows, columns))
                matrix.check_format(full_check=True)
        return sparse.csr_array(matrix, dtype=np.float64)
    except (ValueError, TypeError, IndexError, OverflowError, KeyError) as error:
        raise InputError(f"{path}: damaged, not a {kind} matrix ({reason(error)})") from error
