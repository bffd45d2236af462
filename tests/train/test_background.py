"""Checkpoints beside the training: order, errors, the end; on the CPU, where nothing but the test uses it."""

from __future__ import annotations

import errno
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ncpipe.errors import DivergenceError, StoreError
from ncpipe.stores.zarr import EpochWriter, Store
from ncpipe.train import background, loop, saving
from ncpipe.train.background import Background, HostCopy, writes_beside
from ncpipe.train.state import load_state
from ncpipe.train.trainer import Trainer

Train = Callable[..., Path]
Make = Callable[..., dict[str, Any]]
LOG = logging.getLogger("ncpipe")


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have runs on the CPU write in the background, slowly."""
    real = EpochWriter.write

    def slowly(*args: Any) -> None:
        time.sleep(0.05)
        real(*args)

    monkeypatch.setattr(EpochWriter, "write", slowly)
    monkeypatch.setattr(loop, "writes_beside", lambda _: True)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*")
            if f.is_file() and f.name != "writer.lock"}  # fmt: skip


# --- the thread -----------------------------------------------------------------------------------------------------


def test_jobs_are_done_in_order_by_one_other_thread() -> None:
    done: list[tuple[int, int]] = []
    with Background(LOG) as jobs:
        for number in range(20):
            jobs.submit(lambda number=number: done.append((number, threading.get_ident())))
        jobs.drain()
        assert [number for number, _ in done] == list(range(20))
    ((ident,),) = [{thread for _, thread in done}]
    assert ident != threading.get_ident()


def test_training_waits_when_too_much_waits() -> None:
    """One job at work and `WAITING` behind it; the next submit comes back only when there is room."""
    gate, submitted = threading.Event(), []
    with Background(LOG) as jobs:

        def submit() -> None:
            for number in range(background.WAITING + 3):
                jobs.submit(gate.wait)
                submitted.append(number)

        training = threading.Thread(target=submit)
        training.start()
        training.join(0.2)
        assert training.is_alive()
        assert len(submitted) == background.WAITING + 1
        gate.set()
        training.join()


@pytest.mark.parametrize("where", ["submit", "drain", "end"])
def test_an_error_is_raised_in_the_main_thread_and_nothing_is_done_after_it(where: str) -> None:
    done: list[int] = []

    def fail() -> None:
        raise StoreError("the disk")

    def use() -> None:
        with Background(LOG) as jobs:
            jobs.submit(lambda: done.append(1))
            jobs.submit(fail)
            if where != "end":
                jobs._jobs.join()
            if where == "drain":
                jobs.drain()
            jobs.submit(lambda: done.append(2))

    with pytest.raises(StoreError, match="the disk"):
        use()
    assert done == [1]


def test_an_error_of_the_main_thread_comes_first_and_what_waits_is_done(caplog: pytest.LogCaptureFixture) -> None:
    done: list[int] = []

    def fail() -> None:
        raise StoreError("the disk")

    def use(*jobs_of: Callable[[], None]) -> None:
        with Background(LOG) as jobs:
            for job in jobs_of:
                jobs.submit(job)
            raise DivergenceError("the loss")

    with pytest.raises(DivergenceError):
        use(lambda: time.sleep(0.05), lambda: done.append(1))
    assert done == [1]
    assert caplog.messages == []
    with pytest.raises(DivergenceError):
        use(fail)
    assert caplog.messages == ["a checkpoint could not be written either: the disk"]


def test_copies_are_of_the_moment() -> None:
    tensor = torch.arange(6.0).reshape(2, 3).requires_grad_()
    copy = HostCopy({"a": tensor, "b": torch.tensor(2.0, dtype=torch.float64)})
    with torch.no_grad():
        tensor.zero_()
    arrays = copy.arrays()
    np.testing.assert_array_equal(arrays["a"], np.arange(6, dtype=np.float32).reshape(2, 3))
    assert arrays["b"].dtype == np.float64


def test_only_cuda_writes_beside() -> None:
    assert writes_beside(torch.device("cuda"))
    assert not writes_beside(torch.device("cpu"))


# --- a run ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_a_run_has_the_same_bytes_either_way(
    train: Train, make_settings: Make, request: pytest.FixtureRequest, network: str
) -> None:
    settings = make_settings(network, checkpoints=list(range(7)))
    at_once = train(settings, "at-once")
    request.getfixturevalue("beside")
    assert files_of(train(settings, "beside")) == files_of(at_once)


@pytest.mark.usefixtures("beside")
def test_the_state_never_runs_ahead_of_the_store(
    train: Train, make_settings: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever state is written, the checkpoints up to its epoch are in the store before."""
    real, seen = saving.save_state, []

    def watched(path: Path, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        store = Store(tmp_path / "run/features.zarr")
        assert [e for e in settings["checkpoints"] if e <= header["epoch"]] == store.epochs
        assert np.flatnonzero(arrays["finished"]).tolist() == list(range(len(store.epochs)))
        seen.append(header["epoch"])
        real(path, header, arrays)

    monkeypatch.setattr(saving, "save_state", watched)
    monkeypatch.setattr(loop, "STATE_SECONDS", 0.0)
    settings = make_settings()
    train(settings)
    assert seen == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.usefixtures("beside")
def test_sigterm_waits_for_the_checkpoints(
    train: Train, make_settings: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = make_settings(checkpoints=list(range(7)))
    real = Trainer.run_epoch

    def run_epoch(self: Trainer, *args: Any) -> float | None:
        if self.epoch == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run_epoch", run_epoch)
        with pytest.raises(SystemExit):
            train(settings)
    assert Store(tmp_path / "run/features.zarr").epochs == [0, 1, 2, 3]
    state = load_state(tmp_path / "run/state/state.npz")
    assert state is not None
    assert (state[0]["epoch"], state[1]["finished"].tolist()) == (3, [1, 1, 1, 1, 0, 0, 0])
    assert files_of(train(settings)) == files_of(train(settings, "whole"))


@pytest.mark.usefixtures("beside")
@pytest.mark.parametrize("checkpoint", [1, 4])
def test_a_checkpoint_that_cannot_be_written_ends_the_run_and_is_made_again(
    train: Train, make_settings: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, checkpoint: int
) -> None:
    """The fifth is the last: its error comes when the training is already over."""
    real = EpochWriter._write_chunks

    async def full(self: EpochWriter, index: int, values: Any) -> None:
        if index == checkpoint:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        await real(self, index, values)

    settings = make_settings()
    with monkeypatch.context() as patch:
        patch.setattr(EpochWriter, "_write_chunks", full)
        with pytest.raises(StoreError, match="no space left on the device; free some and run again"):
            train(settings)
    assert Store(tmp_path / "run/features.zarr").epochs == settings["checkpoints"][:checkpoint]
    assert not (tmp_path / "run/manifest.json").exists()
    assert files_of(train(settings)) == files_of(train(settings, "whole"))


@pytest.mark.usefixtures("beside")
def test_divergence_keeps_the_checkpoints_before_it(train: Train, make_settings: Make, tmp_path: Path) -> None:
    with pytest.raises(DivergenceError):
        train(make_settings(recipe__lr=1e30))
    assert Store(tmp_path / "run/features.zarr").epochs == [0]
    assert load_state(tmp_path / "run/state/state.npz") is not None
