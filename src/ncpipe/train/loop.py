"""Train one run: data on the device, features at checkpoints to Zarr, exactly resumable at any step.

Nothing random is carried from epoch to epoch: the order of epoch e is a function of (seed, e), so the resume state
is the parameters, buffers and momentum, the position, and what the store already holds.
"""

from __future__ import annotations

import hashlib
import logging
import math
import platform
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from types import FrameType
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

import ncpipe
from ncpipe.config import Run
from ncpipe.datasets import DataSplit, dataset_store, open_dataset, select
from ncpipe.errors import DivergenceError, InputError, StateMismatchError, StoreError
from ncpipe.naming import LabelSet, label_set_name, parse_label_set
from ncpipe.progress import Progress, clock
from ncpipe.sampling import check_sampling, read_sampling
from ncpipe.stores import (
    Array,
    EpochArray,
    EpochWriter,
    Store,
    differences,
    exclusive,
    hash_json,
    space_errors,
    write_atomically,
    write_manifest,
)
from ncpipe.streams import permutations, stream
from ncpipe.train import TRAIN_VERSION
from ncpipe.train.networks import build_backbone, build_classifier
from ncpipe.train.objective import batch_loss, error_and_score, objective_terms
from ncpipe.train.state import load_state, save_state

STATE_SECONDS = 20.0
EVALUATION_BATCH = 1024
BATCHES_AT_ONCE = 4
SCALARS = {
    "objective": "terminal objective (7) on the training split",
    "objective_loss": "mean loss of the training split",
    "objective_classifier": "classifier penalty of (7)",
    "objective_feature": "feature penalty of (7)",
    "objective_bias": "bias penalty of (7)",
    "error_train": "share of training samples whose top-|S| logits are not S",
    "score_train": "softmax mass on the true labels, training split",
}
TEST_SCALARS = {
    "error_test": "share of test samples whose top-|S| logits are not S",
    "score_test": "softmax mass on the true labels, test split",
}


class Split:
    """One split on the device: images uint8 (N, H, W, C), targets (N, K), labels bool (N, K), sampling weights (N,)."""

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        target: str,
        device: torch.device,
        weights: np.ndarray | None = None,
    ) -> None:
        self.images = torch.from_numpy(images).to(device)
        self.labels = torch.from_numpy(labels.astype(bool)).to(device)
        targets = labels / labels.sum(1, keepdims=True) if target == "normalised" else labels
        self.targets = torch.from_numpy(targets.astype(np.float32)).to(device)
        self.weights = None if weights is None else torch.from_numpy(weights).to(device)

    def __len__(self) -> int:
        return len(self.labels)


def pixels(images: Tensor) -> Tensor:
    """Turn uint8 images (B, H, W, C) into float32 in [0, 1], (B, C, H, W) in the memory layout channels_last."""
    # By a tensor on the device: CUDA multiplies by the reciprocal of a plain number, and loses a bit of the quotient.
    return torch.div(images, torch.full((), 255.0, device=images.device)).permute(0, 3, 1, 2)


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


def learning_rate(recipe: Mapping[str, Any], epoch: int, epochs: int) -> float:
    """Learning rate of the epoch that follows `epoch` finished ones: cosine from lr to lr / 1000, or constant."""
    peak = float(recipe["lr"])
    if recipe["schedule"] == "constant":
        return peak
    floor = peak / 1000
    return floor + 0.5 * (peak - floor) * (1 + math.cos(math.pi * epoch / epochs))


class ParameterGroup:
    """Parameters that share a weight decay, and their momentum.

    The step is `torch.optim.SGD`'s own fused one without its class, whose constructor alone imports the whole of
    torch's compiler: 1.4 s in every job.
    """

    def __init__(self, parameters: Sequence[Tensor], *, weight_decay: float, lr_scale: float = 1.0) -> None:
        self.parameters, self.weight_decay, self.lr_scale = list(parameters), weight_decay, lr_scale
        self.momentum = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self, lr: float, momentum: float) -> None:
        """Take one step down the gradients, and drop them."""
        gradients = [cast(Tensor, p.grad) for p in self.parameters]
        sgd(
            self.parameters, gradients, cast(list[Tensor | None], self.momentum), fused=True, lr=lr * self.lr_scale,
            momentum=momentum, weight_decay=self.weight_decay, dampening=0.0, nesterov=False, maximize=False,
        )  # fmt: skip
        for parameter in self.parameters:
            parameter.grad = None


class Trainer:
    """One run in memory: backbone, classifier, optimiser and position. Its state is a header and plain arrays."""

    def __init__(self, settings: Mapping[str, Any], train: Split, device: torch.device) -> None:
        self.settings, self.train, self.device = settings, train, device
        network, objective, recipe = settings["network"], settings["objective"], settings["recipe"]
        self.free = network["architecture"] == "ufm"
        self.epochs: int = settings["epochs"]
        self.batch = len(train) if recipe["batch"] == "full" else min(int(recipe["batch"]), len(train))
        self.lambda_h = float(objective["lambda_h"])
        height, width, channels = train.images.shape[1:]
        torch.manual_seed(settings["seed"])
        backbone = build_backbone(network, (channels, height, width), len(train))
        self.classifier = build_classifier(
            int(backbone.features),  # type: ignore[arg-type]
            train.labels.shape[1],
            bias=objective["bias"],
        ).to(device)
        self.backbone = backbone.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        bias = [] if self.classifier.bias is None else [self.classifier.bias]
        # The feature penalty is the free features' only decay, and their gradient carries 1/N: hence lr × N.
        self.groups = [
            ParameterGroup(
                list(self.backbone.parameters()),
                weight_decay=0.0 if self.free else float(recipe["weight_decay"]),
                lr_scale=len(train) if self.free else 1,
            ),
            ParameterGroup([self.classifier.weight], weight_decay=float(objective["lambda_w"])),
            ParameterGroup(bias, weight_decay=float(objective["lambda_b"])),
        ]
        self.epoch, self.step, self.loss_sum = 0, 0, 0.0

    def _order(self) -> Tensor:
        generator = stream(self.settings["seed"], "order", self.epoch)
        return torch.from_numpy(permutations(generator, 1, len(self.train))[0]).to(self.device)

    def run_epoch(self, stop: Stop) -> float | None:
        """Train to the end of the current epoch, from wherever in it the state stands.

        Returns
        -------
        float or None
            Mean loss of the epoch's batches, or None if `stop` was requested: the position is then mid-epoch.

        Raises
        ------
        DivergenceError
            If the mean loss is not finite.
        """
        rate = learning_rate(self.settings["recipe"], self.epoch, self.epochs)
        momentum = float(self.settings["recipe"]["momentum"])
        self.backbone.train()
        samples = len(self.train)
        losses: list[Tensor] = []
        for inputs, targets, weights in self._batches():
            if stop.requested:
                break
            features = self.backbone(inputs)
            loss = batch_loss(self.classifier(features), features, targets, self.lambda_h, weights)
            loss.backward()
            for group in self.groups:
                group.step(rate, momentum)
            losses.append(loss.detach())
        self._add_losses(losses)
        if self.step * self.batch < samples:
            return None
        mean = self.loss_sum / samples
        if not math.isfinite(mean):
            raise self._diverged(f"the training loss is {mean}", self.epoch + 1)
        self.epoch, self.step, self.loss_sum = self.epoch + 1, 0, 0.0
        return mean

    def _batches(self) -> Iterator[tuple[Tensor | slice, Tensor, Tensor | None]]:
        """Input of the backbone, targets and weights of each batch that is left of the epoch."""
        images, targets, weights = self.train.images, self.train.targets, self.train.weights
        if self.batch == len(self.train):
            yield slice(None) if self.free else pixels(images), targets, weights
            return
        # Several batches are gathered at once, by index_select: images[index] takes four times as long on the CPU.
        for index in self._order()[self.step * self.batch :].split(BATCHES_AT_ONCE * self.batch):
            inputs = index if self.free else pixels(images.index_select(0, index))
            yield from zip(
                inputs.split(self.batch),
                targets.index_select(0, index).split(self.batch),
                repeat(None) if weights is None else weights.index_select(0, index).split(self.batch),
                strict=False,
            )

    def _add_losses(self, losses: list[Tensor]) -> None:
        """Count steps, and sum their losses in order and in float64, so that a stop in between changes no bit."""
        for loss in torch.stack(losses).tolist() if losses else []:  # the epoch's only wait for the device
            self.loss_sum += loss * min(self.batch, len(self.train) - self.step * self.batch)
            self.step += 1

    def _diverged(self, what: str, epoch: int) -> DivergenceError:
        return DivergenceError(
            f"{Run(**self.settings['run']).name}: {what} in epoch {epoch} of {self.epochs}; training stopped, the "
            f"checkpoints before it are kept. Lower the learning rate (it is {self.settings['recipe']['lr']})?"
        )

    @torch.no_grad()
    def features(self, split: Split) -> Tensor:
        """Features of a whole split in evaluation mode, (N, d), on the device."""
        self.backbone.eval()
        if self.free:
            return self.backbone(slice(None))
        return torch.cat([self.backbone(pixels(part)) for part in split.images.split(EVALUATION_BATCH)])

    @torch.no_grad()
    def checkpoint(self, test: Split | None) -> dict[str, np.ndarray]:
        """Everything that an epoch of the store holds.

        Raises
        ------
        DivergenceError
            If any of it is not finite: the last step of an epoch can diverge after its loss was still finite.
        """
        weight = self.classifier.weight
        bias = weight.new_zeros(len(weight)) if self.classifier.bias is None else self.classifier.bias
        objective = self.settings["objective"]
        values: dict[str, Any] = {"classifier_weight": weight, "classifier_bias": bias}
        for name, split in (("train", self.train), ("test", test)):
            if split is None:
                continue
            features = self.features(split)
            values[f"features_{name}"] = features
            error, score = error_and_score(features @ weight.T + bias, split.labels)
            values[f"error_{name}"], values[f"score_{name}"] = error, score
            if name == "train":
                terms = objective_terms(
                    features, weight, bias, split.targets,
                    lambda_w=objective["lambda_w"], lambda_h=self.lambda_h, lambda_b=objective["lambda_b"],
                    weights=split.weights,
                )  # fmt: skip
                values |= {f"objective_{term}": value for term, value in terms.items()}
                values["objective"] = sum(terms.values())
        arrays = {k: v.cpu().numpy() if isinstance(v, Tensor) else np.array(v) for k, v in values.items()}
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise self._diverged(f"{name} is not finite", self.epoch)
        return arrays

    def _tensors(self) -> dict[str, Tensor]:
        parts: dict[str, nn.Module] = {"backbone": self.backbone, "classifier": self.classifier}
        tensors = {f"{part}.{name}": t for part, module in parts.items() for name, t in module.state_dict().items()}
        for position, group in enumerate(self.groups):
            tensors |= {f"momentum.{position}.{index}": buffer for index, buffer in enumerate(group.momentum)}
        return tensors

    def position(self) -> dict[str, Any]:
        """Where the run is; JSON keeps every bit of the loss."""
        return {"epoch": self.epoch, "step": self.step, "loss_sum": self.loss_sum}

    def state_arrays(self) -> dict[str, np.ndarray]:
        """All tensors that the next step depends on."""
        return {name: tensor.detach().cpu().numpy() for name, tensor in self._tensors().items()}

    @torch.no_grad()
    def restore(self, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Continue from a state, bit for bit."""
        for name, tensor in self._tensors().items():
            tensor.copy_(torch.from_numpy(arrays[name]))
        self.epoch, self.step, self.loss_sum = header["epoch"], header["step"], header["loss_sum"]


class Stop:
    """Whether SIGTERM has asked the run to stop; use as a context manager around the training."""

    def __init__(self) -> None:
        self.requested = False

    def _request(self, signum: int, frame: FrameType | None) -> None:
        self.requested = True

    def __enter__(self) -> Stop:
        self._previous = signal.signal(signal.SIGTERM, self._request)
        return self

    def __exit__(self, *exc: object) -> None:
        signal.signal(signal.SIGTERM, self._previous)


def load_split(
    folder: Path,
    split: Literal["train", "test"],
    settings: Mapping[str, Any],
    device: torch.device,
    factors: Mapping[LabelSet, float] | None = None,
) -> tuple[Split, DataSplit]:
    """Load one split of a data set, as it is stored and on the device.

    The training split is the setting's selection, weighted with the `factors` of its label sets where there are some;
    the test split is whole.
    """
    data = open_dataset(folder, split)
    if split == "train":
        counts = {parse_label_set(name): count for name, count in settings["counts"].items()}
        chosen = select(data.label_set, data.label_sets, counts)
        data = replace(data, images=data.images[chosen], label_set=data.label_set[chosen])
    labels = data.label_sets[data.label_set]
    weights = None if factors is None else _label_set_weight(data.label_sets, factors)[data.label_set]
    return Split(data.images, labels, settings["objective"]["target"], device, weights), data


def _label_set_weight(label_sets: np.ndarray, factors: Mapping[LabelSet, float]) -> np.ndarray:
    """ω_S of each multi-hot row, shape (S,); NaN where the setting has no sample of it."""
    return np.array([factors.get(tuple(np.flatnonzero(row).tolist()), np.nan) for row in label_sets])


def _read_factors(path: Path | None, settings: Mapping[str, Any]) -> dict[LabelSet, float] | None:
    """Read the factors ω_S of a setting with sampling weights; None for one without.

    Raises
    ------
    InputError
        If the weights are missing, or not the ones that the settings ask for.
    """
    wanted = settings.get("sampling")
    if wanted is None:
        return None
    if path is None:
        raise InputError(f"sampling {wanted['method']}: its weights are missing; make them with `snakemake theory`")
    found = read_sampling(path)
    counts = {parse_label_set(name): count for name, count in settings["counts"].items()}
    check_sampling(path, found, counts, settings["objective"]["target"])
    if found.method != wanted["method"] or wanted["cap"] not in (None, found.cap):
        raise InputError(
            f"{path}: found weights by {found.method} with cap {found.cap:g}; the setting asks for {wanted['method']}"
            + ("" if wanted["cap"] is None else f" with cap {wanted['cap']:g}")
        )
    return dict(zip(found.natural.label_sets, found.factors.tolist(), strict=True))


def _create_store(
    run: _Run,
    settings: Mapping[str, Any],
    trainer: Trainer,
    train: DataSplit,
    test: DataSplit | None,
    factors: Mapping[LabelSet, float] | None,
) -> EpochWriter:
    width, classes = trainer.classifier.in_features, trainer.classifier.out_features
    arrays = {
        "features_train": EpochArray(("train_sample", "feature"), (len(train.label_set), width), "float32", "features"),
        "classifier_weight": EpochArray(("class", "feature"), (classes, width), "float32", "classifier weight"),
        "classifier_bias": EpochArray(("class",), (classes,), "float32", "classifier bias"),
    } | {name: EpochArray((), (), "float64", text) for name, text in SCALARS.items()}
    static = {
        "label_sets": Array(("label_set", "class"), train.label_sets, "multi-hot label sets"),
        "label_set_train": Array(("train_sample",), train.label_set, "label set of each training sample"),
    }
    if factors is not None:
        weight, text = _label_set_weight(train.label_sets, factors), "sampling weight of each training sample"
        static["label_set_weight"] = Array(("label_set",), weight, text)
    if test is not None:
        sizes = (len(test.label_set), width)
        arrays["features_test"] = EpochArray(("test_sample", "feature"), sizes, "float32", "features")
        arrays |= {name: EpochArray((), (), "float64", text) for name, text in TEST_SCALARS.items()}
        static["label_set_test"] = Array(("test_sample",), test.label_set, "label set of each test sample")
    attributes = {
        **settings["run"],
        "objective": settings["objective"],
        "architecture": settings["network"]["architecture"],
        "class_names": list(train.class_names),
    } | ({} if factors is None else {"sampling": settings["sampling"]})
    return EpochWriter.create(
        run.store, epochs=settings["checkpoints"], arrays=arrays, static=static, attributes=attributes
    )


class _Run:
    """The files of one run: store, state, history, manifest, and whatever an earlier run under other settings left."""

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder, self.identity = folder, identity
        self.store, self.state = folder / "features.zarr", folder / "state" / "state.npz"
        self.history, self.manifest = folder / "history.csv", folder / "manifest.json"
        self.aside = folder / "superseded"

    def set_aside(self) -> None:
        """Move what is there out of the way, until the new run has finished."""
        self.aside.mkdir(exist_ok=True)
        for path in (self.store, self.state, self.history, self.manifest):
            if path.exists():
                target = self.aside / path.name
                if target.exists():
                    # An older generation is here and this one never finished: keep the finished one.
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                else:
                    path.rename(target)

    def write_history(self, losses: list[float], recipe: Mapping[str, Any], epochs: int) -> bytes:
        """Write one line per finished epoch: epoch, learning rate, mean loss of its batches."""
        lines = ["epoch,learning_rate,loss"]
        lines += [f"{e + 1},{learning_rate(recipe, e, epochs)!r},{loss!r}" for e, loss in enumerate(losses)]
        content = ("\n".join(lines) + "\n").encode()
        write_atomically(self.history, content)
        return content

    def write_manifest(self, environment: Mapping[str, Any], history: bytes) -> None:
        store = Store(self.store)
        write_manifest(
            self.manifest,
            {
                "kind": "train",
                "identity": self.identity,
                "identity_hash": hash_json(self.identity),
                "environment": environment,
                "epochs": store.epochs,
                "store": self.store.name,
                "store_digest": store.digest(),
                "history_sha256": hashlib.sha256(history).hexdigest(),
            },
        )

    def remove_superseded(self) -> None:
        """Drop the older generation; this run has finished."""
        shutil.rmtree(self.aside, ignore_errors=True)

    def remove_partial(self) -> None:
        """Remove what killed processes left of small files that they were writing (hold the lock)."""
        for leftover in (*self.folder.glob(".*.partial"), *self.state.parent.glob(".*.partial")):
            leftover.unlink()


def _resume(run: _Run, log: logging.Logger, on_mismatch: str) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """Return the state to go on from, or None for a fresh start (whatever was there has been set aside)."""
    try:
        state = load_state(run.state)
        if state is not None and (found := state[0]["identity"]) != run.identity:
            changes = "; ".join(differences(found, run.identity))
            if on_mismatch == "refuse":
                raise StateMismatchError(
                    f"{run.state}: the resume state belongs to other settings ({changes}); restore them, or start "
                    f"afresh with --fresh"
                )
            log.warning("starting afresh, the state belongs to other settings: %s", changes)
            state = None
        elif state is not None:
            faults = _faults(run.store, state[1])
            if faults:
                raise StoreError("; ".join(faults))
    except StateMismatchError:
        raise
    except StoreError as error:
        if on_mismatch == "refuse":
            raise StoreError(f"{error}; start afresh with --fresh") from error
        log.warning("starting afresh, what is here is damaged: %s", error)
        state = None
    if state is None:
        run.set_aside()
    return state


def _faults(path: Path, state: Mapping[str, np.ndarray]) -> list[str]:
    """Faults of the store among the epochs that the state knows to be finished (it may lag behind the store)."""
    writer = EpochWriter(path)
    writer.restore(state["digests"], state["finished"])
    return Store(path).verify()


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
        samples}), ``epochs``, ``checkpoints``, ``seed``, and ``sampling`` (method, cap) for a setting that weights its
        label sets: plain values, see `ncpipe.config.train_settings`.
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
        If the sampling weights are missing or not the ones that ``settings`` ask for.
    LockedError
        If another process is at work in `folder`.
    StateMismatchError, StoreError
        See `on_mismatch`; also when the data set is damaged or no space is left.
    DivergenceError
        If the loss is not finite: what was checkpointed before stays.
    SystemExit
        With 143 after SIGTERM; the batch was finished and the state written.
    """
    torch.set_num_threads(threads)
    chosen = resolve_device(device)
    digest = dataset_store(data).digest()
    factors = _read_factors(sampling, settings)
    identity = {"settings": settings, "algorithm_version": TRAIN_VERSION, "data": digest}
    if factors is not None:
        identity["label_set_weight"] = hash_json({label_set_name(s): factor for s, factor in factors.items()})
    run = _Run(folder, identity)
    environment = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "ncpipe": ncpipe.__version__,
        "device": chosen.type,
        "threads": threads,
    }
    with space_errors(folder), exclusive(folder), Stop() as stop:
        run.remove_partial()
        state = _resume(run, log, on_mismatch)
        if state is not None and state[0]["epoch"] == settings["epochs"]:
            history = run.write_history(state[1]["history"].tolist(), settings["recipe"], settings["epochs"])
            run.write_manifest(state[0]["environment"], history)
            run.remove_superseded()
            log.info("already finished: all stored digests verified")
            return
        _train(run, settings, factors, state, data, environment, chosen, stop, log)


def _train(
    run: _Run,
    settings: Mapping[str, Any],
    factors: Mapping[LabelSet, float] | None,
    state: tuple[dict[str, Any], dict[str, np.ndarray]] | None,
    data: Path,
    environment: dict[str, Any],
    device: torch.device,
    stop: Stop,
    log: logging.Logger,
) -> None:
    train, train_data = load_split(data, "train", settings, device, factors)
    trainer = Trainer(settings, train, device)
    test, test_data = (None, None) if trainer.free else load_split(data, "test", settings, device)
    checkpoints, epochs, name = settings["checkpoints"], settings["epochs"], Run(**settings["run"]).name

    if state is None:
        writer = _create_store(run, settings, trainer, train_data, test_data, factors)
        losses: list[float] = []
    else:
        header, arrays = state
        if header["environment"] != environment:
            log.warning("the run began elsewhere: %s", "; ".join(differences(header["environment"], environment)))
        writer = EpochWriter(run.store)
        trainer.restore(header, arrays)
        losses = arrays["history"].tolist()
        log.info("going on from epoch %d, step %d", trainer.epoch, trainer.step)

    def save() -> None:
        header = {"identity": run.identity, "environment": environment, **trainer.position()}
        progress_arrays = {"history": np.array(losses), "digests": writer.digests, "finished": writer.finished}
        save_state(run.state, header, trainer.state_arrays() | progress_arrays)

    def checkpoint() -> None:
        writer.write(checkpoints.index(trainer.epoch), trainer.checkpoint(test))
        save()

    if state is None and 0 in checkpoints:
        checkpoint()
    elif state is None:
        save()
    log.info("%s on %s, %d thread(s): %d samples, epochs %d to %d", name, device, environment["threads"], len(train),
             trainer.epoch, epochs)  # fmt: skip
    progress = Progress(name, epochs, len(train), start=trainer.epoch, log=log)
    began = saved = time.monotonic()
    while trainer.epoch < epochs:
        loss = trainer.run_epoch(stop)
        if loss is None:
            save()
            log.warning("SIGTERM: stopped in epoch %d after step %d, state written", trainer.epoch + 1, trainer.step)
            raise SystemExit(143)
        losses.append(loss)
        due = trainer.epoch in checkpoints
        if due:
            checkpoint()
            saved = time.monotonic()
        elif time.monotonic() - saved >= STATE_SECONDS:
            save()
            saved = time.monotonic()
        progress.epoch(trainer.epoch, loss, force=due)
    history = run.write_history(losses, settings["recipe"], epochs)
    run.write_manifest(environment, history)
    run.remove_superseded()
    log.info("finished in %s", clock(time.monotonic() - began))
