"""What BLAS's default threads cost on small matrices, alone and beside busy neighbours.

    python benchmarks/threads.py

Solves an optimum of 6 and of 53 classes with one thread, as every solver does, and with the default of BLAS: idle, and
beside two processes that keep a core busy each. Prints markdown; ratios are to one thread under the same load.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
from threadpoolctl import ThreadpoolController

from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.settings import Objective
from ncpipe.optimum.optimum import solve

OBJECTIVE = Objective("normalised", 5e-4, 0.256, 5e-4)
CLASSES = (6, 53)
UNLIMITED = solve.__wrapped__  # type: ignore[attr-defined]  # without its limit of one thread


def popular(classes: int, *, seed: int = 0) -> LabelDistribution:
    """Five label sets a class: every class alone, and random pairs and triples."""
    rng = np.random.default_rng(seed)
    counts = {(k,): float(rng.integers(5, 200)) for k in range(classes)}
    for _ in range(4 * classes):
        members = rng.choice(classes, int(rng.integers(2, 4)), replace=False)
        counts[tuple(sorted(members.tolist()))] = float(rng.integers(1, 50))
    return LabelDistribution.from_counts(counts, classes)


def seconds(classes: int, threads: int) -> float:
    """Time to a relative gap of 1e-4 with this many BLAS threads."""
    distribution = popular(classes)
    with ThreadpoolController().limit(limits=threads, user_api="blas"):
        start = time.perf_counter()
        UNLIMITED(distribution, OBJECTIVE, rtol=1e-4)
        return time.perf_counter() - start


@contextlib.contextmanager
def neighbours(number: int) -> Iterator[None]:
    """Processes that keep a core busy each."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, nargs="+", default=CLASSES)
    parser.add_argument("--neighbours", type=int, default=2, help="busy processes (default: 2)")
    options = parser.parse_args()
    threads = max((pool["num_threads"] for pool in ThreadpoolController().info()), default=1)
    print("| classes | busy neighbours | seconds, 1 thread | seconds, default | threads | ratio |")
    print("|---|---|---|---|---|---|")
    for classes in options.classes:
        seconds(classes, 1)  # the first call pays for imports
        for number in (0, options.neighbours):
            with neighbours(number):
                one, default = seconds(classes, 1), seconds(classes, threads)
            print(f"| {classes} | {number} | {one:.2f} | {default:.2f} | {threads} | {default / one:.1f} |", flush=True)


if __name__ == "__main__":
    main()
