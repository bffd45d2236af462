"""Train one run: data on the device, features at checkpoints to Zarr, exactly resumable at any step.

The resume state is what `Trainer` holds (parameters, buffers, momentum, the position) and what the store already has.
"""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

import ncpipe
from ncpipe.errors import DivergenceError, InputError
from ncpipe.experiment.plan import Run
from ncpipe.labels.names import LabelSet, label_set_name
from ncpipe.progress import Progress, clock
from ncpipe.results.datasets import dataset_store
from ncpipe.stores.files import differences, hash_json, space_errors
from ncpipe.stores.locks import exclusive
from ncpipe.stores.zarr import EpochWriter
from ncpipe.train import TRAIN_VERSION
from ncpipe.train.allocator import keep_freed_memory
from ncpipe.train.arithmetic import arithmetic, check_precision
from ncpipe.train.background import Background, writes_beside
from ncpipe.train.files import RunFiles, create_store, resume
from ncpipe.train.keep import Keep
from ncpipe.train.memory import memory_errors
from ncpipe.train.saving import Saver
from ncpipe.train.splits import Split, label_set_weight, load_split, read_factors
from ncpipe.train.stop import Stop
from ncpipe.train.trainer import Trainer

STATE_SECONDS = 20.0


def resolve_device(device: str) -> torch.device:
    """Turn ``auto``, ``cpu`` or ``cuda`` into a device.

    Raises
    ------
    InputError
        If CUDA is asked for and absent.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device: found 'cuda', but torch sees no CUDA device here; allowed: auto, cpu")
    return torch.device(device)


def train_run(
    settings: Mapping[str, Any],
    *,
    data: Path,
    folder: Path,
    log: logging.Logger,
    sampling: Path | None = None,
    device: str = "auto",
    threads: int = 1,
    on_mismatch: Literal["restart", "refuse"] = "restart",
) -> None:
    """Train one run, or go on with it, or find it finished; ends with ``manifest.json`` in `folder`.

    Parameters
    ----------
    settings : mapping
        ``run`` (dataset, setting, network, seed), ``network``, ``recipe``, ``objective``, ``counts`` ({label set name:
        samples}), ``epochs``, ``checkpoints``, ``seed``; ``features`` where a checkpoint keeps others than float32;
        ``sampling`` (method, cap) for a setting that weights its label sets: plain values, see
        `ncpipe.experiment.plan.train_settings`.
    data, folder : Path
        The data set's folder and this run's folder.
    sampling : Path, optional
        File of the weights; needed where ``settings`` has ``sampling``.
    device : {"auto", "cpu", "cuda"}
    threads : int
        CPU threads; results are bit-identical for equal threads.
    on_mismatch : {"restart", "refuse"}
        What to do with a state of other settings or data, or a damaged one: start afresh and keep the old store aside
        until the new run has finished, or raise.

    Raises
    ------
    InputError
        If the device is absent or lacks the recipe's precision; if the sampling weights are missing or not the ones
        that ``settings`` ask for.
    LockedError
        If another process is at work in `folder`.
    StateMismatchError, StoreError
        See `on_mismatch`; also when the data set is damaged or no space is left.
    DivergenceError
        If the loss is not finite: what was checkpointed before stays. Asked again in the same environment, at once.
    RangeError
        If a feature does not fit in the dtype that is kept; what was checkpointed before stays.
    DeviceMemoryError
        If the GPU's memory does not hold the run.
    SystemExit
        With 143 after SIGTERM; the batch was finished and the state written.
    """
    torch.set_num_threads(threads)
    chosen, recipe = resolve_device(device), settings["recipe"]
    check_precision(recipe.get("precision", "float32"), chosen)
    if chosen.type == "cpu":
        keep_freed_memory()
    digest = dataset_store(data).digest()
    factors = read_factors(sampling, settings)
    identity = {"settings": settings, "algorithm_version": TRAIN_VERSION, "data": digest}
    if factors is not None:
        identity["label_set_weight"] = hash_json({label_set_name(s): factor for s, factor in factors.items()})
    run = RunFiles(folder, identity)
    environment = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "ncpipe": ncpipe.__version__,
        "device": chosen.type,
        "threads": threads,
    }
    if chosen.type == "cuda":
        environment["gpu"] = torch.cuda.get_device_name(chosen)
    with space_errors(folder), exclusive(folder), Stop() as stop:
        run.remove_partial()
        run.check_divergence(environment)
        state = resume(run, log, on_mismatch)
        if state is not None and state[0]["epoch"] == settings["epochs"]:
            history = run.write_history(state[1]["history"].tolist(), settings["recipe"], settings["epochs"])
            run.write_manifest(state[0]["environment"], history)
            run.remove_superseded()
            log.info("already finished: all stored digests verified")
            return
        try:
            with arithmetic(recipe, chosen, settings["network"]), memory_errors(settings):
                _train(Context(run, settings, factors, environment, chosen, log), data, state, stop)
        except DivergenceError as error:
            run.record_divergence(environment, error)
            raise


@dataclass(frozen=True)
class Context:
    """What a run is, where its files go and where it is made."""

    run: RunFiles
    settings: Mapping[str, Any]
    factors: Mapping[LabelSet, float] | None
    environment: dict[str, Any]
    device: torch.device
    log: logging.Logger


State = tuple[dict[str, Any], dict[str, np.ndarray]]


def _train(context: Context, data: Path, state: State | None, stop: Stop) -> None:
    """Load the data, build or restore the run, train it to its end and write its manifest."""
    run, settings, factors, log = context.run, context.settings, context.factors, context.log
    environment, device = context.environment, context.device
    train, train_data = load_split(data, "train", settings, device, factors)
    trainer = Trainer(settings, train, device)
    test, test_data = (None, None) if trainer.free else load_split(data, "test", settings, device)
    label_set = {"train": train_data.label_set} | ({} if test_data is None else {"test": test_data.label_set})
    weights = None if factors is None else label_set_weight(train_data.label_sets, factors)
    keep = Keep(settings, train_data.label_sets, label_set, weights)
    if trainer.forward is not None:
        environment = environment | {"compile": trainer.forward.kind}
        if trainer.forward.reason:
            log.warning("compile: training goes on uncompiled; %s: %s", trainer.forward.kind, trainer.forward.reason)

    if state is None:
        writer = create_store(run, settings, trainer, keep, train_data, test_data, weights)
        losses: list[float] = []
    else:
        header, arrays = state
        if header["environment"] != environment:
            log.warning("the run began elsewhere: %s", "; ".join(differences(header["environment"], environment)))
        writer = EpochWriter(run.store)
        trainer.restore(header, arrays)
        losses = arrays["history"].tolist()
        log.info("going on from epoch %d, step %d", trainer.epoch, trainer.step)

    began = time.monotonic()
    with Background(log) if writes_beside(device) else nullcontext() as background:
        saver = Saver(run, trainer, keep, writer, environment, losses, background)
        if state is None and 0 in settings["checkpoints"]:
            saver.checkpoint(settings["checkpoints"].index(0), test)
        elif state is None:
            saver.save()
        _run_epochs(context, trainer, saver, test, stop)
    history = run.write_history(losses, settings["recipe"], settings["epochs"])
    run.write_manifest(environment, history)
    run.remove_superseded()
    log.info("finished in %s", clock(time.monotonic() - began))


def _run_epochs(context: Context, trainer: Trainer, saver: Saver, test: Split | None, stop: Stop) -> None:
    """Train from where the run stands to its last epoch: checkpoints where they are due, states now and then.

    Raises
    ------
    SystemExit
        With 143 after SIGTERM; the batch was finished and the state written.
    """
    settings, log = context.settings, context.log
    checkpoints, epochs, name = settings["checkpoints"], settings["epochs"], Run(**settings["run"]).name
    samples, threads = len(trainer.train), context.environment["threads"]
    log.info(
        "%s on %s, %d thread(s): %d samples, epochs %d to %d",
        *(name, context.device, threads, samples, trainer.epoch, epochs),
    )
    progress = Progress(name, epochs, samples, start=trainer.epoch, log=log)
    saved, skipped = time.monotonic(), trainer.skipped_steps()
    while trainer.epoch < epochs:
        loss = trainer.run_epoch(stop)
        if loss is None:
            saver.save()
            log.warning("SIGTERM: stopped in epoch %d after step %d, state written", trainer.epoch + 1, trainer.step)
            raise SystemExit(143)
        saver.losses.append(loss)
        if (left_out := trainer.skipped_steps()) > skipped:
            log.warning(
                "float16: gradients of %d step(s) overflowed by epoch %d; those steps were left out, the loss scale "
                "was halved each time",
                *(left_out, trainer.epoch),
            )
            skipped = left_out
        due = trainer.epoch in checkpoints
        if due:
            saver.checkpoint(checkpoints.index(trainer.epoch), test)
            saved = time.monotonic()
        elif time.monotonic() - saved >= STATE_SECONDS:
            saver.save()
            saved = time.monotonic()
        progress.epoch(trainer.epoch, loss, force=due)
