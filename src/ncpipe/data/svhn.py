"""Bytes of SVHN's cropped digits ("format 2"), read defensively and without numpy or scipy.

The files are MATLAB's, level 5: a header of 128 bytes, then elements, each a tag of type and size and so many bytes; an
array is an element that holds others (flags, dimensions, name, values), and may be deflated as a whole. Only arrays of
unsigned bytes are read, and of these only the ones asked for. As in `readers`, a declared size is checked before
anything of that size is read, inflating stops at it, and whatever is wrong is an `InputError`.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ncpipe.data.readers import PIECE, Readable, read_at_most
from ncpipe.errors import InputError

FILES = {"train": "train_32x32.mat", "test": "test_32x32.mat"}
SIDE = 32
CHANNELS = 3
ZERO = 10  # how the files write digit 0
MAX_IMAGES = 100_000
MAX_ARRAYS = 100

_HEADER = 128
_VERSION = 0x0100
_ORDERS = {b"IM": "<", b"MI": ">"}
_INT8, _UINT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 2, 5, 6, 14, 15  # types of elements
_COMPLEX = 0x0800
_LONGEST_NAME, _MOST_DIMENSIONS = 63, 32
_IMAGES = -1  # in the shapes below: as many as there are images
_SHAPES = {"X": (SIDE, SIDE, CHANNELS, _IMAGES), "y": (_IMAGES, 1)}


def find_svhn(folder: Path, split: str) -> Path:
    """Path of the file of a split ("train" or "test") in `folder`.

    Raises
    ------
    InputError
        If it is missing.
    """
    path = folder / FILES[split]
    if not path.is_file():
        raise InputError(f"{path}: missing; allowed is a folder that holds {' and '.join(FILES.values())}")
    return path


def read_svhn_labels(path: Path) -> bytes:
    """Read the digits of a file, one byte per image: 1 to 9, and `ZERO` for 0. The images are passed over.

    Raises
    ------
    InputError
        If it is not a MATLAB 5 file with an array ``y`` of 1 to `MAX_IMAGES` such bytes.
    """
    return _labels(path, _read_arrays(path, "y"))


def read_svhn(path: Path) -> tuple[bytes, bytes]:
    """Read the digits of a file as `read_svhn_labels`, and its pixels, in the order (image, channel, column, row).

    Raises
    ------
    InputError
        Also if there is no array ``X`` of 32 x 32 x 3 bytes for each digit.
    """
    arrays = _read_arrays(path, *_SHAPES)
    labels, pixels = _labels(path, arrays), arrays["X"]
    images = len(pixels) // (CHANNELS * SIDE**2)
    if images != len(labels):
        raise InputError(f"{path}: found {images} images in X; allowed are {len(labels)}, as many as labels in y")
    return labels, pixels


def _labels(path: Path, arrays: dict[str, bytes]) -> bytes:
    labels = arrays["y"]
    position = next((i for i, label in enumerate(labels) if not 1 <= label <= ZERO), None)
    if position is not None:
        raise InputError(
            f"{path}: found label {labels[position]} at item {position}; allowed are 1 to 9, and {ZERO} for digit 0"
        )
    return labels


# --- MATLAB 5 ---------------------------------------------------------------------------------------------------


class _Part:
    """The next `size` bytes of a source, and no more."""

    def __init__(self, source: Readable, size: int) -> None:
        self._source, self._left = source, size

    def read(self, size: int) -> bytes:
        piece = self._source.read(min(size, self._left))
        self._left -= len(piece)
        return piece


class _Inflated:
    """What a deflated source inflates to, piece by piece; at its end its checksum has been compared."""

    def __init__(self, source: Readable) -> None:
        self._source, self._inflate, self._waiting = source, zlib.decompressobj(), b""

    def read(self, size: int) -> bytes:
        while not self._inflate.eof and size > 0:
            packed = self._waiting or self._source.read(PIECE)
            piece = self._inflate.decompress(packed, size)
            self._waiting = self._inflate.unconsumed_tail
            if piece:
                return piece
            if not packed and not self._inflate.eof:
                raise EOFError("a compressed array is not whole")
        return b""


@dataclass(frozen=True)
class _Tag:
    """Type and size of an element; `data` where it is so small that it lies in the tag itself."""

    kind: int
    size: int
    data: bytes | None


def _exactly(source: Readable, size: int) -> bytes:
    data = read_at_most(source, size)
    if len(data) < size:
        raise EOFError("an array ends before its declared size")
    return data


def _tag(source: Readable, order: str) -> _Tag:
    content = _exactly(source, 8)
    kind, size = struct.unpack(f"{order}II", content)
    small = kind >> 16
    if small > 4:
        raise ValueError(f"found {small} bytes in the tag of an element; allowed are 0 to 4")
    return _Tag(kind & 0xFFFF, small, content[4 : 4 + small]) if small else _Tag(kind, size, None)


def _values(source: Readable, tag: _Tag) -> bytes:
    """Read an element behind its tag, with what pads it to a multiple of 8 bytes."""
    if tag.data is not None:
        return tag.data
    data = _exactly(source, tag.size)
    _exactly(source, -tag.size % 8)
    return data


def _element(source: Readable, order: str, *, kind: int, most: int, what: str) -> bytes:
    tag = _tag(source, order)
    if tag.kind != kind or tag.size > most:
        raise ValueError(
            f"found {what} of type {tag.kind} in {tag.size} bytes; allowed are type {kind} and at most {most}"
        )
    return _values(source, tag)


def _read_arrays(path: Path, *names: str) -> dict[str, bytes]:
    """Read the arrays named, each of the shape that `_SHAPES` says, in MATLAB's order: the first dimension fastest."""
    arrays: dict[str, bytes] = {}
    try:
        with path.open("rb") as source:
            order = _byte_order(read_at_most(source, _HEADER))
            position, end = _HEADER, os.fstat(source.fileno()).st_size
            for _ in range(MAX_ARRAYS):
                if position == end:
                    break
                position = _read_array(source, position, end, order, names, arrays)
            else:
                raise ValueError(f"found more arrays than the {MAX_ARRAYS} allowed")
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({error}); allowed is a whole MATLAB 5 file") from error
    for name in names:
        if name not in arrays:
            raise InputError(f"{path}: found no array {name}; allowed are SVHN's files of cropped digits (format 2)")
    return arrays


def _byte_order(header: bytes) -> str:
    if header.startswith((b"MATLAB 7.3", b"\x89HDF")):
        raise ValueError("found a MATLAB 7.3 (HDF5) file; allowed is MATLAB 5, as SVHN's format 2 has it")
    order = _ORDERS.get(header[126:128])
    if order is None or struct.unpack(f"{order}H", header[124:126])[0] != _VERSION:
        raise ValueError(f"found the version {header[124:128].hex() or 'nothing'}; allowed is a MATLAB 5 file")
    return order


def _read_array(
    source: BinaryIO, position: int, end: int, order: str, names: tuple[str, ...], arrays: dict[str, bytes]
) -> int:
    """Read the array at `position` into `arrays` if it is one of `names`; return where the next one starts."""
    source.seek(position)
    tag = _tag(source, order)
    start = position + 8
    if tag.kind not in (_MATRIX, _COMPRESSED) or tag.data is not None:
        raise ValueError(f"found an element of type {tag.kind}; allowed are arrays ({_MATRIX}, deflated {_COMPRESSED})")
    if tag.size > end - start:
        raise ValueError(f"found an array of {tag.size} declared bytes; allowed are {end - start}, all that are left")
    array: Readable = _Part(source, tag.size)
    if tag.kind == _COMPRESSED:
        inflated = _Inflated(array)
        inner = _tag(inflated, order)
        if inner.kind != _MATRIX or inner.data is not None:
            raise ValueError(f"found a deflated element of type {inner.kind}; allowed are arrays ({_MATRIX})")
        array = _Part(inflated, inner.size)
    flags = _element(array, order, kind=_UINT32, most=8, what="array flags")
    dimensions = _element(array, order, kind=_INT32, most=4 * _MOST_DIMENSIONS, what="dimensions")
    name = _element(array, order, kind=_INT8, most=_LONGEST_NAME, what="a name").decode("latin-1")
    if name in names:
        if name in arrays:
            raise ValueError(f"found the array {name} twice; allowed is once")
        shape = struct.unpack(f"{order}{len(dimensions) // 4}i", dimensions[: len(dimensions) // 4 * 4])
        size = _checked_size(name, shape)
        values = _tag(array, order)
        is_complex = len(flags) == 8 and bool(struct.unpack(f"{order}I", flags[:4])[0] & _COMPLEX)
        if values.kind != _UINT8 or values.size != size or is_complex:
            kind = "complex values" if is_complex else f"type {values.kind}"
            raise ValueError(
                f"found {values.size} bytes of {kind} in {name}; allowed are {size} of type {_UINT8}, unsigned bytes"
            )
        arrays[name] = _values(array, values)
        if read_at_most(array, 1) or (tag.kind == _COMPRESSED and read_at_most(inflated, 1)):
            raise ValueError(f"found more in array {name} than its values; allowed are {size} bytes")
    return start + tag.size


def _checked_size(name: str, shape: tuple[int, ...]) -> int:
    expected = _SHAPES[name]
    fits = len(shape) == len(expected) and all(
        1 <= found <= MAX_IMAGES if side == _IMAGES else found == side
        for found, side in zip(shape, expected, strict=True)
    )
    if not fits:
        allowed = " x ".join(f"1 to {MAX_IMAGES}" if side == _IMAGES else str(side) for side in expected)
        found = " x ".join(map(str, shape)) or "nothing"
        raise ValueError(f"found {name} of {found}; allowed is {allowed}")
    return math.prod(shape)
