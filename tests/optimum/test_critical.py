from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from ncpipe.labels.distribution import LabelDistribution
from ncpipe.labels.spectrum import pooled_spectrum
from ncpipe.objective.settings import Objective
from ncpipe.optimum.critical import lambda_critical
from ncpipe.optimum.optimum import solve

NO_BIAS = Objective("normalised", 1.0, 1.0, use_bias=False)


def step_profile(ratio: float, *, classes: int, single: float, pair: float) -> LabelDistribution:
    counts = {(k,): single * (1 if k < classes // 2 else ratio) for k in range(classes)}
    return LabelDistribution.from_counts(counts | dict.fromkeys(combinations(range(classes), 2), pair), classes)


@pytest.mark.parametrize("target", ["normalised", "raw"])
def test_balanced_labels_lose_all_rank_at_once_where_lambda_is_the_root_of_kappa(target):
    distribution = step_profile(1, classes=5, single=10, pair=3)
    found = lambda_critical(distribution, Objective(target, 1.0, 1.0, use_bias=False))
    kappa = pooled_spectrum(distribution, target).kappa
    assert found.low <= np.sqrt(kappa) * (1 + 1e-9)
    assert found.high == pytest.approx(np.sqrt(kappa), rel=2e-5)
    assert found.rank == 0


@pytest.mark.parametrize("ratio", [0.02, 0.2])
def test_a_step_profile_loses_its_minority_first(ratio):
    """theory.md (11a)."""
    classes, single, pair = 6, 100, 4
    distribution = step_profile(ratio, classes=classes, single=single, pair=pair)
    threshold = np.sqrt((ratio * single + (classes - 2) * pair / 4) / distribution.samples)
    found = lambda_critical(distribution, NO_BIAS)
    assert found.low < threshold * (1 + 1e-5)
    assert found.high > threshold * (1 - 1e-5)
    assert found.high - found.low <= 1e-5 * found.high
    assert found.rank == 3


def test_of_the_reference_setting_the_rank_is_5_where_only_the_majority_is_told_apart():
    distribution = step_profile(0.1, classes=10, single=3100, pair=200)
    lam = np.sqrt(0.035)
    assert solve(distribution, Objective("normalised", lam, lam, use_bias=False)).rank == 5


def test_classes_that_always_go_together_never_reach_full_rank():
    distribution = LabelDistribution.from_counts({(0,): 3, (1,): 2, (2, 3): 1}, 4)
    found = lambda_critical(distribution, NO_BIAS, rtol=1e-3)
    assert found.low == 0
    assert found.rank == 2


def test_a_tolerance_below_what_can_be_resolved_is_refused():
    with pytest.raises(ValueError, match=r"rtol: found 1e-09; allowed: a finite number >= 1e-06"):
        lambda_critical(step_profile(1, classes=3, single=1, pair=1), NO_BIAS, rtol=1e-9)
