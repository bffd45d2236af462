"""The training loop on a CPU against the bare step, a plain DataLoader loop, and what a checkpoint adds to an epoch.

Prints four markdown tables and the machine they were measured on; every ratio is the median over repetitions in which
its sides ran one after the other. ``OMP_NUM_THREADS=1 python benchmarks/training.py [--quick]``
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loops import (
    Workload,
    bare_epoch,
    interleaved,
    machine,
    our_epoch,
    plain_epoch,
    ratio,
    saver,
    seconds,
)

from ncpipe.experiment.plan import checkpoint_epochs
from ncpipe.train.allocator import keep_freed_memory
from ncpipe.train.arithmetic import arithmetic

GOAL_STEP, GOAL_EPOCH, GOAL_WRITE = 0.97, 1.05, 0.02
EPOCHS = 200
CHECKPOINTS = len(checkpoint_epochs("log", EPOCHS, EPOCHS))
SECONDS_EACH = 0.3  # what is timed at once: epochs of a small network are too short for a busy machine
FEW, MANY = 2, 6  # times as many images, to see what one more takes: so many fill an evaluation batch
MEMORY = 3  # workloads whose memory is measured; the last would take too long
CPU = torch.device("cpu")
ARITHMETIC: dict[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16": {"precision": "bfloat16"},
    "deterministic": {"deterministic": True},
}
RESNET = {"architecture": "resnet18", "stem_stride": 2}
WORKLOADS = (  # with the most repetitions that each is worth
    (Workload("cnn, width 16, 16 × 16", {"architecture": "cnn", "width": 16}, (16, 16, 1), 2300, 565), 40),
    (Workload("mlp 256-512-64", {"architecture": "mlp", "hidden": [512], "features": 64}, (16, 16, 1), 2300, 565), 40),
    (Workload("resnet18, width 16, stem stride 2, 56 × 56", RESNET | {"width": 16}, (56, 56, 1), 640, 128), 20),
    (Workload("resnet18, width 64, stem stride 2, 56 × 56", RESNET | {"width": 64}, (56, 56, 1), 128, 64), 6),
)


def compare_steps(workload: Workload, repetitions: int) -> str:
    """A table row: images per second of each loop, and our ratio to the others."""
    full = workload.batch * (workload.samples // workload.batch)
    actions = {
        "ours": (our_epoch(workload.trainer(CPU)), workload.samples),
        "bare": (bare_epoch(workload.trainer(CPU)), full),
        "plain": (plain_epoch(workload.trainer(CPU)), workload.samples),
    }
    rates = interleaved(actions, repetitions, SECONDS_EACH)
    cells = [f"{statistics.median(rates[name]):,.0f}" for name in actions]
    to_bare, to_plain = ratio(rates, "ours", "bare"), ratio(rates, "ours", "plain")
    return f"| {workload.name} | {' | '.join(cells)} | {to_bare:.3f} | {to_plain:.2f} |"


def compare_arithmetic(workload: Workload, repetitions: int) -> str:
    """A table row: bfloat16, and deterministic algorithms, in speed over float32 without them."""
    actions = {}
    for name, entry in ARITHMETIC.items():
        epoch = our_epoch(replace(workload, arithmetic=workload.arithmetic | entry).trainer(CPU))

        def inside(epoch: Callable[[], object] = epoch, entry: dict[str, Any] = entry) -> None:
            with arithmetic(entry, CPU):
                epoch()

        actions[name] = (inside, workload.samples)
    rates = interleaved(actions, repetitions, SECONDS_EACH)
    speeds = (f"{ratio(rates, name, 'float32'):.2f}" for name in ("bfloat16", "deterministic"))
    return f"| {workload.name} | {' | '.join(speeds)} |"


def compare_epochs(workload: Workload, repetitions: int, folder: Path) -> str:
    """A table row: an epoch with evaluation, checkpoint and state against training and evaluation forward."""
    trainer, test = workload.trainer(CPU), workload.split(workload.test_samples, CPU)
    keeper = saver(trainer, test, folder, repetitions + 1, None)
    write, spent = keeper.writer.write, []
    keeper.writer.write = lambda *values: spent.append(seconds(lambda: write(*values)))  # type: ignore[method-assign]
    train = our_epoch(trainer)
    times = []  # (repetitions + 1, 5): train, checkpoint and state, of these the store; train again, forward
    for epoch in range(repetitions + 1):
        began = time.perf_counter()
        train()
        trained = time.perf_counter()
        keeper.checkpoint(epoch, test)
        extra = time.perf_counter() - trained
        forward = seconds(train), seconds(lambda: (trainer.features(trainer.train), trainer.features(test)))
        times.append((trained - began, extra, spent[-1], *forward))
    train_1, extra, store, train_2, forward = np.array(times[1:]).T  # the first warms up
    whole = np.median((train_1 + extra) / (train_2 + forward))
    share = np.median(store / (train_1 + extra))
    training = EPOCHS * np.median([train_1, train_2])
    run = (training + CHECKPOINTS * np.median(extra)) / (training + CHECKPOINTS * np.median(forward))
    milliseconds = [f"{1e3 * np.median(t):.{digits}f}" for t, digits in
                    ((train_1 + extra, 0), (train_2 + forward, 0), (store, 1))]  # fmt: skip
    return f"| {workload.name} | {' | '.join(milliseconds)} | {whole:.3f} | {100 * share:.1f} % | {run:.3f} |"


def high_water() -> float:
    """Peak memory of this process, MB; `getrusage` would count the parent's, too, which exec inherits."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def peak_memory(workload: Workload, folder: Path) -> tuple[float, float]:
    """Peak memory of this process, MB: with everything imported, and after an epoch and its checkpoint."""
    imported = high_water()
    trainer, test = workload.trainer(CPU), workload.split(workload.test_samples, CPU)
    our_epoch(trainer)()
    saver(trainer, test, folder, 1, None).checkpoint(0, test)
    return imported, high_water()


def compare_memory(position: int) -> str:
    """A table row: peak memory over what the imports take, and what one more image adds to it, in its own process."""
    workload, _ = WORKLOADS[position]
    peaks = []
    for times in (FEW, MANY):
        command = [sys.executable, __file__, "--memory", str(position), str(times)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        peaks.append(tuple(map(float, output)))
    (imported, peak), (_, larger) = peaks
    image = int(np.prod(workload.shape))
    added = 1e6 * (larger - peak) * 1.048576 / ((MANY - FEW) * (workload.samples + workload.test_samples))
    images = FEW * (workload.samples + workload.test_samples)
    return f"| {workload.name} | {images:,} | {imported:,.0f} | {peak - imported:,.0f} | {added:,.0f} | {image:,} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="few repetitions: a minute or two, ratios within some percent"
    )
    parser.add_argument(
        "--default-allocator", action="store_true", help="let the C library hand freed memory back, as runs do not"
    )
    parser.add_argument("--memory", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept = not options.default_allocator and keep_freed_memory()
    if options.memory:
        position, times = options.memory
        workload, _ = WORKLOADS[position]
        with tempfile.TemporaryDirectory() as folder:
            print(*peak_memory(replace(workload, samples=times * workload.samples,
                                       test_samples=times * workload.test_samples), Path(folder)))  # fmt: skip
        return
    plan = [(workload, min(most, 5) if options.quick else most) for workload, most in WORKLOADS]
    repeated = ", ".join(str(repetitions) for _, repetitions in plan)
    freed = "kept" if kept else "handed back"
    print(f"{machine()}; medians of {repeated} repetitions; freed memory is {freed}\n")
    print("| network | ours, images/s | bare step | DataLoader | ours / bare | ours / DataLoader |")
    print("|---|---|---|---|---|---|")
    for workload, repetitions in plan:
        print(compare_steps(workload, repetitions), flush=True)
    print(f"\nGoal: ours / bare >= {GOAL_STEP}.\n")
    print(
        "| network | epoch with checkpoint, ms | train + forward, ms | store write, ms | ratio | share of it | a run |"
    )
    print("|---|---|---|---|---|---|---|")
    for workload, repetitions in plan:
        with tempfile.TemporaryDirectory() as folder:
            print(compare_epochs(workload, repetitions, Path(folder)), flush=True)
    print(f"\nGoals: ratio <= {GOAL_EPOCH}, share <= {100 * GOAL_WRITE:.0f} %.")
    print(
        f"A run: the ratio over {EPOCHS} epochs with the {CHECKPOINTS} checkpoints of `log`, as the default has them.\n"
    )
    print("| network | bfloat16 / float32 | deterministic / not |")
    print("|---|---|---|")
    for workload, repetitions in plan:
        print(compare_arithmetic(workload, repetitions), flush=True)
    print()
    print("| network | images | imports, MB | peak above them, MB | bytes for one more image | its pixels, bytes |")
    print("|---|---|---|---|---|---|")
    for position in range(MEMORY):
        print(compare_memory(position), flush=True)


if __name__ == "__main__":
    main()
