"""Every figure of training on one GPU: speed by precision and compilation, share of the peak, epochs, memory, jobs.

``python benchmarks/gpu.py [--quick]`` on a machine with CUDA; it takes some minutes, most of them compilation. Prints
markdown tables. ``--cpu-smoke`` runs the same code in small on a CPU: its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from loops import (
    LOG,
    Workload,
    bare_epoch,
    free_memory,
    interleaved,
    machine,
    our_epoch,
    plain_epoch,
    ratio,
    saver,
    seconds,
    training_gflop,
)

from ncpipe.errors import InputError
from ncpipe.train.arithmetic import arithmetic, check_precision
from ncpipe.train.background import Background
from ncpipe.train.loop import resolve_device

GOAL_STEP, GOAL_EPOCH = 0.97, 1.05
# https://github.com/KellerJordan/cifar10-airbench, README: a tuned standard ResNet-18 on an A100, of 312 TFLOP/s.
AIRBENCH_TFLOPS, AIRBENCH_IMAGES, AIRBENCH_SHARE = 77, 5770, 0.25
PRECISIONS = ("float32", "tf32", "bfloat16", "float16")


@dataclass(frozen=True)
class Plan:
    """What is measured and how often."""

    workloads: tuple[Workload, ...]
    small: Workload
    precisions: tuple[str, ...]
    compile: tuple[bool, ...]
    matrix: int
    repetitions: int
    each: float
    epochs: int
    jobs: tuple[int, ...]
    job_seconds: float


RESNET = Workload(
    "resnet18, width 64, 64 × 64", {"architecture": "resnet18", "width": 64}, (64, 64, 3), 10_000, 2_560, batch=128
)
CNN = Workload("cnn, width 16, 16 × 16", {"architecture": "cnn", "width": 16}, (16, 16, 1), 2_300, 565)
FULL = Plan((RESNET, CNN), CNN, PRECISIONS, (False, True), 8192, 5, 1.0, 5, (1, 2, 4, 8), 10.0)
TINY = Workload("cnn, width 2, 8 × 8", {"architecture": "cnn", "width": 2}, (8, 8, 1), 80, 20, batch=32)
SMOKE = Plan((TINY,), TINY, ("float32", "bfloat16", "tf32"), (False,), 64, 1, 0.01, 2, (1, 2), 0.1)


def peak_tflops(device: torch.device, size: int, precision: str) -> float:
    """Speed of a large matrix product, 10^12 operations a second: what the card really does in this precision."""
    dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision, torch.float32)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    with arithmetic({"precision": precision}, device):
        seconds(lambda: a @ b, 3)
        return 2 * size**3 / min(seconds(lambda: a @ b, 10) for _ in range(5)) / 1e12


def has_precision(precision: str, device: torch.device) -> bool:
    """Whether the device has a precision; says why not where it has not."""
    try:
        check_precision(precision, device)
    except InputError as error:
        print(f"gpu.py: left out: {error}", file=sys.stderr)
        return False
    return True


def variants(workload: Workload, plan: Plan, precisions: Iterable[str]) -> Iterator[tuple[str, Workload]]:
    """The workload in every arithmetic, named."""
    for precision in precisions:
        for compiled in plan.compile:
            entry = {"precision": precision} | ({"compile": True} if compiled else {})
            yield precision + (", compiled" if compiled else ""), replace(workload, arithmetic=entry)


def attempt(name: str, row: Callable[[], str]) -> None:
    """Print a row, or that the card's memory does not hold it."""
    free_memory()
    try:
        print(row(), flush=True)
    except torch.OutOfMemoryError:
        print(f"| {name} | out of memory |", flush=True)


def memory_gb(device: torch.device) -> str:
    """Peak memory since `free_memory`, GB."""
    return f"{torch.cuda.max_memory_allocated() / 1e9:.2f}" if device.type == "cuda" else "–"


def speed_row(name: str, workload: Workload, plan: Plan, device: torch.device, gflop: float, peak: float) -> str:
    """Our loop against the bare step in one arithmetic."""
    full = workload.batch * (workload.samples // workload.batch)
    with arithmetic(workload.arithmetic, device):
        trainer = workload.trainer(device)
        kind = name if trainer.forward is None else f"{name} ({trainer.forward.kind})"
        actions = {"ours": (our_epoch(trainer), workload.samples), "bare": (bare_epoch(trainer), full)}
        rates = interleaved(actions, plan.repetitions, plan.each)
    ours, bare = (statistics.median(rates[side]) for side in ("ours", "bare"))
    tflops = ours * gflop / 1e3
    return (
        f"| {workload.name} | {kind} | {ours:,.0f} | {bare:,.0f} | {ratio(rates, 'ours', 'bare'):.3f} | {tflops:.2f} | "
        f"{100 * tflops / peak:.1f} % | {memory_gb(device)} |"
    )


def plain_row(workload: Workload, plan: Plan, device: torch.device) -> str:
    """The usual DataLoader loop, float32, with what torch allows by itself (TF32 in convolutions), against ours."""
    torch.backends.cudnn.allow_tf32 = True
    actions = {
        "ours": (our_epoch(workload.trainer(device)), workload.samples),
        "plain": (plain_epoch(workload.trainer(device)), workload.samples),
    }
    rates = interleaved(actions, plan.repetitions, plan.each)
    ours, plain = (statistics.median(rates[side]) for side in actions)
    return f"| {workload.name} | {ours:,.0f} | {plain:,.0f} | {ratio(rates, 'ours', 'plain'):.2f} |"


def deterministic_row(workload: Workload, plan: Plan, device: torch.device) -> str:
    """What deterministic algorithms cost."""
    rates = {}
    for name, entry in (("free", workload.arithmetic), ("fixed", workload.arithmetic | {"deterministic": True})):
        with arithmetic(entry, device):
            actions = {name: (our_epoch(replace(workload, arithmetic=entry).trainer(device)), workload.samples)}
            rates |= interleaved(actions, plan.repetitions, plan.each)
    free, fixed = (statistics.median(rates[side]) for side in ("free", "fixed"))
    return f"| {workload.name}, {workload.arithmetic['precision']} | {free:,.0f} | {fixed:,.0f} | {fixed / free:.3f} |"


def epoch_row(workload: Workload, plan: Plan, device: torch.device) -> str:
    """An epoch with evaluation, checkpoint and state, written at once and beside, against training and forward."""
    with arithmetic(workload.arithmetic, device):
        trainer, test = workload.trainer(device), workload.split(workload.test_samples, device)
        train = our_epoch(trainer)

        def forward() -> None:
            trainer.features(trainer.train)
            trainer.features(test)

        def everything(background: Background | None, folder: Path) -> float:
            keeper = saver(trainer, test, folder, plan.epochs, background)
            began = time.perf_counter()
            for epoch in range(plan.epochs):
                train()
                keeper.checkpoint(epoch, test)
            keeper.drain()
            return (time.perf_counter() - began) / plan.epochs

        seconds(train), seconds(forward)  # warm up
        least = seconds(train, plan.epochs) + seconds(forward, plan.epochs)
        spent = []
        for beside in (False, True):
            with tempfile.TemporaryDirectory() as folder, Background(LOG) if beside else nullcontext() as background:
                spent.append(everything(background, Path(folder)))
    cells = [f"{1e3 * t:,.0f}" for t in (least, *spent)]
    ratios = [f"{t / least:.3f}" for t in spent]
    return f"| {workload.name}, {workload.arithmetic['precision']} | {' | '.join(cells)} | {' | '.join(ratios)} |"


def train_for(workload: Workload, device: torch.device, duration: float) -> None:
    """One job of several: prepare, wait for the others, train for some seconds, print images per second."""
    with arithmetic(workload.arithmetic, device):
        trainer = workload.trainer(device)
        epoch = our_epoch(trainer)
        seconds(epoch, 2)
        print("ready", flush=True)
        sys.stdin.readline()
        began, epochs = time.perf_counter(), 0
        while time.perf_counter() - began < duration:
            seconds(epoch)
            epochs += 1
        print(epochs * workload.samples / (time.perf_counter() - began), flush=True)


def concurrent_rates(jobs: int, options: list[str]) -> list[float]:
    """Images per second of each of several processes that train the small network at the same time."""
    command = [sys.executable, __file__, "--job", *options]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(jobs)
    ]
    try:
        lines = [process.stdout.readline().strip() for process in processes if process.stdout]
        if lines != ["ready"] * jobs:
            raise SystemExit("gpu.py: a concurrent job did not start; its own message is above")
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return [float(process.stdout.readline()) for process in processes if process.stdout]
    finally:
        for process in processes:
            process.communicate()


def report(plan: Plan, device: torch.device, options: list[str]) -> None:
    """Print everything."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        print(
            f"{properties.name}, {properties.total_memory / 1e9:.0f} GB, CUDA {torch.version.cuda}, "
            f"cuDNN {torch.backends.cudnn.version()}"
        )
    print(f"{machine()}\n")
    print(f"| product of matrices of {plan.matrix}, precision | TFLOP/s |\n|---|---|")
    peaks = {p: peak_tflops(device, plan.matrix, p) for p in plan.precisions if has_precision(p, device)}
    for precision, tflops in peaks.items():
        print(f"| {precision} | {tflops:.1f} |")
    peak = peaks.get("bfloat16") or max(peaks.values())
    print("\nThe bfloat16 product is what shares of the peak below are of.\n")

    print("| network | arithmetic | ours, images/s | bare step | ours / bare | TFLOP/s | share of peak | peak GB |")
    print("|---|---|---|---|---|---|---|---|")
    for workload in plan.workloads:
        gflop = training_gflop(workload)
        for name, variant in variants(workload, plan, peaks):
            attempt(
                f"{workload.name} | {name}",
                lambda name=name, variant=variant, gflop=gflop: speed_row(name, variant, plan, device, gflop, peak),
            )
    print(
        f"\nGoal: ours / bare >= {GOAL_STEP}. To compare: a tuned standard ResNet-18 (airbench) reaches "
        f"{AIRBENCH_TFLOPS} TFLOP/s on an A100, {100 * AIRBENCH_SHARE:.0f} % of its nominal bfloat16 peak, i.e. "
        f"{AIRBENCH_IMAGES:,} images/s at 64 × 64.\n"
    )

    print("| network, float32 as torch has it | ours, images/s | DataLoader | ours / DataLoader |\n|---|---|---|---|")
    for workload in plan.workloads:
        attempt(workload.name, lambda workload=workload: plain_row(workload, plan, device))

    both = [p for p in ("float32", "bfloat16") if p in peaks]
    fast = [replace(workload, arithmetic={"precision": p}) for workload in plan.workloads for p in both]
    print("\n| network | images/s | deterministic | ratio |\n|---|---|---|---|")
    for workload in fast:
        attempt(workload.name, lambda workload=workload: deterministic_row(workload, plan, device))

    print(
        "\n| network | train + forward, ms | epoch with everything, ms | written beside, ms | ratio | ratio beside |\n"
        "|---|---|---|---|---|---|"
    )
    for workload in fast:
        attempt(workload.name, lambda workload=workload: epoch_row(workload, plan, device))
    print(f"\nGoal: ratio beside <= {GOAL_EPOCH}; a checkpoint and a state every epoch.\n")

    free_memory()
    print(f"| jobs at a time, {plan.small.name} | images/s each | together | against one |\n|---|---|---|---|")
    one = 0.0
    for jobs in plan.jobs:
        rates = concurrent_rates(jobs, options)
        one = one or sum(rates)
        print(f"| {jobs} | {statistics.mean(rates):,.0f} | {sum(rates):,.0f} | {sum(rates) / one:.2f} |", flush=True)
    print("\nSeveral seeds batched in one process are not built, hence not measured.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="no compilation, fewer repetitions")
    parser.add_argument("--cpu-smoke", action="store_true", help="run the code in small on a CPU; a test does")
    parser.add_argument("--job", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    if options.cpu_smoke:
        plan, device = SMOKE, torch.device("cpu")
        torch.set_num_threads(1)
    elif not torch.cuda.is_available():
        raise SystemExit("gpu.py: torch sees no CUDA device here; allowed: a machine with one, or --cpu-smoke")
    else:
        plan, device = FULL, resolve_device("cuda")
        if options.quick:
            plan = replace(plan, compile=(False,), repetitions=2, epochs=2, jobs=(1, 2), job_seconds=3.0)
    if options.job:
        train_for(plan.small, device, plan.job_seconds)
    else:
        report(plan, device, [f"--{key.replace('_', '-')}" for key in ("quick", "cpu_smoke") if getattr(options, key)])


if __name__ == "__main__":
    main()
