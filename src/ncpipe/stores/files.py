"""Small files that are whole or not there, and the digests beside them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ncpipe.errors import InputError, StoreError

DIGEST_SUFFIX = ".sha256"


@contextlib.contextmanager
def space_errors(folder: Path) -> Iterator[None]:
    """Turn "no space left" into one line that names the folder; whatever was finished before is intact."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StoreError(
            f"{folder}: no space left on the device; free some and run again, finished epochs are kept"
        ) from error


def check_folder(path: Path) -> None:
    """Refuse what is no folder.

    Raises
    ------
    InputError
        If nothing is there, or a file.
    """
    if not path.is_dir():
        raise InputError(f"{path}: found {'a file' if path.exists() else 'nothing'}; allowed is a folder")


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a small file so that it is there whole or not at all, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    data = content.encode() if isinstance(content, str) else content
    try:
        with temporary.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, payload: Mapping[str, Any]) -> None:
    """Write canonical JSON (sorted keys, NaN refused) atomically: equal payloads give equal bytes."""
    write_atomically(path, _canonical(payload))


def _canonical(payload: Mapping[str, Any]) -> str:
    return json.dumps(payload, sort_keys=True, indent=1, allow_nan=False) + "\n"


def digest_file(path: Path) -> Path:
    """Where the SHA-256 of a result lies: beside it, ``metrics.csv.sha256``."""
    return path.with_name(path.name + DIGEST_SUFFIX)


def _digest_line(path: Path, digest: str) -> str:
    return f"{digest}  {path.name}\n"


def write_result(path: Path, content: bytes | str | Mapping[str, Any]) -> None:
    """Write what a stage makes (a theory file, table, figure, page), then its digest beside it, each atomically.

    Mappings become JSON as `write_json` writes it. Whoever is killed between the two leaves a file that reads as
    damaged: its job is not finished, and made again.
    """
    if isinstance(content, Mapping):
        content = _canonical(content)
    data = content.encode() if isinstance(content, str) else content
    write_atomically(path, data)
    write_atomically(digest_file(path), _digest_line(path, hashlib.sha256(data).hexdigest()))


def check_result(path: Path) -> None:
    """Check a file against the digest beside it, if there is one: files from elsewhere have none.

    Raises
    ------
    StoreError
        If it is missing although its digest is there, or damaged, or the digest is.
    """
    try:
        recorded = digest_file(path).read_bytes()
    except FileNotFoundError:
        return
    try:
        with path.open("rb") as handle:
            found = _digest_line(path, hashlib.file_digest(handle, "sha256").hexdigest())
    except FileNotFoundError as error:
        raise StoreError(f"{path}: missing, its digest is still there") from error
    if recorded != found.encode():
        raise StoreError(f"{path}: damaged (it does not match {digest_file(path).name} beside it)")


def write_manifest(path: Path, payload: Mapping[str, Any]) -> None:
    """Write a manifest: JSON that carries the hash of everything else in it, so that damage does not pass."""
    write_json(path, {**payload, "manifest_hash": hash_json(payload)})


def write_sealed(path: Path, content: bytes) -> None:
    """Write a binary file behind the SHA-256 of itself, atomically."""
    write_atomically(path, hashlib.sha256(content).digest() + content)


def read_sealed(path: Path, what: str) -> bytes:
    """Read what `write_sealed` wrote; nothing of a damaged file is handed out. `what` names it in the message.

    Raises
    ------
    FileNotFoundError
        If it is missing.
    StoreError
        If it does not match its own digest.
    """
    sealed = path.read_bytes()
    size = hashlib.sha256().digest_size
    if hashlib.sha256(sealed[size:]).digest() != sealed[:size]:
        raise StoreError(f"{path}: {what} is truncated or damaged (it does not match its own digest)")
    return sealed[size:]


def read_json(path: Path | str) -> dict[str, Any]:
    """Read a JSON object; one with a digest beside it is checked.

    Raises
    ------
    StoreError
        If it is missing, damaged or not a JSON object.
    """
    check_result(Path(path))
    try:
        payload = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StoreError(f"{path}: missing") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: damaged, not JSON ({error})") from error
    if not isinstance(payload, dict):
        raise StoreError(f"{path}: damaged, not a JSON object")
    return payload


def hash_json(payload: Any) -> str:
    """SHA-256 (hex) of a JSON-able value in canonical form."""
    return hashlib.sha256(json.dumps(payload, sort_keys=True, allow_nan=False).encode()).hexdigest()


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """One entry per key on which two nested mappings differ."""
    lines = []
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key}: was {a!r}, now {b!r}")
    return lines
