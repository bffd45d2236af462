"""What the benchmarks of training share: workloads, and the three loops that are compared on them."""

from __future__ import annotations

import gc
import logging
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from ncpipe.stores.zarr import EpochArray, EpochWriter
from ncpipe.train.background import Background
from ncpipe.train.files import RunFiles
from ncpipe.train.keep import Keep
from ncpipe.train.objective import batch_loss
from ncpipe.train.saving import Saver
from ncpipe.train.splits import Split, pixels
from ncpipe.train.stop import Stop
from ncpipe.train.trainer import Trainer

CLASSES = 10
OBJECTIVE = {
    "loss": "pal", "target": "normalised", "lambda_w": 5e-4, "lambda_h": 0.256, "lambda_b": 5e-4, "bias": True,
}  # fmt: skip
RECIPE = {"lr": 1e-3, "momentum": 0.9, "weight_decay": 5e-4, "schedule": "constant"}
LOG = logging.getLogger("ncpipe")


@dataclass(frozen=True)
class Workload:
    """A network, the shape (H, W, C) of its images, how many there are, and the arithmetic of the recipe."""

    name: str
    network: dict[str, Any]
    shape: tuple[int, int, int]
    samples: int
    test_samples: int
    batch: int = 64
    arithmetic: dict[str, Any] = field(default_factory=dict)

    def data(self, samples: int) -> tuple[np.ndarray, np.ndarray]:
        """Random images with one or two labels of ten, (N, H, W, C) and (N, K); what they show costs nothing."""
        rng = np.random.default_rng(samples)
        labels = np.zeros((samples, CLASSES), np.uint8)
        for _ in range(2):
            labels[np.arange(samples), rng.integers(0, CLASSES, samples)] = 1
        return rng.integers(0, 256, (samples, *self.shape), np.uint8), labels

    def split(self, samples: int, device: torch.device) -> Split:
        """A split of random images on the device."""
        return Split(*self.data(samples), "normalised", device)

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of a run of it."""
        return {"run": {"dataset": "random", "setting": "balanced", "network": self.name, "seed": 0}, "seed": 0,
                "network": self.network, "objective": OBJECTIVE, "epochs": 10**6,
                "recipe": {"batch": self.batch, **RECIPE, **self.arithmetic}}  # fmt: skip

    def trainer(self, device: torch.device) -> Trainer:
        """A run of it, at its start."""
        return Trainer(self.settings, self.split(self.samples, device), device)


def seconds(action: Callable[[], object], calls: int = 1) -> float:
    """Wall time of one call, averaged over several; what a device still does is waited for."""
    began = time.perf_counter()
    for _ in range(calls):
        action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / calls


def our_epoch(trainer: Trainer) -> Callable[[], object]:
    """One epoch of the pipeline's loop."""
    stop = Stop()
    return lambda: trainer.run_epoch(stop)


def bare_epoch(trainer: Trainer) -> Callable[[], object]:
    """Forward, backward and step on one resident batch, as often as an epoch has full batches."""
    images, targets = pixels(trainer.train.images[: trainer.batch]), trainer.train.targets[: trainer.batch]

    def epoch() -> None:
        trainer.backbone.train()
        for _ in range(len(trainer.train) // trainer.batch):
            trainer.descend(images, targets, None, RECIPE["lr"], RECIPE["momentum"])

    return epoch


def plain_epoch(trainer: Trainer) -> Callable[[], object]:
    """The usual loop: float images sample by sample from a DataLoader, `torch.optim.SGD`, the loss read every step."""
    device = trainer.device
    data = TensorDataset(pixels(trainer.train.images).contiguous().cpu(), trainer.train.targets.cpu())
    loader = DataLoader(data, batch_size=trainer.batch, shuffle=True)
    parameters = [*trainer.backbone.parameters(), *trainer.classifier.parameters()]
    optimiser = torch.optim.SGD(parameters, lr=RECIPE["lr"], momentum=0.9, weight_decay=5e-4)

    def epoch() -> None:
        trainer.backbone.train()
        total = 0.0
        for images, targets in loader:
            features = trainer.backbone(images.to(device))
            loss = batch_loss(trainer.classifier(features), features, targets.to(device), trainer.lambda_h)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item()

    return epoch


def interleaved(
    actions: Mapping[str, tuple[Callable[[], object], int]], repetitions: int, each: float
) -> dict[str, list[float]]:
    """Images per second of each action, {name: (action, images)}, over repetitions in which all took their turn.

    Each is timed over as many calls as take about `each` seconds.
    """
    for action, _ in actions.values():
        action()  # warms up
    calls = [max(1, round(each / seconds(action))) for action, _ in actions.values()]
    rates: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repetitions):
        for (name, (action, images)), count in zip(actions.items(), calls, strict=True):
            rates[name].append(images / seconds(action, count))
    return rates


def ratio(rates: Mapping[str, Sequence[float]], one: str, other: str) -> float:
    """Median ratio of two rates that were measured side by side."""
    return statistics.median(a / b for a, b in zip(rates[one], rates[other], strict=True))


def saver(trainer: Trainer, test: Split, folder: Path, epochs: int, background: Background | None) -> Saver:
    """Everything that keeps a run's checkpoints and states, in `folder`, for as many checkpoints as `epochs`."""
    values = trainer.checkpoint(test)
    arrays = {
        name: EpochArray(tuple(f"{name}_{i}" for i in range(v.ndim)), tuple(v.shape), v.cpu().numpy().dtype.str, name)
        for name, v in values.items()
    }
    writer = EpochWriter.create(folder / "features.zarr", epochs=range(epochs), arrays=arrays, static={}, attributes={})
    label_set = {"train": np.zeros(len(trainer.train), np.int64), "test": np.zeros(len(test), np.int64)}
    keep = Keep(trainer.settings, np.eye(CLASSES, dtype=np.uint8)[:1], label_set, None)
    return Saver(RunFiles(folder, {}), trainer, keep, writer, {}, [], background)


def training_gflop(workload: Workload) -> float:
    """Floating-point operations of training on one image once, 10^9: forward and backward, counted by torch."""
    from torch.utils.flop_counter import FlopCounterMode

    small = Workload(workload.name, workload.network, workload.shape, 2, 1, batch=2)
    trainer = small.trainer(torch.device("cpu"))
    with FlopCounterMode(display=False) as counter:
        trainer.backbone(pixels(trainer.train.images)).sum().backward()
    return counter.get_total_flops() / 2 / 1e9


def free_memory() -> None:
    """Give back what the last measurement held on a CUDA device, and start its peak anew."""
    gc.collect()
    if torch.cuda.is_available():
        torch.compiler.reset()  # CUDA graphs hold memory
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def machine() -> str:
    """What the numbers were measured on, without its name."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if "model name" in line
    ]
    model = models[0] if models else platform.machine()
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{model}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s) used; {versions}"
