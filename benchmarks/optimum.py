"""Time and certified gap of the optimum solver, against general convex solvers and over sizes.

    python benchmarks/optimum.py              about a minute
    python benchmarks/optimum.py --long       up to 1,000 classes and 50,000 label sets

Prints markdown. Threads are those of the environment (OMP_NUM_THREADS), one in the tables of the documentation.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from itertools import combinations
from typing import TypeVar

import cvxpy as cp
import numpy as np

from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.settings import Objective
from ncpipe.optimum.optimum import solve

Result = TypeVar("Result")

OBJECTIVE = Objective("normalised", 5e-4, 0.256, 5e-4)
QUICK_CLASSES, LONG_CLASSES = (10, 20, 40, 80), (10, 20, 50, 100, 200, 500, 1000)
QUICK_SETS, LONG_SETS = (50, 500, 5000), (50, 500, 5000, 50_000)


def reference_setting(ratio: float) -> LabelDistribution:
    """Ten classes alone (half of them at the ratio) and all 45 pairs."""
    counts = {(k,): 3100 * (1 if k < 5 else ratio) for k in range(10)}
    return LabelDistribution.from_counts(counts | dict.fromkeys(combinations(range(10), 2), 200), 10)


def zipf(classes: int, label_sets: int, *, seed: int = 0) -> LabelDistribution:
    """All classes alone, and random sets of two to four of them, popular classes more often."""
    rng = np.random.default_rng(seed)
    popularity = np.arange(1, classes + 1) ** -0.7
    popularity /= popularity.sum()
    counts = {(k,): float(rng.integers(5, 200)) for k in range(min(classes, label_sets))}
    while len(counts) < label_sets:
        size = int(rng.integers(2, min(7, classes)))
        members = rng.choice(classes, size, p=popularity, replace=False)
        counts[tuple(sorted(members.tolist()))] = float(rng.integers(1, 50))
    return LabelDistribution.from_counts(counts, classes)


def by_cvxpy(distribution: LabelDistribution, solver: str) -> float:
    """Value of (8) that a general solver ends at, with its own default tolerances."""
    weights, t = distribution.weights, distribution.targets("normalised")
    z, b = cp.Variable(t.shape), cp.Variable((1, distribution.classes))
    logits = z + np.ones((len(weights), 1)) @ b
    value = cp.sum(cp.multiply(weights, cp.log_sum_exp(logits, axis=1)))
    value -= cp.sum(cp.multiply(weights[:, None] * t, logits))
    value += OBJECTIVE.lam * cp.normNuc(cp.diag(np.sqrt(weights)) @ z)
    value += 0.5 * OBJECTIVE.lambda_b * cp.sum_squares(b)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # SCS says that it may be inaccurate: the gap column says how much
        return float(cp.Problem(cp.Minimize(value)).solve(solver=solver))


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """Seconds and result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def compare() -> None:
    """Ours against Clarabel and SCS, in one run, on the reference setting."""
    print("| r | solver | seconds | value | relative gap to the certified bound |\n|---|---|---|---|---|")
    for ratio in (1.0, 0.2, 0.1):
        distribution = reference_setting(ratio)
        solve(distribution, OBJECTIVE)  # the first call pays for imports
        seconds, optimum = timed(lambda d=distribution: solve(d, OBJECTIVE))
        bound = optimum.lower_bound
        rows = [("ncpipe", seconds, optimum.objective)]
        for solver in (cp.CLARABEL, cp.SCS):
            rows.append((solver, *timed(lambda d=distribution, s=solver: by_cvxpy(d, s))))
        for name, seconds, value in rows:
            print(f"| {ratio} | {name} | {seconds:.3f} | {value:.9f} | {(value - bound) / bound:.1e} |", flush=True)


def grow(label: str, cases: list[tuple[int, LabelDistribution]], rtol: float) -> None:
    """Seconds over sizes, and the exponent that fits them over the upper half."""
    print("\n| classes | label sets | seconds | iterations | relative gap | rank |\n|---|---|---|---|---|---|")
    sizes, times = [], []
    for size, distribution in cases:
        seconds, optimum = timed(lambda d=distribution: solve(d, OBJECTIVE, rtol=rtol))
        sizes.append(size)
        times.append(seconds)
        print(
            f"| {distribution.classes} | {len(distribution.counts)} | {seconds:.2f} | {optimum.iterations} "
            f"| {optimum.relative_gap:.1e} | {optimum.rank} |",
            flush=True,
        )
    half = len(sizes) // 2
    exponent = np.polyfit(np.log(sizes[half - 1 :]), np.log(times[half - 1 :]), 1)[0]
    print(f"\nSeconds grow as {label}^{exponent:.2f} over the upper half.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--long", action="store_true", help="sizes that take minutes")
    parser.add_argument("--rtol", type=float, default=1e-6, help="relative gap asked for in the growth tables")
    options = parser.parse_args()
    compare()
    classes, sets = (LONG_CLASSES, LONG_SETS) if options.long else (QUICK_CLASSES, QUICK_SETS)
    grow("classes", [(k, zipf(k, 5 * k)) for k in classes], options.rtol)
    grow("label sets", [(s, zipf(20, s)) for s in sets], options.rtol)


if __name__ == "__main__":
    main()
