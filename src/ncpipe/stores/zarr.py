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
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.sync import sync

from ncpipe.errors import RangeError, StoreError

FORMAT_VERSION = 1
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

    Examples
    --------
    >>> from pathlib import Path
    >>> from ncpipe.stores.zarr import Array, write_store
    >>> write_store(Path("metrics.zarr"), {"nc1": Array(("epoch",), np.array([0.5, 0.1]), "NC1")}, attributes={})
    >>> Store("metrics.zarr").static()["nc1"].values
    array([0.5, 0.1])
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
