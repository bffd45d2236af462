"""What label data costs: the spectrum from sparse labels, and the ReLU certificate over the number of classes.

    python benchmarks/labels.py             a minute or two
    python benchmarks/labels.py --quick     a tenth of the samples, up to 15 classes

Prints markdown. Threads are those of the environment (OMP_NUM_THREADS).
"""

from __future__ import annotations

import argparse
import resource
import time
from itertools import combinations

import numpy as np
from scipy import sparse

from ncpipe.labels.distribution import LabelDistribution
from ncpipe.labels.spectrum import pooled_covariance, pooled_spectrum
from ncpipe.objective.settings import Objective
from ncpipe.optimum.optimum import solve
from ncpipe.optimum.relu import solve_relu

OBJECTIVE = Objective("normalised", 5e-4, 0.256, 5e-4)


def sparse_labels(samples: int, classes: int, *, seed: int = 0) -> sparse.csr_array:
    """One to five labels for each sample, every class of some sample's."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 6, samples)
    rows = np.repeat(np.arange(samples), sizes)
    columns = rng.integers(0, classes, sizes.sum())
    columns[np.cumsum(sizes)[:classes] - 1] = np.arange(classes)
    labels = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(samples, classes))
    labels.data[:] = 1
    return labels


def spectrum_rows(samples: int) -> None:
    """Time and peak memory of reading a label matrix and of its pooled spectrum; the dense way where it can follow."""
    print("| classes | samples | label sets | merge s | spectrum s | kappa | accuracy | dense s | peak MB |")
    print(f"{'|---:' * 9}|")
    for classes in (100, 1000, 10_000):
        labels = sparse_labels(samples, classes)
        start = time.perf_counter()
        distribution = LabelDistribution.from_matrix(labels)
        merged = time.perf_counter()
        spectrum = pooled_spectrum(distribution, "normalised")
        done = time.perf_counter()
        dense = "–"
        if classes <= 1000:
            again = time.perf_counter()
            kappa = np.linalg.eigvalsh(pooled_covariance(distribution, "normalised"))[1]
            dense = f"{time.perf_counter() - again:.2f}"
            if abs(kappa - spectrum.kappa) > 1e-8 * spectrum.kappa_max:
                raise ValueError(f"the two ways disagree: {kappa} and {spectrum.kappa}")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"| {classes} | {samples:,} | {len(distribution.counts):,} | {merged - start:.2f} | {done - merged:.2f} "
            f"| {spectrum.kappa:.3g} | {spectrum.accuracy:.0e} | {dense} | {peak:,.0f} |"
        )


def relu_rows(sizes: list[int]) -> None:
    """Time and gap of the certificate over features >= 0, beside the convex optimum's, all singles and pairs."""
    print(
        f"\n| classes | label sets | convex s | convex gap | ReLU s | ReLU gap | ReLU / convex value |\n{'|---:' * 7}|"
    )
    for classes in sizes:
        counts = {(k,): 3100.0 * (1 if k < classes // 2 else 0.2) for k in range(classes)}
        distribution = LabelDistribution.from_counts(
            counts | dict.fromkeys(combinations(range(classes), 2), 200.0), classes
        )
        start = time.perf_counter()
        convex = solve(distribution, OBJECTIVE)
        middle = time.perf_counter()
        relu = solve_relu(distribution, OBJECTIVE)
        end = time.perf_counter()
        print(
            f"| {classes} | {len(distribution.counts)} | {middle - start:.3f} | {convex.relative_gap:.0e} "
            f"| {end - middle:.2f} | {relu.relative_gap:.0e} | {relu.objective / convex.objective:.4f} |"
        )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    spectrum_rows(100_000 if quick else 1_000_000)
    relu_rows([5, 10, 15] if quick else [5, 10, 15, 20, 30, 40])


if __name__ == "__main__":
    main()
