"""Exact resume: whatever kills a run, and whenever, it ends with the bytes of a run that nothing interrupted."""

from __future__ import annotations

import errno
import json
import logging
import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ncpipe.data.synthesise import synthesise
from ncpipe.errors import DivergenceError, LockedError, StateMismatchError, StoreError
from ncpipe.stores.files import read_json
from ncpipe.stores.zarr import Store
from ncpipe.train import loop
from ncpipe.train.files import RunFiles
from ncpipe.train.splits import Split
from ncpipe.train.state import load_state, save_state
from ncpipe.train.trainer import Trainer

Train = Callable[..., Path]
Make = Callable[..., dict[str, Any]]
LOG = logging.getLogger("ncpipe")
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["ncpipe.train.loop"])  # torch is imported once, not in every process
DRIVER = Path(__file__).with_name("driver.py")
SIGTERM_EXIT = 143


@contextmanager
def process(
    arguments: dict[str, Any], fatal: tuple[str, str, int] | None = None, *, beside: bool = False
) -> Iterator[ForkServerProcess]:
    """One training in a process of its own, see driver.py."""
    given_globals = {"ARGUMENTS": {"device": "cpu", **arguments}, "FATAL": fatal, "BESIDE": beside}
    with closing(CONTEXT.Process(target=runpy.run_path, args=(str(DRIVER), given_globals))) as child:
        child.start()
        yield child
        child.join(60)


def run_process(arguments: dict[str, Any], fatal: tuple[str, str, int] | None = None, *, beside: bool = False) -> int:
    """Its exit code; negative: the signal that killed it."""
    with process(arguments, fatal, beside=beside) as child:
        child.join(60)
        assert child.exitcode is not None
        return child.exitcode


def assert_same_run(one: Path, other: Path) -> None:
    """Bit for bit: every array of the store, the state, the history, the manifest."""
    first, second = Store(one / "features.zarr"), Store(other / "features.zarr")
    assert first.epochs == second.epochs
    assert first.verify() == second.verify() == []
    for epoch in first.epochs:
        a, b = first.epoch(epoch), second.epoch(epoch)
        assert set(a.data_vars) == set(b.data_vars)
        for name in a.data_vars:
            assert a[name].values.tobytes() == b[name].values.tobytes(), (name, epoch)
    (header, arrays), (other_header, other_arrays) = (load_state(f / "state/state.npz") for f in (one, other))
    assert header == other_header
    assert arrays.keys() == other_arrays.keys()
    for name, values in arrays.items():
        assert values.tobytes() == other_arrays[name].tobytes(), name
    for file in ("history.csv", "manifest.json"):
        assert (one / file).read_bytes() == (other / file).read_bytes()


def visible(folder: Path) -> set[str]:
    return {p.name for p in folder.rglob("*") if p.parent.suffix != ".zarr"} - {"writer.lock"}


# --- killed ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["mlp", "cnn", "ufm"])
def test_killed_between_any_two_of_its_acts(
    data: Path, train: Train, tmp_path: Path, make_settings: Make, network: str
) -> None:
    """kill -9 before a batch, an array, a sync or a move, at random; batch norm's statistics and momentum included."""
    settings = make_settings(network, epochs=30, checkpoints=list(range(0, 31, 2)))
    whole = train(settings, "whole")
    arguments = {"settings": settings, "data": data, "folder": tmp_path / "killed"}
    rng, codes = np.random.default_rng(5), []
    while not codes or codes[-1] != 0:
        assert len(codes) < 30
        codes.append(run_process(arguments, ("SIGKILL", "any", int(rng.integers(20, 100)))))
    assert set(codes[:-1]) == {-signal.SIGKILL}
    assert len(codes) > 6
    assert_same_run(whole, tmp_path / "killed")
    assert visible(tmp_path / "killed") == visible(whole)  # no leftovers of killed writes


def test_killed_while_checkpoints_are_written_beside_the_training(
    data: Path, train: Train, tmp_path: Path, make_settings: Make
) -> None:
    settings = make_settings(epochs=10, checkpoints=list(range(11)))
    arguments = {"settings": settings, "data": data, "folder": tmp_path / "killed"}
    rng, codes = np.random.default_rng(7), []
    while not codes or codes[-1] != 0:
        assert len(codes) < 30
        codes.append(run_process(arguments, ("SIGKILL", "any", int(rng.integers(20, 120))), beside=True))
    assert set(codes[:-1]) == {-signal.SIGKILL}
    assert len(codes) > 3
    assert_same_run(train(settings, "whole"), tmp_path / "killed")


def test_killed_from_outside_at_any_moment(data: Path, train: Train, tmp_path: Path, make_settings: Make) -> None:
    epochs = 60
    settings = make_settings(epochs=epochs, checkpoints=list(range(epochs + 1)))
    whole = train(settings, "whole")
    arguments = {"settings": settings, "data": data, "folder": tmp_path / "killed"}
    state, rng, codes = tmp_path / "killed/state/state.npz", np.random.default_rng(0), []
    for _ in range(7):
        before = state.stat().st_mtime_ns if state.exists() else 0
        with process(arguments) as child:
            while child.is_alive() and (not state.exists() or state.stat().st_mtime_ns == before):
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.12))
            child.kill()
            child.join()
            codes.append(child.exitcode)
    assert codes.count(-signal.SIGKILL) >= 6
    assert run_process(arguments) == 0
    assert_same_run(whole, tmp_path / "killed")


@pytest.mark.parametrize(("network", "position"), [("mlp", (1, 2)), ("cnn", (1, 2)), ("ufm", (6 - 1, 0))])
def test_sigterm_finishes_the_batch_writes_the_state_and_exits_143(
    data: Path, train: Train, tmp_path: Path, make_settings: Make, network: str, position: tuple[int, int],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Four batches an epoch (ufm: one); the signal comes before the sixth step (ufm: the fifth)."""
    settings = make_settings(network)
    arguments = {"settings": settings, "data": data, "folder": tmp_path / "stopped"}
    assert run_process(arguments, ("SIGTERM", "batch", 4 if network == "ufm" else 5)) == SIGTERM_EXIT
    state = load_state(tmp_path / "stopped/state/state.npz")
    assert state is not None
    assert (state[0]["epoch"], state[0]["step"]) == position
    assert not (tmp_path / "stopped/manifest.json").exists()
    with caplog.at_level(logging.INFO, logger="ncpipe"):
        train(settings, "stopped")
    assert caplog.messages[0] == "going on from epoch {}, step {}".format(*position)
    assert_same_run(train(settings, "whole"), tmp_path / "stopped")


class StopBefore:
    """Asks for a stop before the batch of this number, counted from 0."""

    def __init__(self, batch: int) -> None:
        self.left = batch

    @property
    def requested(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("network", ["cnn", "resnet18", "resnet34", "resnet50", "vgg16", "vit"])
def test_every_network_goes_on_from_its_state_bit_for_bit(
    tmp_path: Path, make_settings: Make, network: str, precision: str
) -> None:
    """Stopped in the second of three epochs, of three batches each, the last one short; images of 32 pixels."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    split = Split(images, np.eye(4, dtype=np.uint8)[np.arange(20) % 4], "normalised", torch.device("cpu"))
    settings = make_settings(network, epochs=3, recipe__batch=8, recipe__precision=precision)

    def trained(run: Trainer) -> dict[str, np.ndarray]:
        while run.epoch < 3:
            assert run.run_epoch(StopBefore(100)) is not None
        return run.state_arrays()

    whole = trained(Trainer(settings, split, torch.device("cpu")))
    first = Trainer(settings, split, torch.device("cpu"))
    first.run_epoch(StopBefore(100))
    assert first.run_epoch(StopBefore(2)) is None
    assert first.step == 2
    save_state(tmp_path / "state.npz", first.position(), first.state_arrays())
    header, arrays = load_state(tmp_path / "state.npz")
    second = Trainer({**settings, "seed": 1}, split, torch.device("cpu"))  # every value is the state's, none its own
    second.settings = settings
    second.restore(header, arrays)
    resumed = trained(second)
    assert resumed.keys() == whole.keys()
    for name, values in whole.items():
        assert np.isfinite(values).all()
        assert values.tobytes() == resumed[name].tobytes(), name


def test_the_handler_of_sigterm_is_put_back(train: Train, make_settings: Make) -> None:
    before = signal.getsignal(signal.SIGTERM)
    train(make_settings(epochs=1, checkpoints=[1]))
    assert signal.getsignal(signal.SIGTERM) is before


# --- finished -------------------------------------------------------------------------------------------------------


def no_steps(*args: object) -> None:
    pytest.fail("a finished run took a training step")


def test_finished_run_asked_again_writes_the_same_bytes_without_a_step(
    train: Train, make_settings: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = train(make_settings())
    files = {f.relative_to(folder): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    del files[Path("writer.lock")]
    monkeypatch.setattr(Trainer, "run_epoch", no_steps)
    (folder / "manifest.json").unlink()  # as Snakemake does before it runs a job again
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="ncpipe"):
        # The manifest says what the run was made with, not what looked at it afterwards.
        train(make_settings(), threads=2)
    loop.torch.set_num_threads(1)
    assert caplog.messages == ["already finished: all stored digests verified"]
    for name, content in files.items():
        assert (folder / name).read_bytes() == content, name


def test_killed_between_its_last_state_and_its_manifest(
    train: Train, make_settings: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The older generation, set aside, goes then too."""

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    train(make_settings(seed=1))
    with monkeypatch.context() as patch:
        patch.setattr(RunFiles, "write_manifest", killed)
        with pytest.raises(KeyboardInterrupt):
            train(make_settings())
    assert (tmp_path / "run/superseded/features.zarr").exists()
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run_epoch", no_steps)
        folder = train(make_settings())
    assert not (folder / "superseded").exists()
    assert_same_run(train(make_settings(), "whole"), folder)


@pytest.mark.parametrize(
    "damage", ["chunk lost", "bit flipped", "digest lost", "static lost", "store lost", "array lost"]
)
@pytest.mark.filterwarnings("ignore:Object at")
def test_damaged_store_of_a_finished_run_is_made_again(
    train: Train, make_settings: Make, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole, folder = train(make_settings(), "whole"), train(make_settings())
    store = folder / "features.zarr"
    match damage:
        case "chunk lost":
            (store / "features_test/c/3/0/0").unlink()
        case "bit flipped":
            content = bytearray((store / "features_train/c/2/0/0").read_bytes())
            content[100] ^= 4
            (store / "features_train/c/2/0/0").write_bytes(content)
        case "digest lost":
            shutil.rmtree(store / "digest")
        case "static lost":
            (store / "label_set_train/c/0").unlink()
        case "store lost":
            shutil.rmtree(store)
        case "array lost":
            shutil.rmtree(store / "objective")
    with pytest.raises(StoreError, match=r"features\.zarr.*; start afresh with --fresh"):
        train(make_settings(), on_mismatch="refuse")
    train(make_settings())
    assert any("starting afresh, what is here is damaged: " in message for message in caplog.messages)
    assert_same_run(whole, folder)
    assert not (folder / "superseded").exists()


def test_damage_names_array_and_epoch(train: Train, make_settings: Make) -> None:
    folder = train(make_settings())
    (folder / "features.zarr/features_test/c/3/0/0").unlink()
    with pytest.raises(StoreError, match="array 'features_test', epoch 4: missing or damaged"):
        train(make_settings(), on_mismatch="refuse")


# --- other settings, other data -------------------------------------------------------------------------------------


def test_state_of_other_settings_is_refused_naming_the_keys(train: Train, make_settings: Make) -> None:
    folder = train(make_settings())
    before = {f: f.read_bytes() for f in folder.rglob("*") if f.is_file() and f.name != "writer.lock"}
    other = make_settings(recipe__lr=0.05, objective__lambda_h=0.1)
    with pytest.raises(StateMismatchError) as caught:
        train(other, on_mismatch="refuse")
    message = str(caught.value)
    assert "settings.objective.lambda_h: was 0.05, now 0.1; settings.recipe.lr: was 0.1, now 0.05" in message
    assert "--fresh" in message
    assert before == {f: f.read_bytes() for f in folder.rglob("*") if f.is_file() and f.name != "writer.lock"}


def test_state_of_other_settings_starts_afresh_and_keeps_the_old_store_until_the_end(
    train: Train, make_settings: Make, caplog: pytest.LogCaptureFixture
) -> None:
    old = make_settings()
    folder = train(old)
    digest = Store(folder / "features.zarr").digest()
    for _ in range(2):  # also where the new run fails twice
        with pytest.raises(DivergenceError):
            train(make_settings(recipe__lr=1e30))
        assert Store(folder / "superseded/features.zarr").digest() == digest
        assert Store(folder / "superseded/features.zarr").verify() == []
    assert not (folder / "manifest.json").exists()
    assert any("settings.recipe.lr: was 0.1, now 1e+30" in message for message in caplog.messages)
    new = make_settings(recipe__lr=0.05)
    train(new)
    assert not (folder / "superseded").exists()
    assert_same_run(train(new, "whole"), folder)


def test_another_algorithm_version_starts_afresh(
    train: Train, make_settings: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = train(make_settings())
    monkeypatch.setattr(loop, "TRAIN_VERSION", loop.TRAIN_VERSION + 1)
    train(make_settings())
    assert any("algorithm_version: was" in message for message in caplog.messages)
    assert read_json(folder / "manifest.json")["identity"]["algorithm_version"] == loop.TRAIN_VERSION


def test_a_changed_data_set_never_passes_with_old_features(
    data: Path,
    train: Train,
    make_settings: Make,
    spec: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    copied = tmp_path / "data"
    shutil.copytree(data, copied)
    folder = train(make_settings(), data=copied)
    old = Store(folder / "features.zarr").epoch(6)["features_train"].values
    synthesise({**spec, "seed": 1}, copied, LOG)
    with pytest.raises(StateMismatchError, match=r"\(data: was '[0-9a-f]{64}', now '[0-9a-f]{64}'\)"):
        train(make_settings(), data=copied, on_mismatch="refuse")
    train(make_settings(), data=copied)
    assert any("starting afresh, the state belongs to other settings: data: was" in m for m in caplog.messages)
    assert not np.array_equal(old, Store(folder / "features.zarr").epoch(6)["features_train"].values)
    assert read_json(folder / "manifest.json")["identity"]["data"] == Store(copied / "images.zarr").digest()


def test_the_record_of_a_run_that_moved_is_in_its_log(
    data: Path, train: Train, make_settings: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = {"settings": make_settings(), "data": data, "folder": tmp_path / "run"}
    assert run_process({**arguments, "threads": 2}, ("SIGTERM", "batch", 5)) == SIGTERM_EXIT
    train(make_settings(), threads=1)
    assert any(message == "the run began elsewhere: threads: was 2, now 1" for message in caplog.messages)


# --- the state itself -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"PK\x03\x04" * 100])
def test_what_is_no_state_is_refused_or_replaced(
    train: Train, make_settings: Make, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    whole, folder = train(make_settings(), "whole"), train(make_settings())
    (folder / "state/state.npz").write_bytes(content)
    with pytest.raises(StoreError, match=r"state\.npz: resume state is truncated or damaged"):
        train(make_settings(), on_mismatch="refuse")
    train(make_settings())
    assert any("resume state is truncated or damaged" in message for message in caplog.messages)
    assert_same_run(whole, folder)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_of_a_state_passes(tmp_path: Path, data: st.DataObject) -> None:
    """One bit flipped anywhere, or the end cut off anywhere."""
    path = tmp_path / "state.npz"
    save_state(path, {"epoch": 3}, {"weight": np.arange(20.0), "steps": np.array(7)})
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[position] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[position:]
    path.write_bytes(content)
    with pytest.raises(StoreError, match="truncated or damaged"):
        load_state(path)


def test_state_reads_back_and_has_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.npz"
    assert load_state(path) is None
    arrays = {"a": np.float32([1.5, -0.0]), "b": np.asfortranarray(np.arange(6).reshape(2, 3)), "c": np.array(True)}
    save_state(path, {"epoch": 3, "identity": {"x": [1, "ä"]}}, arrays)
    header, loaded = load_state(path)
    assert (header["epoch"], header["identity"]) == (3, {"x": [1, "ä"]})
    for name, values in arrays.items():
        assert loaded[name].dtype == values.dtype
        assert loaded[name].tobytes() == values.tobytes()
    monkeypatch.setattr("ncpipe.train.state.STATE_VERSION", 2)
    with pytest.raises(StoreError, match="resume state of version 1, expected 2"):
        load_state(path)


# --- one writer, and space ------------------------------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from ncpipe.stores.locks import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_second_writer_is_refused(train: Train, make_settings: Make, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(LockedError, match=f"another writer is at work here: .*process {holder.pid}"):
            train(make_settings())
        assert visible(folder) == set()
    train(make_settings(epochs=1, checkpoints=[1]))


@pytest.mark.parametrize("full", ["chunk", "state", "manifest"])
def test_no_space_left_keeps_the_finished_epochs(
    train: Train, make_settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    left = {"chunk": 80, "state": 4, "manifest": 6}[full]

    def counted(real: Callable) -> Callable:
        def write(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise error
            return real(*args, **kwargs)

        return write

    with monkeypatch.context() as patch:
        patched = "replace" if full == "chunk" else "fsync"  # Zarr moves chunks into place, small files are synced
        patch.setattr(os, patched, counted(getattr(os, patched)))
        with pytest.raises(StoreError, match=r"run: no space left on the device; free some and run again"):
            train(make_settings())
    folder = tmp_path / "run"
    assert not (folder / "manifest.json").exists()
    assert len(Store(folder / "features.zarr").epochs) >= 2
    assert Store(folder / "features.zarr").verify() == []
    train(make_settings())
    assert_same_run(train(make_settings(), "whole"), folder)


def test_a_live_run_can_be_read(
    train: Train, make_settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any time the finished epochs are whole: what a reader sees beside a training run."""
    real, seen = Trainer.run_epoch, []

    def watched(*args: Any) -> float | None:
        store = Store(tmp_path / "run/features.zarr")
        assert store.verify() == []
        seen.append(store.epochs)
        return real(*args)

    monkeypatch.setattr(Trainer, "run_epoch", watched)
    train(make_settings())
    assert seen == [[0], [0, 1], [0, 1, 2], [0, 1, 2], [0, 1, 2, 4], [0, 1, 2, 4]]
    assert json.loads((tmp_path / "run/manifest.json").read_text())["epochs"] == [0, 1, 2, 4, 6]
