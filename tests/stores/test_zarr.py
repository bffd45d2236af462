"""Stores: what was written is what is read, and whatever is missing or damaged is an error that says where."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from ncpipe.errors import LockedError, StoreError
from ncpipe.stores import zarr as stores
from ncpipe.stores.files import (
    check_result,
    digest_file,
    hash_json,
    read_json,
    space_errors,
    write_atomically,
    write_json,
    write_result,
)
from ncpipe.stores.locks import exclusive
from ncpipe.stores.zarr import Array, EpochArray, EpochWriter, Store, digest_values, write_store

EPOCHS = [0, 3, 7]
LABELS = np.arange(6, dtype=np.int32)


def epoch_values(epoch: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(epoch)
    return {"features": rng.standard_normal((6, 4)).astype(np.float32), "objective": np.array(rng.random())}


@pytest.fixture
def writer(tmp_path: Path) -> EpochWriter:
    """A store of three epochs at ``run.zarr``; none is finished yet."""
    arrays = {
        "features": EpochArray(("sample", "feature"), (6, 4), "float32", "features", "activation"),
        "objective": EpochArray((), (), "float64", "terminal objective"),
    }
    static = {"label_set": Array(("sample",), LABELS, "label set of each sample")}
    return EpochWriter.create(
        tmp_path / "run.zarr", epochs=EPOCHS, arrays=arrays, static=static, attributes={"network": "mlp", "seed": 3}
    )


@pytest.fixture
def path(writer: EpochWriter, tmp_path: Path) -> Path:
    """A store with the epochs 0 and 3 finished, 7 to come."""
    for index in (0, 1):
        writer.write(index, epoch_values(EPOCHS[index]))
    return tmp_path / "run.zarr"


def chunk(path: Path, array: str, *index: int) -> Path:
    return path.joinpath(array, "c", *map(str, index))


def flip_bit(file: Path, position: int = -9) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(content)


# --- reading back ---------------------------------------------------------------------------------------------------


def test_epochs_read_back_bit_for_bit_with_names_and_units(path: Path) -> None:
    store = Store(path)
    assert store.attrs == {"network": "mlp", "seed": 3}
    for epoch in (0, 3):
        read = store.epoch(epoch)
        for name, values in epoch_values(epoch).items():
            assert read[name].values.tobytes() == values.tobytes()
        assert int(read["epoch"]) == epoch
    assert read["features"].dims == ("sample", "feature")
    assert read["features"].attrs == {"long_name": "features", "units": "activation"}
    assert read.attrs["seed"] == 3
    np.testing.assert_array_equal(store.static("label_set")["label_set"], LABELS)


def test_only_finished_epochs_are_visible(writer: EpochWriter, tmp_path: Path) -> None:
    assert Store(tmp_path / "run.zarr").epochs == []
    with pytest.raises(StoreError, match="no epoch is finished yet"):
        Store(tmp_path / "run.zarr").load()
    writer.write(1, epoch_values(3))
    store = Store(tmp_path / "run.zarr")
    assert (store.epochs, store.planned_epochs) == ([3], EPOCHS)
    assert store.load("features")["features"].shape == (1, 6, 4)
    with pytest.raises(StoreError, match=r"epoch 7 is not finished; finished are \[3\]"):
        store.epoch(7)


@pytest.mark.parametrize("allowed", range(4), ids=["one chunk", "other chunk", "digest", "finished"])
def test_an_epoch_whose_writing_fails_is_not_finished(
    writer: EpochWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    """Whatever write of an epoch is the last, readers see the epochs before it, and verify finds no fault."""
    writer.write(0, epoch_values(0))
    real, left = os.replace, allowed

    def failing(source: object, target: object) -> None:
        """Zarr moves every chunk into place."""
        nonlocal left
        if left == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        left -= 1
        real(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="Input/output error"):
        writer.write(1, epoch_values(3))
    store = Store(tmp_path / "run.zarr")
    assert store.epochs == [0]
    assert store.verify() == []


def test_load_concatenates_finished_epochs(path: Path) -> None:
    loaded = Store(path).load()
    assert dict(loaded.sizes) == {"epoch": 2, "sample": 6, "feature": 4}
    np.testing.assert_array_equal(loaded["epoch"], [0, 3])
    np.testing.assert_array_equal(loaded["features"], [epoch_values(e)["features"] for e in (0, 3)])


def test_one_chunk_per_epoch_and_array(path: Path) -> None:
    """Readers fetch whole epochs; the epoch coordinate itself is one chunk."""
    for name in ("features", "objective"):
        assert sorted(p.name for p in (path / name / "c").iterdir()) == ["0", "1"]
    assert len(list((path / "epoch" / "c").iterdir())) == 1


def test_writer_refuses_missing_unknown_and_misshapen_arrays(writer: EpochWriter) -> None:
    values = epoch_values(0)
    with pytest.raises(ValueError, match="expected the arrays"):
        writer.write(0, {"features": values["features"]})
    with pytest.raises(ValueError, match="expected the arrays"):
        writer.write(0, {**values, "surplus": values["objective"]})
    # A row would broadcast into the array, and then differ from its own digest.
    with pytest.raises(ValueError, match=r"'features': expected shape \(6, 4\), got \(4,\)"):
        writer.write(0, {**values, "features": values["features"][0]})
    assert not writer.finished.any()


def test_create_replaces_an_older_store(path: Path) -> None:
    EpochWriter.create(
        path, epochs=[0], arrays={"x": EpochArray((), (), "float64", "x")}, static={}, attributes={}
    ).write(0, {"x": np.array(1.0)})
    store = Store(path)
    assert (store.epochs, set(store.load().data_vars)) == ([0], {"x"})


# --- resuming -------------------------------------------------------------------------------------------------------


def test_restore_makes_later_epochs_unfinished_and_rewriting_gives_the_same_store(path: Path) -> None:
    digest = Store(path).digest()
    state = EpochWriter(path)
    digests, finished = state.digests, state.finished
    state.write(2, epoch_values(7))
    whole = Store(path).digest()

    again = EpochWriter(path)
    again.restore(digests, finished)
    assert Store(path).epochs == [0, 3]
    assert Store(path).digest() == digest
    again.write(2, epoch_values(7))
    assert Store(path).digest() == whole
    assert Store(path).verify() == []


def test_a_live_reader_never_meets_an_epoch_without_its_digest_while_a_run_is_restored(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = EpochWriter(path)
    digests, finished = writer.digests, writer.finished
    writer.write(2, epoch_values(7))
    real, seen = zarr.Array.__setitem__, []

    def watching(array: zarr.Array, key: object, value: object) -> None:
        real(array, key, value)
        seen.append(Store(path).verify())

    monkeypatch.setattr(zarr.Array, "__setitem__", watching)
    EpochWriter(path).restore(digests, finished)
    assert len(seen) == 2
    assert not any(seen)


@pytest.mark.filterwarnings("ignore:Object at")  # zarr's, in addition to our error
@pytest.mark.parametrize("part", ["", "digest", "finished", "features"])
def test_reopening_what_is_missing_for_writing_is_a_store_error(path: Path, part: str) -> None:
    (path / part / "zarr.json").unlink()
    with pytest.raises(StoreError, match=f"run.zarr: .*{part}.*missing"):
        EpochWriter(path)


# --- damage ---------------------------------------------------------------------------------------------------------


def test_missing_chunk_names_array_and_epoch(path: Path) -> None:
    chunk(path, "features", 1, 0, 0).unlink()
    store = Store(path)
    store.epoch(0)
    store.epoch(3, "objective")
    with pytest.raises(StoreError, match=r"run\.zarr: array 'features', epoch 3: missing or damaged"):
        store.epoch(3)
    with pytest.raises(StoreError, match="'features', epoch 3"):
        store.load("features")
    assert [line.split(": ")[1] for line in store.verify()] == ["array 'features', epoch 3"]


def test_missing_scalar_and_static_chunks_are_found_too(path: Path) -> None:
    chunk(path, "objective", 0).unlink()
    chunk(path, "label_set", 0).unlink()
    faults = Store(path).verify()
    assert len(faults) == 2
    assert "array 'label_set': missing or damaged" in faults[0]
    assert "array 'objective', epoch 0: missing or damaged" in faults[1]


@pytest.mark.parametrize("position", [0, 40, -2])
def test_flipped_bit_names_array_and_epoch(path: Path, position: int) -> None:
    flip_bit(chunk(path, "features", 0, 0, 0), position)
    with pytest.raises(StoreError, match=r"run\.zarr: array 'features', epoch 0: damaged \(.*\)"):
        Store(path).epoch(0)
    assert len(Store(path).verify()) == 1


def test_truncated_chunk_names_array_and_epoch(path: Path) -> None:
    file = chunk(path, "features", 0, 0, 0)
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(StoreError, match=r"array 'features', epoch 0: damaged"):
        Store(path).epoch(0)


def test_values_changed_with_a_valid_checksum_are_found(path: Path) -> None:
    """CRC32C guards against accidents; a value rewritten by other software passes it, not the digest."""
    group = zarr.open_group(path, mode="r+")
    group["features"][1, 2, 3] = 0.5
    with pytest.raises(StoreError, match="'features', epoch 3: missing or damaged"):
        Store(path).epoch(3)


def test_changed_digest_names_array_and_epoch(path: Path) -> None:
    group = zarr.open_group(path, mode="r+")
    group["digest"][0, 1, 5] ^= 1
    store = Store(path)
    with pytest.raises(StoreError, match="array 'objective', epoch 0: missing or damaged"):
        store.epoch(0)
    store.epoch(3)


def test_lost_digest_of_an_epoch_is_found(path: Path) -> None:
    chunk(path, "digest", 1, 0, 0).unlink()
    assert len(Store(path).verify()) == 2  # both arrays of epoch 3
    assert "epoch 3" in Store(path).verify()[0]


@pytest.mark.parametrize("array", ["digest", "finished", "epoch"])
def test_damaged_bookkeeping_refuses_the_store(path: Path, array: str) -> None:
    flip_bit(next(p for p in (path / array / "c").rglob("*") if p.is_file()), -2)
    # xarray itself reads the epoch coordinate, before any array can be named.
    expected = "cannot be opened as a Zarr store" if array == "epoch" else f"array '{array}': damaged"
    with pytest.raises(StoreError, match=rf"{expected} \(.*checksum"):
        Store(path)


def test_lost_epoch_coordinate_is_not_read_as_zeros(path: Path) -> None:
    chunk(path, "epoch", 0).unlink()
    with pytest.raises(StoreError, match="array 'epoch': missing or damaged"):
        Store(path)


@pytest.mark.filterwarnings("ignore:Object at")
def test_missing_array_is_named(path: Path) -> None:
    (path / "objective" / "zarr.json").unlink()
    with pytest.raises(StoreError, match="array 'objective', epoch 0: missing"):
        Store(path).epoch(0)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_other_format_versions_are_refused(path: Path, version: object) -> None:
    zarr.open_group(path, mode="r+").attrs["format_version"] = version
    with pytest.raises(StoreError, match=f"format version {version!r}; this ncpipe reads version 1"):
        Store(path)


@pytest.mark.parametrize("change", [{"class_names": ["a", "c"]}, {"extra": 1}, {"static_digests": {}}])
def test_a_changed_attribute_is_damage(tmp_path: Path, change: dict[str, object]) -> None:
    folder = tmp_path / "images.zarr"
    attributes = {"class_names": ("a", "b"), "nested": {"ratio": 0.1, "none": None, "nan": float("nan")}}
    write_store(folder, static_arrays(0), attributes=attributes)
    assert Store(folder).attrs["class_names"] == ["a", "b"]
    zarr.open_group(folder, mode="r+").attrs.update(change)
    with pytest.raises(StoreError, match=r"images\.zarr: attributes: damaged \(they do not match their digest\)"):
        Store(folder)


def test_a_store_from_before_attributes_had_a_digest_is_read_and_has_the_same_digest(path: Path) -> None:
    now = Store(path)
    file = path / "zarr.json"
    metadata = json.loads(file.read_text())
    del metadata["attributes"]["attributes_digest"]
    file.write_text(json.dumps(metadata))
    assert Store(path).digest() == now.digest()
    assert Store(path).attrs == now.attrs
    assert Store(path).verify() == []


def test_foreign_and_broken_groups_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"absent\.zarr: no store here \(zarr\.json is missing\)"):
        Store(tmp_path / "absent.zarr")
    zarr.create_group(tmp_path / "foreign.zarr", zarr_format=3)
    with pytest.raises(StoreError, match="format version None"):
        Store(tmp_path / "foreign.zarr")
    broken = tmp_path / "broken.zarr"
    broken.mkdir()
    (broken / "zarr.json").write_text("{")
    with pytest.raises(StoreError, match="cannot be opened as a Zarr store") as caught:
        Store(broken)
    assert "\n" not in str(caught.value)


def test_digest_depends_on_values_dtype_and_shape() -> None:
    values = np.arange(6, dtype=np.int32)
    digests = [
        digest_values(values),
        digest_values(values.astype(np.int64)),
        digest_values(values.reshape(2, 3)),
        digest_values(values[::-1]),
    ]
    assert len(set(digests)) == 4
    # Byte order and memory layout are not part of the value.
    assert digest_values(values.astype(">i4")) == digests[0]
    assert digest_values(np.asfortranarray(values.reshape(2, 3))) == digests[2]


def test_store_digest_follows_every_finished_epoch(writer: EpochWriter, tmp_path: Path) -> None:
    seen = set()
    for index, epoch in enumerate(EPOCHS):
        writer.write(index, epoch_values(epoch))
        seen.add(Store(tmp_path / "run.zarr").digest())
    writer.write(0, epoch_values(1))
    seen.add(Store(tmp_path / "run.zarr").digest())
    assert len(seen) == 4


# --- whole stores ---------------------------------------------------------------------------------------------------


def static_arrays(seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (5, 4, 4, 1), np.uint8)
    return {
        "images": Array(("sample", "row", "column", "channel"), images, "images"),
        "label_set": Array(("sample",), rng.integers(0, 3, 5).astype(np.int32), "label set"),
        "empty": Array(("nothing", "class"), np.zeros((0, 3), np.uint8), "no rows"),
    }


def test_whole_store_reads_back(tmp_path: Path) -> None:
    write_store(tmp_path / "images.zarr", static_arrays(0), attributes={"class_names": ["a", "b"]})
    store = Store(tmp_path / "images.zarr")
    assert store.attrs == {"class_names": ["a", "b"]}
    assert (store.epochs, store.planned_epochs, store.verify()) == ([], [], [])
    loaded = store.load()
    for name, array in static_arrays(0).items():
        np.testing.assert_array_equal(loaded[name], array.values)
    assert [p.name for p in tmp_path.iterdir()] == ["images.zarr"]


def test_many_static_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "_STATIC_CHUNK_BYTES", 32)
    write_store(tmp_path / "images.zarr", static_arrays(0), attributes={})
    assert len(list((tmp_path / "images.zarr/images/c").iterdir())) == 3  # rows of 16 bytes, two to a chunk
    store = Store(tmp_path / "images.zarr")
    np.testing.assert_array_equal(store.static("images")["images"], static_arrays(0)["images"].values)
    chunk(store.path, "images", 2, 0, 0, 0).unlink()
    with pytest.raises(StoreError, match="array 'images': missing or damaged"):
        store.static("images")


class Interrupted:
    """Counts the steps of a write and interrupts it before one of them."""

    def __init__(self, patch: pytest.MonkeyPatch, fatal: int) -> None:
        self.left = fatal
        for owner, name in ((stores, "_create"), (Path, "rename"), (stores.shutil, "rmtree")):
            patch.setattr(owner, name, self._step(getattr(owner, name)))

    def _step(self, real: Callable) -> Callable:
        def step(*args: object, **kwargs: object) -> object:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            return real(*args, **kwargs)

        return step


# A new store is made in seven steps: clear two leftovers, three arrays, rename, clear; replacing has one rename more.
@pytest.mark.parametrize(
    ("replacing", "fatal"), [*((False, step) for step in range(7)), *((True, step) for step in range(8))]
)
def test_interrupted_whole_store_never_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replacing: bool, fatal: int
) -> None:
    """Killed before any of its steps, a write leaves the old store or none; the next write ends whole."""
    path, wanted = tmp_path / "images.zarr", static_arrays(1)
    if replacing:
        write_store(path, static_arrays(0), attributes={})
    with monkeypatch.context() as patch:
        Interrupted(patch, fatal)
        with pytest.raises(KeyboardInterrupt):
            write_store(path, wanted, attributes={})
    if path.exists():
        assert Store(path).verify() == []
    else:
        with pytest.raises(StoreError, match="no store here"):
            Store(path)
    write_store(path, wanted, attributes={})
    assert Store(path).verify() == []
    np.testing.assert_array_equal(Store(path).static("images")["images"], wanted["images"].values)
    assert [p.name for p in tmp_path.iterdir()] == ["images.zarr"]


# --- small files ----------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_json_is_canonical_and_reads_back(tmp_path_factory: pytest.TempPathFactory, payload: dict) -> None:
    path = tmp_path_factory.getbasetemp() / "payload.json"
    write_json(path, payload)
    content = path.read_bytes()
    assert read_json(path) == payload
    reordered = dict(reversed(payload.items()))
    write_json(path, reordered)
    assert path.read_bytes() == content
    assert hash_json(reordered) == hash_json(payload)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_refuses_nan_and_keeps_the_old_file(tmp_path: Path, value: float) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": value})
    assert read_json(path) == {"a": 1}
    with pytest.raises(ValueError, match="not JSON compliant"):
        hash_json({"a": value})


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'"x"', b"\xff\xfe"])
def test_damaged_json_is_a_store_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"a\.json: damaged, not (JSON|a JSON object)"):
        read_json(path)


def test_missing_json_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"a\.json: missing"):
        read_json(tmp_path / "a.json")


def test_atomic_write_keeps_the_old_content_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder" / "state"
    write_atomically(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["state"]


# --- no space -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_is_one_line_that_names_the_folder(tmp_path: Path, number: int) -> None:
    expected = "no space left on the device; free some and run again, finished epochs are kept"
    with pytest.raises(StoreError, match=expected) as caught, space_errors(tmp_path):
        raise OSError(number, os.strerror(number))
    assert str(caught.value).startswith(f"{tmp_path}: ")
    with pytest.raises(PermissionError), space_errors(tmp_path):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))


FILL_A_DISK = """
import sys
from pathlib import Path
import numpy as np
from ncpipe.errors import StoreError
from ncpipe.stores.files import space_errors
from ncpipe.stores.zarr import EpochArray, EpochWriter, Store

path = Path(sys.argv[1]) / "run.zarr"
arrays = {"features": EpochArray(("sample",), (40_000,), "float32", "features")}
writer = EpochWriter.create(path, epochs=range(50), arrays=arrays, static={}, attributes={})
try:
    with space_errors(path.parent):
        for epoch in range(50):
            writer.write(epoch, {"features": np.full(40_000, epoch, np.float32)})
except StoreError as error:
    print(error)
store = Store(path)
assert 0 < len(store.epochs) < 50, store.epochs
assert store.verify() == []
"""


def test_a_full_disk_keeps_the_finished_epochs(tmp_path: Path) -> None:
    """On a real file system of 1 MiB, mounted in a namespace of its own."""
    mount = 'mount -t tmpfs -o size=1m none "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    arguments = [str(tmp_path), sys.executable, FILL_A_DISK]
    try:
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        pytest.skip("no `unshare` here")
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout == f"{tmp_path}: no space left on the device; free some and run again, finished epochs are kept\n"
    )


# --- one writer -----------------------------------------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from ncpipe.errors import LockedError
from ncpipe.stores.locks import exclusive

try:
    with exclusive(Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.readline()
except LockedError as error:
    print(error)
"""


def test_second_writer_is_refused_with_the_record_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    folder = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        record = f"another writer is at work here: host .*, process {first.pid}, SLURM job 4711$"
        with pytest.raises(LockedError, match=record), exclusive(folder):
            pytest.fail("two writers at once")
        first.kill()  # the lock ends with its process, however that ended
        first.wait()
    with exclusive(folder):
        second = subprocess.run(
            [sys.executable, "-c", HOLD, str(folder)], capture_output=True, text=True, check=True, timeout=30
        )
        assert "another writer is at work here: host" in second.stdout
        assert f"process {os.getpid()}" in second.stdout


def test_file_systems_without_locks_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(handle: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("ncpipe.stores.locks.fcntl.lockf", unsupported)
    with pytest.raises(StoreError, match="cannot be locked") as caught, exclusive(tmp_path):
        pytest.fail("entered without a lock")
    assert not isinstance(caught.value, LockedError)


def test_manifest_payloads_carry_no_paths_or_times(path: Path) -> None:
    """What condenses a store to one hash is the same wherever the store lies."""
    moved = path.rename(path.with_name("moved.zarr"))
    digest = Store(moved).digest()
    assert digest == Store(moved.rename(path)).digest()
    attributes = json.loads((path / "zarr.json").read_text())["attributes"]
    assert str(path.parent) not in json.dumps(attributes)


# --- results with a digest beside them ------------------------------------------------------------------------------

CONTENTS = {
    "pal.json": {"kappa": 0.1, "rank": 9},
    "metrics.csv": "metric,value\nnc1,0.5\n",
    "page.png": bytes(range(256)),
}


@pytest.fixture(params=CONTENTS)
def result(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A theory file, a table or a picture, written with its digest."""
    path = tmp_path / "a folder" / request.param
    write_result(path, CONTENTS[request.param])
    return path


def test_a_result_has_its_digest_beside_it_as_sha256sum_writes_it(result: Path) -> None:
    content = result.read_bytes()
    write_result(result, CONTENTS[result.name])
    assert result.read_bytes() == content
    assert digest_file(result).read_text() == f"{hashlib.sha256(content).hexdigest()}  {result.name}\n"
    assert sorted(p.name for p in result.parent.iterdir()) == [result.name, f"{result.name}.sha256"]
    check_result(result)
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum here")
    subprocess.run(["sha256sum", "--check", "--quiet", digest_file(result).name], cwd=result.parent, check=True)


@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize("beside", [False, True])
def test_one_bit_of_a_result_or_of_its_digest_is_found(result: Path, beside: bool, place: int) -> None:
    damaged = digest_file(result) if beside else result
    content = bytearray(damaged.read_bytes())
    content[place] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(StoreError, match=rf"{result.name}: damaged \(it does not match {result.name}.sha256 beside it"):
        check_result(result)


def test_a_result_that_is_gone_or_cut_off_is_told_from_one_without_a_digest(result: Path, tmp_path: Path) -> None:
    os.truncate(result, result.stat().st_size - 1)
    with pytest.raises(StoreError, match="damaged"):
        check_result(result)
    result.unlink()
    with pytest.raises(StoreError, match=f"{result.name}: missing, its digest is still there"):
        check_result(result)
    digest_file(result).unlink()
    check_result(result)  # from elsewhere: nothing is known of it


def test_nothing_is_read_from_a_damaged_theory_file(tmp_path: Path) -> None:
    write_result(tmp_path / "pal.json", {"kappa": 0.1})
    (tmp_path / "pal.json").write_text('{"kappa": 0.2}')  # still JSON
    with pytest.raises(StoreError, match=r"pal\.json: damaged"):
        read_json(tmp_path / "pal.json")
    digest_file(tmp_path / "pal.json").unlink()
    assert read_json(tmp_path / "pal.json") == {"kappa": 0.2}


def test_killed_between_a_result_and_its_digest_reads_as_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metrics.csv"
    write_result(path, "old")
    replace = os.replace

    def killed(source: Path, target: Path) -> None:
        if target.suffix == ".sha256":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_result(path, "new")
    with pytest.raises(StoreError, match="damaged"):
        check_result(path)
    assert not list(tmp_path.glob(".*.partial"))
