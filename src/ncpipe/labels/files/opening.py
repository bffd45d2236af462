"""Opening label files, also compressed ones, whose content is bounded: a small file must not fill the memory."""

from __future__ import annotations

import contextlib
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TextIO, cast

from ncpipe.errors import InputError
from ncpipe.labels.files.rows import reason

COMPRESSIONS = (".gz", ".bz2")
MOST_BYTES = 1 << 32  # of what a compressed file unpacks to; it is read as a stream
LONGEST_LINE = 1 << 26  # of a compressed text: a million classes take 2 MB


def split_name(path: Path) -> tuple[str, str]:
    """Name without suffixes, and the suffix that says the format: of ``a.csv.gz``, ``a`` and ``.csv``."""
    inner = path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path
    return inner.stem, inner.suffix.lower()


def is_compressed(path: Path) -> bool:
    """Whether the name says so."""
    return path.suffix.lower() in COMPRESSIONS


@contextlib.contextmanager
def open_bytes(path: Path, *, most: int = MOST_BYTES) -> Iterator[IO[bytes]]:
    """Open a file for reading bytes, unpacked; a compressed one ends in an InputError after `most` bytes."""
    with _unpacked(path) as unpacked:
        yield io.BufferedReader(_Bounded(path, unpacked, most, text=False)) if is_compressed(path) else unpacked


@contextlib.contextmanager
def open_text(
    path: Path, *, errors: str = "strict", newline: str | None = None, most: int = MOST_BYTES
) -> Iterator[TextIO]:
    """Open UTF-8 text, with or without a byte order mark, unpacked and bounded as `open_bytes` does."""
    with _unpacked(path) as unpacked:
        bounded = io.BufferedReader(_Bounded(path, unpacked, most, text=True)) if is_compressed(path) else unpacked
        yield io.TextIOWrapper(bounded, encoding="utf-8-sig", errors=errors, newline=newline)


def _unpacked(path: Path) -> IO[bytes]:
    import bz2
    import gzip

    suffix = path.suffix.lower()
    if suffix == ".gz":
        return cast("IO[bytes]", gzip.open(path, "rb"))
    return bz2.open(path, "rb") if suffix == ".bz2" else path.open("rb")


class _Bounded(io.RawIOBase):
    """What a compressed file unpacks to, up to so many bytes and, of text, with lines of a bounded length."""

    def __init__(self, path: Path, unpacked: IO[bytes], most: int, *, text: bool) -> None:
        self.path, self.unpacked, self.most, self.text = path, unpacked, most, text
        self.seen, self.line = 0, 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.seen

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        try:
            data = self.unpacked.read(len(buffer))
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{self.path}: damaged ({reason(error)})") from error
        self.seen += len(data)
        if self.seen > self.most:
            raise InputError(f"{self.path}: unpacks to more than {self.most:,} bytes; unpack it to read it")
        if self.text:
            end = max(data.rfind(b"\n"), data.rfind(b"\r"))
            self.line = self.line + len(data) if end < 0 else len(data) - end - 1
            if self.line > LONGEST_LINE:
                raise InputError(f"{self.path}: found a line of more than {LONGEST_LINE:,} bytes; not labels")
        buffer[: len(data)] = data
        return len(data)
