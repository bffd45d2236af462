"""The training loop against the bare step, a plain DataLoader loop, and what a checkpoint adds to an epoch.

Prints two markdown tables and the machine they were measured on; every ratio is the median over repetitions in which
its two sides ran one after the other. ``OMP_NUM_THREADS=1 python benchmarks/training.py [--quick]``
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from ncpipe.config import checkpoint_epochs
from ncpipe.stores import EpochArray, EpochWriter
from ncpipe.train.objective import batch_loss
from ncpipe.train.splits import Split, pixels
from ncpipe.train.state import save_state
from ncpipe.train.stop import Stop
from ncpipe.train.trainer import Trainer

GOAL_STEP, GOAL_EPOCH, GOAL_WRITE = 0.97, 1.05, 0.02
EPOCHS = 200
CHECKPOINTS = len(checkpoint_epochs("log", EPOCHS, EPOCHS))
SECONDS_EACH = 0.3  # what is timed at once: epochs of a small network are too short for a busy machine
OBJECTIVE = {"target": "normalised", "lambda_w": 5e-4, "lambda_h": 0.256, "lambda_b": 5e-4, "bias": True}
DEVICE = torch.device("cpu")


@dataclass(frozen=True)
class Workload:
    """A network, the shape (H, W, C) of its images, and how many there are."""

    name: str
    network: dict[str, Any]
    shape: tuple[int, int, int]
    samples: int
    test_samples: int
    batch: int = 64

    def split(self, samples: int) -> Split:
        """Random images with one or two labels of ten; what they show costs nothing."""
        rng = np.random.default_rng(samples)
        labels = np.zeros((samples, 10), np.uint8)
        for _ in range(2):
            labels[np.arange(samples), rng.integers(0, 10, samples)] = 1
        images = rng.integers(0, 256, (samples, *self.shape), np.uint8)
        return Split(images, labels, "normalised", DEVICE)

    def trainer(self) -> Trainer:
        """A run of it, at its start."""
        recipe = {"batch": self.batch, "lr": 1e-3, "momentum": 0.9, "weight_decay": 5e-4, "schedule": "constant"}
        settings = {"run": {"dataset": "random", "setting": "balanced", "network": self.name, "seed": 0}, "seed": 0,
                    "network": self.network, "objective": OBJECTIVE, "recipe": recipe, "epochs": 10**6}  # fmt: skip
        return Trainer(settings, self.split(self.samples), DEVICE)


WORKLOADS = (
    Workload("cnn, width 16, 16 × 16", {"architecture": "cnn", "width": 16}, (16, 16, 1), 2300, 565),
    Workload("mlp 256-512-64", {"architecture": "mlp", "hidden": [512], "features": 64}, (16, 16, 1), 2300, 565),
    Workload("resnet18, width 16, 32 × 32", {"architecture": "resnet18", "width": 16}, (32, 32, 3), 640, 128),
)


def seconds(action: Callable[[], object], calls: int = 1) -> float:
    """Wall time of one call, averaged over several."""
    began = time.perf_counter()
    for _ in range(calls):
        action()
    return (time.perf_counter() - began) / calls


def on_host(tensors: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Tensors as arrays."""
    return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}


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
            features = trainer.backbone(images)
            batch_loss(trainer.classifier(features), features, targets, trainer.lambda_h).backward()
            for group in trainer.groups:
                group.step(1e-3, 0.9)

    return epoch


def plain_epoch(trainer: Trainer) -> Callable[[], object]:
    """The usual loop: float images sample by sample from a DataLoader, `torch.optim.SGD`, the loss read every step."""
    data = TensorDataset(pixels(trainer.train.images).contiguous(), trainer.train.targets)
    loader = DataLoader(data, batch_size=trainer.batch, shuffle=True)
    parameters = [*trainer.backbone.parameters(), *trainer.classifier.parameters()]
    optimiser = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, weight_decay=5e-4)

    def epoch() -> None:
        trainer.backbone.train()
        total = 0.0
        for images, targets in loader:
            features = trainer.backbone(images)
            loss = batch_loss(trainer.classifier(features), features, targets, trainer.lambda_h)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item()

    return epoch


def compare_steps(workload: Workload, repetitions: int) -> str:
    """A table row: images per second of each loop, and our ratio to the others."""
    trainer = workload.trainer()
    full = trainer.batch * (workload.samples // trainer.batch)
    actions = {
        "ours": (our_epoch(trainer), workload.samples),
        "bare": (bare_epoch(workload.trainer()), full),
        "plain": (plain_epoch(workload.trainer()), workload.samples),
    }
    rates: dict[str, list[float]] = {name: [] for name in actions}
    for action, _ in actions.values():
        action()  # warms up
    calls = [max(1, round(SECONDS_EACH / seconds(action))) for action, _ in actions.values()]
    for _ in range(repetitions):
        for (name, (action, images)), count in zip(actions.items(), calls, strict=True):
            rates[name].append(images / seconds(action, count))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    to_bare, to_plain = (
        statistics.median(a / b for a, b in zip(rates["ours"], rates[other], strict=True))
        for other in ("bare", "plain")
    )
    cells = [f"{medians[name]:,.0f}" for name in ("ours", "bare", "plain")]
    return f"| {workload.name} | {' | '.join(cells)} | {to_bare:.3f} | {to_plain:.2f} |"


def compare_epochs(workload: Workload, repetitions: int, folder: Path) -> str:
    """A table row: an epoch with evaluation, checkpoint and state against training and evaluation forward."""
    trainer, test = workload.trainer(), workload.split(workload.test_samples)
    values = on_host(trainer.checkpoint(test))
    arrays = {
        name: EpochArray(tuple(f"{name}_{axis}" for axis in range(value.ndim)), value.shape, value.dtype.str, name)
        for name, value in values.items()
    }
    epochs = range(repetitions + 1)
    writer = EpochWriter.create(folder / "features.zarr", epochs=epochs, arrays=arrays, static={}, attributes={})
    train = our_epoch(trainer)
    times = []  # (repetitions + 1, 5): train, checkpoint and state, of these the store; train again, forward
    for epoch in epochs:
        began = time.perf_counter()
        train()
        trained = time.perf_counter()
        values = on_host(trainer.checkpoint(test))
        write = seconds(lambda values=values, epoch=epoch: writer.write(epoch, values))
        save_state(folder / "state.npz", {"epoch": trainer.epoch}, trainer.state_arrays())
        extra = time.perf_counter() - trained
        forward = seconds(train), seconds(lambda: (trainer.features(trainer.train), trainer.features(test)))
        times.append((trained - began, extra, write, *forward))
    train_1, extra, write, train_2, forward = np.array(times[1:]).T  # the first warms up
    ratio = np.median((train_1 + extra) / (train_2 + forward))
    share = np.median(write / (train_1 + extra))
    training = EPOCHS * np.median([train_1, train_2])
    run = (training + CHECKPOINTS * np.median(extra)) / (training + CHECKPOINTS * np.median(forward))
    milliseconds = [f"{1e3 * np.median(t):.{digits}f}" for t, digits in
                    ((train_1 + extra, 0), (train_2 + forward, 0), (write, 1))]  # fmt: skip
    return f"| {workload.name} | {' | '.join(milliseconds)} | {ratio:.3f} | {100 * share:.1f} % | {run:.3f} |"


def machine() -> str:
    """What the numbers were measured on, without its name."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    model = models[0] if models else platform.machine()
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{model}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s) used; {versions}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="few repetitions: half a minute, ratios within some percent"
    )
    repetitions = 5 if parser.parse_args().quick else 40
    torch.set_num_threads(1)
    print(f"{machine()}; medians of {repetitions} repetitions\n")
    print("| network | ours, images/s | bare step | DataLoader | ours / bare | ours / DataLoader |")
    print("|---|---|---|---|---|---|")
    for workload in WORKLOADS:
        print(compare_steps(workload, repetitions), flush=True)
    print(f"\nGoal: ours / bare >= {GOAL_STEP}.\n")
    print(
        "| network | epoch with checkpoint, ms | train + forward, ms | store write, ms | ratio | share of it | a run |"
    )
    print("|---|---|---|---|---|---|---|")
    for workload in WORKLOADS:
        with tempfile.TemporaryDirectory() as folder:
            print(compare_epochs(workload, repetitions, Path(folder)), flush=True)
    print(f"\nGoals: ratio <= {GOAL_EPOCH}, share <= {100 * GOAL_WRITE:.0f} %.")
    print(
        f"A run: the ratio over {EPOCHS} epochs with the {CHECKPOINTS} checkpoints of `log`, as the default has them."
    )


if __name__ == "__main__":
    main()
