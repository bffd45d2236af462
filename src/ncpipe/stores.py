"""How every Zarr store is written, opened and verified, and how the small files beside it are written.

A store is a Zarr (format 3) group. Arrays whose first dimension is ``epoch`` are preallocated, hold one chunk per
epoch and are written a whole epoch at a time; all other arrays are *static*, written once at creation. Every array
carries named dimensions, ``long_name`` and ``units``, and a CRC32C per chunk. SHA-256 digests of the values (per
array, and per array and epoch) live in the store; `Store.digest` condenses them to the one hash that manifests
carry. The group's attributes (names of classes, settings) carry a hash of themselves, which is not part of that one:
stores written before they did are read as they are, and their manifests and the runs made from them stay valid.
Readers see finished epochs only. Theory files, tables, figures and the page have their SHA-256 beside them, in a file
that ``sha256sum --check`` reads too.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.sync import sync

from ncpipe.errors import InputError, LockedError, RangeError, StoreError

FORMAT_VERSION = 1
DIGEST_SUFFIX = ".sha256"
_STATIC_CHUNK_BYTES = 1 << 24
_INTERNAL = ("digest", "finished")
_ATTRIBUTES_DIGEST = "attributes_digest"


@dataclass(frozen=True)
class Array:
    """A static array: its dimensions, values and what they mean."""

    dims: tuple[str, ...]
    values: np.ndarray
    long_name: str
    units: str = "1"


@dataclass(frozen=True)
class EpochArray:
    """An array with one chunk per epoch: dimensions and sizes behind ``epoch``, dtype and what it means."""

    dims: tuple[str, ...]
    sizes: tuple[int, ...]
    dtype: str
    long_name: str
    units: str = "1"


def digest_values(values: np.ndarray) -> bytes:
    """SHA-256 of dtype, shape and C-ordered little-endian bytes, 32 bytes."""
    contiguous = np.ascontiguousarray(values)
    contiguous = contiguous.astype(contiguous.dtype.newbyteorder("<"), copy=False)
    digest = hashlib.sha256(f"{contiguous.dtype.str}{contiguous.shape}".encode() + b"\0")
    digest.update(contiguous.reshape(-1).view(np.uint8).data)  # the buffer itself: no copy of gigabytes
    return digest.digest()


def _digest_attributes(attributes: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of a group's attributes as JSON keeps them."""
    kept = json.loads(json.dumps(attributes))  # tuples become lists, keys text
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _create(
    group: zarr.Group,
    name: str,
    dims: tuple[str, ...],
    shape: tuple[int, ...],
    dtype: Any,
    *,
    rows: int | None = None,
    **meta: Any,
) -> Any:
    """Create an array in chunks of `rows` rows, or of as many as `_STATIC_CHUNK_BYTES` hold."""
    kind = np.dtype(dtype)
    row_bytes = max(1, int(np.prod(shape[1:], dtype=np.int64)) * kind.itemsize)
    first = rows or (max(1, min(shape[0], _STATIC_CHUNK_BYTES // row_bytes)) if shape else 1)
    compressor = [BloscCodec(cname="lz4", shuffle="shuffle", clevel=3)] if kind.kind in "iub" else []
    return group.create_array(
        name,
        shape=shape,
        chunks=(first, *(max(1, n) for n in shape[1:])) if shape else (),
        dtype=kind,
        dimension_names=dims,
        fill_value=np.nan if kind.kind == "f" else 0,
        compressors=[*compressor, Crc32cCodec()],
        attributes=meta,
    )


def _create_group(path: Path, static: Mapping[str, Array], attributes: Mapping[str, Any]) -> zarr.Group:
    group = zarr.create_group(path, zarr_format=3)
    digests = {}
    for name, array in static.items():
        values = np.asarray(array.values)
        target = _create(
            group, name, array.dims, values.shape, values.dtype, long_name=array.long_name, units=array.units
        )
        target[...] = values
        digests[name] = digest_values(values).hex()
    content = {**attributes, "format_version": FORMAT_VERSION, "static_digests": digests}
    group.attrs.update({**content, _ATTRIBUTES_DIGEST: _digest_attributes(content)})
    return group


def write_store(path: Path, arrays: Mapping[str, Array], *, attributes: Mapping[str, Any]) -> None:
    """Write a store that has no epochs to come, whole: it appears at `path` complete, or not at all."""
    partial, old = (path.with_name(path.name + suffix) for suffix in (".partial", ".old"))
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    _create_group(partial, arrays, attributes)
    if path.exists():
        path.rename(old)
    partial.rename(path)
    shutil.rmtree(old, ignore_errors=True)


class EpochWriter:
    """Writes a store epoch by epoch; the one writer that a store has at a time (hold `exclusive` around it).

    The order of an epoch is: chunks, digests, the vector of finished epochs. Whoever resumes calls `restore` with
    the digests that its own state recorded, so that an interrupted write is simply made again.
    """

    def __init__(self, path: Path) -> None:
        try:
            group = zarr.open_group(path, mode="r+")
            self._arrays: dict[str, Any] = dict(group.arrays())
            self._names: list[str] = list(group.attrs["epoch_arrays"])  # type: ignore[arg-type]
        except Exception as error:  # zarr raises many kinds on damaged metadata
            raise StoreError(f"{path}: missing or damaged, it cannot be written to ({_reason(error)})") from error
        lacking = [name for name in (*self._names, *_INTERNAL) if name not in self._arrays]
        if lacking:
            raise StoreError(f"{path}: array {lacking[0]!r}: missing")
        self._path = path

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        epochs: Sequence[int],
        arrays: Mapping[str, EpochArray],
        static: Mapping[str, Array],
        attributes: Mapping[str, Any],
    ) -> EpochWriter:
        """Create the store with every array preallocated; an existing one at `path` is replaced."""
        shutil.rmtree(path, ignore_errors=True)
        static = {**static, "epoch": Array(("epoch",), np.asarray(epochs, dtype=np.int64), "epoch", "epoch")}
        group = _create_group(path, static, {**attributes, "epoch_arrays": list(arrays)})
        count = len(epochs)
        for name, array in arrays.items():
            _create(
                group, name, ("epoch", *array.dims), (count, *array.sizes), array.dtype,
                rows=1, long_name=array.long_name, units=array.units,
            )  # fmt: skip
        _create(group, "digest", ("epoch", "epoch_array", "byte"), (count, len(arrays), 32), "uint8", rows=1)
        finished = group.create_array(
            "finished", shape=(count,), chunks=(count,), dtype="uint8", dimension_names=("epoch",), fill_value=0,
            compressors=[Crc32cCodec()],
        )  # fmt: skip
        finished[...] = np.zeros(count, np.uint8)
        return cls(path)

    @cached_property
    def digests(self) -> np.ndarray:
        """Digests of all epochs, shape (epoch, array, 32), uint8; zeros where an epoch is not finished."""
        return np.asarray(self._arrays["digest"][...])

    @cached_property
    def finished(self) -> np.ndarray:
        """Which epochs are finished, shape (epoch,), bool."""
        return np.asarray(self._arrays["finished"][...]).astype(bool)

    def write(self, index: int, values: Mapping[str, np.ndarray]) -> None:
        """Write all arrays of the epoch at position `index`.

        Raises
        ------
        RangeError
            If a finite value does not fit in its array's dtype; nothing of the epoch has been written then.
        """
        if set(values) != set(self._names):
            raise ValueError(f"expected the arrays {self._names}, got {sorted(values)}")
        whole = {name: self._cast(index, name, np.asarray(values[name])) for name in self._names}
        for name, value in whole.items():
            expected = self._arrays[name].shape[1:]
            if value.shape != expected:
                raise ValueError(f"array {name!r}: expected shape {expected}, got {value.shape}")
        sync(self._write_chunks(index, whole))
        digests = np.array([np.frombuffer(digest_values(value), np.uint8) for value in whole.values()])
        self._arrays["digest"][index] = digests
        self.digests[index] = digests
        finished = self.finished.copy()
        finished[index] = True
        self._arrays["finished"][...] = finished.astype(np.uint8)
        self.finished = finished

    def _cast(self, index: int, name: str, values: np.ndarray) -> np.ndarray:
        """Values in the dtype of their array, rounded where it is narrower; a finite value never becomes infinite."""
        dtype = self._arrays[name].dtype
        with np.errstate(over="ignore"):
            cast = values.astype(dtype, copy=False)
        if dtype.kind == "f" and dtype.itemsize < values.dtype.itemsize:
            lost = np.isinf(cast) & np.isfinite(values)
            if lost.any():
                epoch, largest = int(self._arrays["epoch"][index]), float(np.abs(values[lost]).max())
                raise RangeError(
                    f"{self._path}: epoch {epoch}, array {name}: {int(lost.sum())} values, up to {largest:.6g}, do not "
                    f"fit in {dtype} (at most {float(np.finfo(dtype).max):g}); nothing of this epoch was written"
                )
        return cast

    async def _write_chunks(self, index: int, values: Mapping[str, np.ndarray]) -> None:
        # All in one visit to Zarr's own thread: going there for each array took twice as long, more on a busy machine.
        await asyncio.gather(*(self._arrays[name].async_array.setitem(index, v) for name, v in values.items()))

    def restore(self, digests: np.ndarray, finished: np.ndarray) -> None:
        """Put back what a resume state knows to be finished; later epochs become unfinished, halves of chunks go."""
        for leftover in self._path.rglob("*.partial"):  # as Zarr names what it moves into place when it is whole
            leftover.unlink()
        # In this order a reader never sees an epoch as finished whose digest is already gone.
        self._arrays["finished"][...] = np.asarray(finished, np.uint8)
        self._arrays["digest"][...] = digests
        self.finished, self.digests = np.array(finished, bool), np.array(digests, np.uint8)


class Store:
    """A store opened for reading. Everything it hands out has been checked against its digest.

    Parameters
    ----------
    path : Path
        The Zarr group.

    Raises
    ------
    StoreError
        If it is missing, not a store, of another format version, or its attributes are damaged.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not (self.path / "zarr.json").is_file():
            raise StoreError(f"{self.path}: no store here (zarr.json is missing)")
        try:
            # Without a cache: what is read is handed out once, neither kept in memory nor shared between callers.
            self._dataset = xr.open_dataset(
                self.path, engine="zarr", consolidated=False, cache=False, mask_and_scale=False
            )
        except Exception as error:
            raise StoreError(f"{self.path}: cannot be opened as a Zarr store ({_reason(error)})") from error
        self.attrs: dict[str, Any] = dict(self._dataset.attrs)
        version = self.attrs.get("format_version")
        if version != FORMAT_VERSION:
            raise StoreError(f"{self.path}: format version {version!r}; this ncpipe reads version {FORMAT_VERSION}")
        expected = self.attrs.pop(_ATTRIBUTES_DIGEST, None)
        if expected is not None and expected != _digest_attributes(self.attrs):
            raise StoreError(f"{self.path}: attributes: damaged (they do not match their digest)")
        self._epoch_arrays: list[str] = list(self.attrs.get("epoch_arrays", []))
        self._static_digests: dict[str, str] = self.attrs.get("static_digests", {})
        for name in ("format_version", "epoch_arrays", "static_digests"):
            self.attrs.pop(name, None)
        self._positions: dict[int, int] = {}
        if self._epoch_arrays:
            finished = np.flatnonzero(self._read("finished"))
            epochs = self.static("epoch")["epoch"].values
            self._positions = {int(epochs[i]): int(i) for i in finished}
            self._digests = self._read("digest")

    @property
    def epochs(self) -> list[int]:
        """The finished epochs, ascending."""
        return list(self._positions)

    @property
    def planned_epochs(self) -> list[int]:
        """All epochs that the store is laid out for, finished or not."""
        return self._read("epoch").tolist() if self._epoch_arrays else []

    def _read(self, name: str, index: int | None = None) -> np.ndarray:
        where = "" if index is None else f", epoch {int(self._dataset['epoch'].values[index])}"
        if name not in self._dataset.variables:
            raise StoreError(f"{self.path}: array {name!r}{where}: missing")
        variable = self._dataset.variables[name]
        try:
            return np.asarray(variable.values if index is None else variable[index].values)
        except Exception as error:
            raise StoreError(f"{self.path}: array {name!r}{where}: damaged ({_reason(error)})") from error

    def _damaged(self, name: str, where: str = "") -> StoreError:
        return StoreError(
            f"{self.path}: array {name!r}{where}: missing or damaged (its values do not match the stored digest)"
        )

    def static(self, *names: str) -> xr.Dataset:
        """Load the static arrays (all, or the ones named), checked."""
        variables = {}
        for name in names or [n for n in self._static_digests if n != "epoch"]:
            values = self._read(name)
            if digest_values(values).hex() != self._static_digests.get(name):
                raise self._damaged(name)
            variables[name] = xr.Variable(self._dataset.variables[name].dims, values, self._dataset[name].attrs)
        return xr.Dataset(variables, attrs=self.attrs)

    def epoch(self, epoch: int, *names: str) -> xr.Dataset:
        """Load one finished epoch (all its arrays, or the ones named), checked; ``epoch`` is a scalar coordinate.

        Raises
        ------
        StoreError
            If the epoch is not finished, or an array is missing or damaged: the message names array and epoch.
        """
        if epoch not in self._positions:
            raise StoreError(f"{self.path}: epoch {epoch} is not finished; finished are {self.epochs}")
        index = self._positions[epoch]
        variables = {}
        for name in names or self._epoch_arrays:
            values = self._read(name, index)
            if digest_values(values) != self._digests[index, self._epoch_arrays.index(name)].tobytes():
                raise self._damaged(name, f", epoch {epoch}")
            variables[name] = xr.Variable(self._dataset.variables[name].dims[1:], values, self._dataset[name].attrs)
        return xr.Dataset(variables, coords={"epoch": epoch}, attrs=self.attrs)

    def load(self, *names: str) -> xr.Dataset:
        """Load the arrays named (or all), over all finished epochs, checked, as one dataset."""
        wanted = list(names) or [*(n for n in self._static_digests if n != "epoch"), *self._epoch_arrays]
        static = [n for n in wanted if n in self._static_digests]
        by_epoch = [n for n in wanted if n not in self._static_digests]
        parts = [self.static(*static)] if static else []
        if by_epoch:
            slices = [self.epoch(e, *by_epoch) for e in self.epochs]
            if not slices:
                raise StoreError(f"{self.path}: no epoch is finished yet")
            parts.append(xr.concat(slices, dim="epoch", combine_attrs="override"))
        return xr.merge(parts, combine_attrs="override", compat="no_conflicts", join="outer")

    def verify(self) -> list[str]:
        """Check every array of every finished epoch; return one line per fault (none: all is well)."""
        faults = []
        for name in self._static_digests:
            try:
                self.static(name)
            except StoreError as error:
                faults.append(str(error))
        for epoch in self.epochs:
            for name in self._epoch_arrays:
                try:
                    self.epoch(epoch, name)
                except StoreError as error:
                    faults.append(str(error))
        return faults

    def digest(self) -> str:
        """One SHA-256 (hex) over the digests of all static arrays and all finished epochs, from the stored digests."""
        total = hashlib.sha256(json.dumps(self._static_digests, sort_keys=True).encode())
        for epoch, index in self._positions.items():
            total.update(f"{epoch}".encode() + self._digests[index].tobytes())
        return total.hexdigest()


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
        payload = json.loads(Path(path).read_text())
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


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the one writer's lock of `folder` (``writer.lock`` in it, with the owner's host, process and job).

    Raises
    ------
    LockedError
        If another process holds it; the message carries that owner's record.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "writer.lock"
    with path.open("a+") as handle:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise StoreError(f"{path}: cannot be locked ({error}); allowed is a file system with locks") from error
            handle.seek(0)
            owner = handle.read().strip() or "no record"
            raise LockedError(f"{folder}: another writer is at work here: {owner}") from error
        handle.seek(0)
        handle.truncate()
        job = os.environ.get("SLURM_JOB_ID")
        handle.write(f"host {socket.gethostname()}, process {os.getpid()}{f', SLURM job {job}' if job else ''}\n")
        handle.flush()
        yield


def at_work(folder: Path) -> bool:
    """Whether a writer holds the lock of `folder`; nothing is written, so that anybody may ask who may read it."""
    try:
        handle = (folder / "writer.lock").open()
    except (FileNotFoundError, NotADirectoryError):
        return False
    with handle:
        try:
            fcntl.lockf(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            return True
    return False
