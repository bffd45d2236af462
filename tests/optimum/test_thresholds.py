"""Collapse thresholds against the certified optimum, brute force and closed forms."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import logsumexp

from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.settings import Objective
from ncpipe.optimum.optimum import solve
from ncpipe.optimum.thresholds import minority_collapse, pair_kappa, thresholds, zero_threshold

BIASES = {"none": (0.0, False), "free": (0.0, True), "penalised": (0.03, True)}


def step(r, *, classes=10, alone=3100.0, pair=200.0):
    counts = {(k,): alone * (1 if k < classes // 2 else r) for k in range(classes)}
    counts |= dict.fromkeys(itertools.combinations(range(classes), 2), pair)
    return LabelDistribution.from_counts(counts, classes)


def objective(lam, bias="none", target="normalised"):
    lambda_b, use_bias = BIASES[bias]
    return Objective(target, lam, lam, lambda_b, use_bias)


@st.composite
def distributions(draw, most=4):
    classes = draw(st.integers(2, most))
    sets = [s for m in range(1, classes + 1) for s in itertools.combinations(range(classes), m)]
    counts = draw(st.lists(st.integers(0, 60), min_size=len(sets), max_size=len(sets)))
    assume(any(counts))
    return LabelDistribution.from_counts(dict(zip(sets, counts, strict=True)), classes)


@given(distribution=distributions(), target=st.sampled_from(["normalised", "raw"]))
@settings(deadline=None)
def test_pair_kappa_is_the_mean_squared_difference_of_targets(distribution, target):
    kappa = pair_kappa(distribution, objective(0.1, target=target))
    targets, weights = distribution.targets(target), distribution.weights
    for a, b in itertools.product(range(distribution.classes), repeat=2):
        assert kappa[a, b] == pytest.approx(0.5 * weights @ (targets[:, a] - targets[:, b]) ** 2, abs=1e-14)


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("target", ["normalised", "raw"])
@pytest.mark.parametrize("r", [0.5, 0.1])
def test_minority_classes_collapse_exactly_from_the_threshold_on(r, target, bias):
    distribution = step(r, classes=4, alone=60.0, pair=15.0)
    result = minority_collapse(distribution, objective(0.1, bias, target))
    if target == "normalised":  # (11a) as it is written
        assert result.threshold == pytest.approx((r * 60 + 2 * 15 / 4) / distribution.samples)
    assert result.minority == ("2", "3")
    for factor, collapsed in ((0.98, False), (1.02, True)):
        lam = np.sqrt(factor * result.threshold)
        assert minority_collapse(distribution, objective(lam, bias, target)).collapsed is collapsed
        optimum = solve(distribution, objective(lam, bias, target))
        difference = np.linalg.norm(optimum.weight[2] - optimum.weight[3])
        assert (difference < 1e-4 * np.linalg.norm(optimum.weight)) == collapsed


def test_one_sample_per_pair_just_forbids_full_minority_collapse():
    distribution = step(1e-9, pair=1.0)
    result = minority_collapse(distribution, Objective("normalised", 5e-4, 0.256, use_bias=False))
    assert result.threshold == pytest.approx(1.2866e-4, rel=1e-4)
    assert not result.collapsed


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ({(0, 1, 2): 1, (0,): 1}, "more than two classes"),
        ({(0,): 1, (1,): 1, (2,): 1, (0, 1): 2}, "same number of samples"),
        ({(0,): 1, (1,): 2, (2,): 3}, "more than two different"),
        ({(0,): 5, (1,): 5, (2,): 1}, "only minority class"),
    ],
)
def test_other_distributions_are_refused_with_the_reason(counts, reason):
    result = minority_collapse(LabelDistribution.from_counts(counts, 3), objective(0.1))
    assert result.threshold is None
    assert result.collapsed is None
    assert reason in result.reason


@given(
    distribution=distributions(),
    bias=st.sampled_from(sorted(BIASES)),
    target=st.sampled_from(["normalised", "raw"]),
)
@settings(max_examples=60, deadline=None)
def test_everything_collapses_exactly_from_the_zero_threshold_on(distribution, bias, target):
    threshold = zero_threshold(distribution, objective(0.1, bias, target)).threshold
    assume(threshold > 1e-6)
    for factor, collapsed in ((0.9, False), (1.05, True)):
        settings_ = objective(np.sqrt(factor * threshold), bias, target)
        assert zero_threshold(distribution, settings_).collapsed is collapsed
        optimum = solve(distribution, settings_)
        assert (optimum.singular_values.max() < 1e-4) == collapsed


@given(distribution=distributions(most=5), target=st.sampled_from(["normalised", "raw"]))
@settings(max_examples=50, deadline=None)
def test_penalised_bias_at_zero_equals_a_generic_minimiser(distribution, target):
    penalised = objective(0.1, "penalised", target)
    targets, tau, weights = distribution.targets(target), distribution.tau(target), distribution.weights

    def value(b):
        return weights @ (tau * logsumexp(b) - targets @ b) + 0.5 * penalised.lambda_b * b @ b

    expected = minimize(value, np.zeros(distribution.classes), method="BFGS", options={"gtol": 1e-8})
    result = zero_threshold(distribution, penalised)
    assert value(result.bias) <= expected.fun + 1e-12
    np.testing.assert_allclose(result.bias, expected.x, atol=1e-4)


def test_free_bias_threshold_is_the_top_of_the_target_covariance():
    distribution = step(0.2)
    targets, weights = distribution.targets("normalised"), distribution.weights
    covariance = np.cov(targets.T, aweights=weights, ddof=0)
    result = zero_threshold(distribution, objective(0.1, "free"))
    assert result.threshold == pytest.approx(np.linalg.eigvalsh(covariance)[-1])


def test_a_class_that_never_occurs_gets_an_infinitely_low_free_bias():
    distribution = LabelDistribution.from_counts({(0,): 3, (1,): 1}, 3)
    bias = zero_threshold(distribution, objective(0.1, "free")).bias
    assert bias[2] == -np.inf
    assert bias[0] - bias[1] == pytest.approx(np.log(3))


def test_the_theory_file_names_extreme_pairs():
    counts = {(0,): 5.0, (1,): 5.0, (2,): 50.0, (3,): 40.0}
    distribution = LabelDistribution.from_counts(counts, 4, class_names=["cat", "dog", "cow", "hen"])
    result = thresholds(distribution, objective(0.1))
    assert result["pairs"]["smallest"] == {"classes": ["cat", "dog"], "kappa": pytest.approx(0.05)}
    assert result["pairs"]["largest"] == {"classes": ["cow", "hen"], "kappa": pytest.approx(0.45)}
    assert result["lambda_squared"] == pytest.approx(0.01)
    assert result["minority_collapse"]["reason"]
    assert result["zero"]["collapsed"] is False
