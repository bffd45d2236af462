"""Collapse metrics of one epoch at the paper's scale, against one pass over the memory and a per-sample way.

Prints a markdown table; all ratios come from one run. ``python benchmarks/metrics.py``
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import combinations

import numpy as np

from ncpipe.geometry.measure import classifier_metrics, geometry_metrics
from ncpipe.geometry.metrics import condense
from ncpipe.geometry.record import Record
from ncpipe.labels.distribution import LabelDistribution

SAMPLES, WIDTH, CLASSES = 40_000, 512, 10
NAIVE_SHARE = 40  # the per-sample way runs on every 40th sample, and its time is multiplied


def per_sample(features: np.ndarray, label_set: np.ndarray, distribution: LabelDistribution) -> np.ndarray:
    """Within-class covariance the way the published codes do it: one outer product for each sample."""
    singles = distribution.multiplicity == 1
    means = [features[label_set == s].mean(axis=0) for s in range(len(singles))]
    covariance = np.zeros((features.shape[1],) * 2, dtype=features.dtype)
    for row, s in zip(features, label_set, strict=True):
        if singles[s]:
            deviation = row - means[s]
            covariance += np.outer(deviation, deviation)
    return covariance


def fastest(function: Callable[[], object], repeats: int = 9) -> float:
    """Least wall time of several calls, in milliseconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def main() -> None:
    counts = {(k,): 3100 for k in range(CLASSES)} | dict.fromkeys(combinations(range(CLASSES), 2), 200)
    distribution = LabelDistribution.from_counts(counts, CLASSES)
    label_set = np.repeat(np.arange(len(distribution.counts)), distribution.counts.astype(int))
    rng = np.random.default_rng(0)
    features = rng.random((SAMPLES, WIDTH), dtype=np.float32)
    weight = rng.standard_normal((CLASSES, WIDTH))
    bias = np.zeros(CLASSES)
    sample = slice(None, None, NAIVE_SHARE)

    def metrics() -> None:
        record = Record()
        place = {"epoch": 0, "split": "train"}
        classifier_metrics(record, place, weight)
        geometry_metrics(record, place, condense(features, label_set, distribution), weight, bias)

    one_pass = fastest(features.sum)
    rows = {
        "one pass over the memory, `features.sum()`": one_pass,
        "one pass in float64, `features.sum(dtype=float64)`": fastest(lambda: features.sum(dtype=np.float64)),
        "label-set means and within-class scatter (`condense`)": fastest(
            lambda: condense(features, label_set, distribution)
        ),
        "all geometry metrics of the epoch": fastest(metrics),
        "one outer product per sample (estimated)": NAIVE_SHARE
        * fastest(lambda: per_sample(features[sample], label_set[sample], distribution), repeats=2),
    }
    print(f"{SAMPLES:,} × {WIDTH} float32, {len(distribution.counts)} label sets\n")
    print("| | ms | passes |\n|---|---:|---:|")
    for name, duration in rows.items():
        print(f"| {name} | {duration:,.1f} | {duration / one_pass:,.1f} |")


if __name__ == "__main__":
    main()
