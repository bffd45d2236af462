"""Bytes of the official MNIST (IDX) and CIFAR-10 (binary) files, read defensively and without numpy; SVHN: `svhn`.

A reader refuses before it allocates: declared sizes are checked against what the format can hold, decompression
stops at that bound, archives are read in memory member by member and never extracted. Whatever is wrong with a file
is an `InputError` that names the file, what was found and what is allowed.
"""

from __future__ import annotations

import gzip
import struct
import tarfile
import zlib
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Protocol

from ncpipe.errors import InputError

MAX_IMAGES = 200_000
CIFAR_FOLDER = "cifar-10-batches-bin"
CIFAR_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
CIFAR_TEST = "test_batch.bin"
CIFAR_FILES = (*CIFAR_TRAIN, CIFAR_TEST)
CIFAR_SIDE = 32
CIFAR_RECORD = 1 + 3 * CIFAR_SIDE**2
CIFAR_MAX_RECORDS = 10_000
CIFAR_MAX_MEMBERS = 100
CIFAR_MAX_UNPACKED = 1 << 28
PIECE = 1 << 20


class Readable(Protocol):
    """What can be read in pieces."""

    def read(self, size: int, /) -> bytes:
        """Read at most `size` bytes, none at the end."""


def read_at_most(source: Readable, limit: int) -> bytes:
    """Read up to `limit` bytes in pieces, so that memory follows what is there, not what was declared."""
    pieces = []
    while limit > 0 and (piece := source.read(min(limit, PIECE))):
        pieces.append(piece)
        limit -= len(piece)
    return b"".join(pieces)


def _open(path: Path) -> BinaryIO | gzip.GzipFile:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def find_idx(folder: Path, name: str) -> Path:
    """Path of an IDX file in `folder`: `name`, or `name`.gz.

    Raises
    ------
    InputError
        If the folder or the file is missing.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: found {'a file' if folder.exists() else 'nothing'}; allowed is a folder")
    plain = folder / name
    packed = plain.with_name(f"{name}.gz")
    for path in (plain, packed):
        if path.is_file():
            return path
    raise InputError(f"{plain}: missing; allowed are {plain.name} and {packed.name} in {plain.parent}")


def _read_idx(path: Path, *, sides: tuple[int, ...]) -> tuple[int, bytes]:
    """Read an IDX file of unsigned bytes: number of items, each of shape `sides`, and their bytes."""
    magic = bytes((0, 0, 8, 1 + len(sides)))
    header_size = 4 * (2 + len(sides))
    try:
        with _open(path) as source:
            header = read_at_most(source, header_size)
            if header[:4] != magic:
                raise InputError(f"{path}: found magic number {header[:4].hex()}; allowed is {magic.hex()}")
            if len(header) < header_size:
                raise InputError(f"{path}: found a header of {len(header)} bytes; allowed are {header_size}")
            items, *found = struct.unpack(f">{1 + len(sides)}I", header[4:])
            if not 1 <= items <= MAX_IMAGES:
                raise InputError(f"{path}: found {items} declared items; allowed are 1 to {MAX_IMAGES}")
            if tuple(found) != sides:
                raise InputError(f"{path}: found items of {_by(found)} pixels; allowed are {_by(sides)}")
            size = items
            for side in sides:
                size *= side
            payload = read_at_most(source, size + 1)  # one byte more shows trailing bytes and checks the gzip tail
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({error}); allowed is a whole IDX file") from error
    if len(payload) != size:
        found_size = "more" if len(payload) > size else f"{len(payload)}"
        raise InputError(f"{path}: found {found_size} bytes of data; allowed are {size} ({items} items declared)")
    return items, payload


def _by(sides: list[int] | tuple[int, ...]) -> str:
    return " x ".join(map(str, sides))


def _check_labels(where: str | Path, labels: bytes, classes: int) -> None:
    if max(labels) >= classes:
        position = next(i for i, label in enumerate(labels) if label >= classes)
        raise InputError(f"{where}: found label {labels[position]} at item {position}; allowed are 0 to {classes - 1}")


def read_idx_labels(path: Path, *, classes: int) -> bytes:
    """Read an IDX label file, one byte per item.

    Raises
    ------
    InputError
        If it is not a whole IDX file of 1 to `MAX_IMAGES` labels below `classes`.
    """
    _, labels = _read_idx(path, sides=())
    _check_labels(path, labels, classes)
    return labels


def read_idx_images(path: Path, *, side: int) -> tuple[int, bytes]:
    """Read an IDX image file: number of images, and their pixels, row-major.

    Raises
    ------
    InputError
        If it is not a whole IDX file of 1 to `MAX_IMAGES` images of `side` x `side`.
    """
    return _read_idx(path, sides=(side, side))


def find_cifar10(location: Path) -> Path:
    """Path of the archive, or of the folder that holds the six files.

    Parameters
    ----------
    location : Path
        The archive (``.tar.gz``), the folder ``cifar-10-batches-bin`` (under any name), or a folder that holds either.

    Raises
    ------
    InputError
        If none of these is there.
    """
    if not location.exists():
        raise InputError(f"{location}: missing; allowed are a folder and a .tar.gz archive")
    if location.is_file() or any((location / name).exists() for name in CIFAR_FILES):
        return location
    if (location / CIFAR_FOLDER).is_dir():
        return location / CIFAR_FOLDER
    pattern = "cifar-10-binary*.tar.gz"
    archives = sorted(location.glob(pattern))
    if len(archives) != 1:
        raise InputError(
            f"{location}: found neither {CIFAR_TRAIN[0]} nor {CIFAR_FOLDER}, and {len(archives)} archives {pattern}; "
            "allowed is exactly one of these"
        )
    return archives[0]


def read_cifar10(path: Path, *, classes: int) -> dict[str, bytes]:
    """Read the six files of CIFAR-10's binary version; ``{file name: bytes}``, records of 1 + 3072 bytes.

    Parameters
    ----------
    path : Path
        As found by `find_cifar10`.
    classes : int
        Labels must be below it.

    Raises
    ------
    InputError
        If a file is missing, unreadable, no whole number of records, too long, or holds an unknown label.
    """
    batches = _read_folder(path) if path.is_dir() else _read_archive(path)
    for name, batch in batches.items():
        where = f"{path}, {name}"
        if not batch or len(batch) % CIFAR_RECORD or len(batch) > CIFAR_MAX_RECORDS * CIFAR_RECORD:
            raise InputError(
                f"{where}: found {len(batch)} bytes; allowed are {CIFAR_RECORD} for each of 1 to "
                f"{CIFAR_MAX_RECORDS} records"
            )
        _check_labels(where, batch[::CIFAR_RECORD], classes)
    return batches


def _read_folder(folder: Path) -> dict[str, bytes]:
    batches = {}
    for name in CIFAR_FILES:
        path = folder / name
        if not path.is_file():
            raise InputError(f"{path}: missing; allowed is a folder that holds all of {', '.join(CIFAR_FILES)}")
        try:
            with path.open("rb") as source:
                batches[name] = read_at_most(source, CIFAR_MAX_RECORDS * CIFAR_RECORD + 1)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error}); allowed is a readable file") from error
    return batches


class _Bounded:
    """What a compressed archive unpacks to, up to a limit; reading on past its end is an error.

    tarfile reads past the end for as long as a header's declared size tells it to, which can be for ever.
    """

    def __init__(self, source: Readable, path: Path) -> None:
        self._source = source
        self._path = path
        self._left = CIFAR_MAX_UNPACKED
        self.ended = False

    def read(self, size: int) -> bytes:
        if self.ended:
            raise EOFError("it ends before a member does")
        piece = self._source.read(min(size, PIECE))
        self.ended = not piece
        self._left -= len(piece)
        if self._left < 0:
            raise InputError(
                f"{self._path}: found an archive that unpacks to more than {CIFAR_MAX_UNPACKED} bytes; allowed are "
                "archives up to this size"
            )
        return piece


def _read_archive(path: Path) -> dict[str, bytes]:
    batches: dict[str, bytes] = {}
    try:
        with gzip.open(path, "rb") as unpacked:
            stream = _Bounded(unpacked, path)
            with closing(tarfile.open(fileobj=stream, mode="r|")) as archive:  # type: ignore[call-overload]
                for position, member in enumerate(archive):
                    if position == CIFAR_MAX_MEMBERS:
                        raise InputError(f"{path}: found more members than the {CIFAR_MAX_MEMBERS} allowed")
                    parent, _, name = member.name.removeprefix("./").rpartition("/")
                    if parent == CIFAR_FOLDER and name in CIFAR_FILES:
                        batches[name] = _read_member(path, archive, member, known=batches)
            while not stream.ended:  # only at the end gzip's checksum is compared
                stream.read(PIECE)
    except InputError:
        raise
    except Exception as error:  # on hostile headers tarfile raises far more than its TarError
        reason = str(error) or type(error).__name__
        raise InputError(f"{path}: cannot be read ({reason}); allowed is a whole .tar.gz archive") from error
    if missing := [name for name in CIFAR_FILES if name not in batches]:
        raise InputError(f"{path}: found no {CIFAR_FOLDER}/{missing[0]} in it; allowed are archives with all six files")
    return {name: batches[name] for name in CIFAR_FILES}


def _read_member(path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo, *, known: dict[str, bytes]) -> bytes:
    where = f"{path}, {member.name}"
    limit = CIFAR_MAX_RECORDS * CIFAR_RECORD
    if member.name.rpartition("/")[2] in known:
        raise InputError(f"{where}: found it twice; allowed is once")
    source = None if member.issparse() or not member.isreg() else archive.extractfile(member)
    if source is None:
        raise InputError(f"{where}: found a link or special member; allowed is a regular file")
    if not 0 <= member.size <= limit:
        raise InputError(f"{where}: found {member.size} declared bytes; allowed are at most {limit}")
    return read_at_most(source, member.size)
