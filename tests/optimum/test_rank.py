"""The certified rank (30): an interval that holds the optimum's rank whatever point it is read from."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from ncpipe.errors import InputError
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.settings import Objective
from ncpipe.optimum.optimum import solve
from ncpipe.optimum.rank import rank_interval
from ncpipe.optimum.thresholds import zero_threshold

BIASES = {"none": {"use_bias": False}, "penalised": {"lambda_b": 0.1}, "free": {"lambda_b": 0.0}}


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("loss", ["pal", "bce", "mse"])
def test_points_of_every_quality_agree_on_the_rank(loss, bias):
    rng = np.random.default_rng(0)
    for _ in range(4):
        classes = int(rng.integers(3, 6))
        every = [s for m in range(1, classes) for s in combinations(range(classes), m)]
        singles = {(k,): 5.0 for k in range(classes)}
        others = {every[i]: float(rng.integers(1, 50)) for i in rng.choice(len(every), size=4, replace=False)}
        labels = LabelDistribution.from_counts(singles | others, classes)
        lam = float(rng.uniform(0.03, 0.4))
        objective = Objective("raw", lam, lam, loss=loss, **BIASES[bias])
        best = solve(labels, objective, rtol=1e-13)
        bound = best.lower_bound
        low, high = rank_interval(labels, objective, logits=best.logits, gap=max(0.0, best.objective - bound))
        assert low == best.rank == high
        for size in (1e-9, 1e-6, 1e-3):
            moved = best.logits + size * rng.normal(size=best.logits.shape)
            # (8) is an upper bound on the gap of logits that nobody has factored
            contrasts = moved - best.bias
            value = labels.weights @ _losses(moved, labels, objective)
            value += lam * np.linalg.norm(np.sqrt(labels.weights)[:, None] * contrasts, "nuc")
            value += 0.5 * objective.lambda_b * float(best.bias @ best.bias) * objective.use_bias
            wide = rank_interval(labels, objective, logits=moved, gap=max(0.0, value - bound))
            assert wide[0] <= low <= wide[1]


def _losses(logits, labels, objective):
    from ncpipe.objective.losses import losses

    return losses(logits, objective.targets(labels), objective.loss)


def test_near_a_threshold_the_rank_is_an_interval_until_the_gap_is_small():
    """The number of nonzero singular values alone says 0 at a gap of 1e-12, and 1 at 1e-13."""
    labels = LabelDistribution.from_counts({(0,): 5, (0, 1): 105787}, 2)
    squared = zero_threshold(labels, Objective("normalised", 1.0, 1.0, use_bias=False)).threshold
    lam = np.sqrt(squared * (1 - 5e-4))
    objective = Objective("normalised", lam, lam, use_bias=False)
    collapsed, solved = (solve(labels, objective, rtol=rtol) for rtol in (1e-10, 1e-14))
    assert collapsed.rank == 0
    for optimum in (collapsed, solved):
        low, high = rank_interval(
            labels, objective, logits=optimum.logits, gap=max(0.0, optimum.objective - optimum.lower_bound)
        )
        assert low <= 1 <= high
    above = Objective("normalised", lam * 1.01, lam * 1.01, use_bias=False)
    assert rank_interval(labels, above, logits=np.zeros((2, 2)), gap=0.0) == (0, 0)


@pytest.mark.parametrize(
    ("logits", "gap", "message"),
    [
        (np.zeros(2), 0.0, "logits: found shape"),
        (np.full((2, 2), np.inf), 0.0, "logits"),
        (np.zeros((2, 2)), -1, "gap"),
    ],
)
def test_other_points_are_refused(logits, gap, message):
    labels = LabelDistribution.from_counts({(0,): 1, (1,): 1}, 2)
    with pytest.raises(InputError, match=message):
        rank_interval(labels, Objective("normalised", 0.1, 0.1, use_bias=False), logits=logits, gap=gap)
