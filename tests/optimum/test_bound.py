"""The spectral bound against cvxpy, the certified optimum and measured values."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.settings import Objective
from ncpipe.optimum.bound import spectral_bound
from ncpipe.optimum.optimum import solve

BIASES = {"none": (0.0, False), "free": (0.0, True), "penalised": (0.05, True)}


def step(r, *, classes=10, alone=3100.0, pair=200.0):
    counts = {(k,): alone * (1 if k < classes // 2 else r) for k in range(classes)}
    counts |= dict.fromkeys(itertools.combinations(range(classes), 2), pair)
    return LabelDistribution.from_counts(counts, classes)


@st.composite
def distributions(draw, most=5):
    classes = draw(st.integers(2, most))
    sets = [s for m in range(1, classes + 1) for s in itertools.combinations(range(classes), m)]
    counts = draw(st.lists(st.integers(0, 60), min_size=len(sets), max_size=len(sets)))
    assume(any(counts))
    return LabelDistribution.from_counts(dict(zip(sets, counts, strict=True)), classes)


def semidefinite(distribution, objective):
    """(10) as cvxpy states it."""
    import cvxpy as cp

    classes, weights, labels = distribution.classes, distribution.weights, distribution.multi_hot()
    projection = np.eye(classes) - 1 / classes
    s = cp.Variable(len(distribution.multiplicities))
    value, blocks, mean = 0, [], 0
    for i, m in enumerate(distribution.multiplicities):
        rows = distribution.multiplicity == m
        scale = 1 / m if objective.target == "normalised" else 1.0
        own, rest = (1 - s[i]) / m + s[i] / classes, s[i] / classes
        entropy = m * cp.entr(own) + ((classes - m) * cp.entr(rest) if m < classes else 0)
        value += weights[rows].sum() * scale * m * entropy
        blocks.append(scale * s[i] * (projection @ (labels[rows] * np.sqrt(weights[rows])[:, None]).T))
        mean = mean + scale * s[i] * (projection @ (weights[rows] @ labels[rows]))
    constraints = [s >= 0, s <= 1, cp.sigma_max(cp.hstack(blocks)) <= objective.lam]
    if objective.bias_mode == "penalised":
        value -= cp.sum_squares(mean) / (2 * objective.lambda_b)
    if objective.bias_mode == "free":
        constraints.append(mean == 0)
    problem = cp.Problem(cp.Maximize(value), constraints)
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    return problem.value


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")
@pytest.mark.parametrize("bias", ["none", "penalised"])
@pytest.mark.parametrize("target", ["normalised", "raw"])
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_semidefinite_program(seed, target, bias):
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(3, 7))
    sets = [s for m in range(1, classes) for s in itertools.combinations(range(classes), m) if rng.random() < 0.5]
    distribution = LabelDistribution.from_counts({s: float(rng.integers(1, 200)) for s in sets}, classes)
    lam = np.exp(rng.uniform(np.log(0.01), np.log(0.3)))
    lambda_b, use_bias = BIASES[bias]
    objective = Objective(target, lam, lam, lambda_b, use_bias)
    assert spectral_bound(distribution, objective).value == pytest.approx(
        semidefinite(distribution, objective), abs=2e-9
    )


@given(
    distribution=distributions(most=4),
    bias=st.sampled_from(sorted(BIASES)),
    target=st.sampled_from(["normalised", "raw"]),
    lam=st.floats(5e-3, 0.5),
)
@settings(max_examples=100, deadline=None)
def test_never_exceeds_the_certified_optimum(distribution, bias, target, lam):
    lambda_b, use_bias = BIASES[bias]
    objective = Objective(target, 2 * lam, lam / 2, lambda_b, use_bias)
    result = spectral_bound(distribution, objective)
    if result.value is None:
        assert bias == "free"
        assert result.reason
        return
    optimum = solve(distribution, objective)
    assert result.value <= optimum.objective * (1 + 1e-9) + 1e-12
    assert list(result.s) == list(distribution.multiplicities)
    assert all(0 <= s <= 1 for s in result.s.values())


@pytest.mark.parametrize(("r", "expected"), [(0.2, 0.41997), (0.1, 0.43095)])
def test_measured_reference_values(r, expected):
    result = spectral_bound(step(r), Objective("normalised", 5e-4, 0.256, use_bias=False))
    assert result.value == pytest.approx(expected, abs=6e-6)
    assert result.cuts <= 20


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("target", ["normalised", "raw"])
def test_tight_when_balanced(target, bias):
    lambda_b, use_bias = BIASES[bias]
    objective = Objective(target, 5e-4, 0.256, lambda_b, use_bias)
    distribution = step(1.0)
    assert spectral_bound(distribution, objective).value == pytest.approx(
        solve(distribution, objective).objective, rel=1e-9
    )


def test_tight_when_everything_collapses():
    objective = Objective("normalised", 1.0, 1.0, use_bias=False)
    result = spectral_bound(step(0.1), objective)
    assert result.value == pytest.approx(np.log(10))
    assert set(result.s.values()) == {1.0}


def test_free_bias_takes_what_its_constraint_allows():
    objective = Objective("normalised", 5e-4, 0.256)
    partial = spectral_bound(step(0.2), objective)  # pairs alone have equal class frequencies
    assert partial.s[1] == 0.0
    assert partial.s[2] > 0
    assert partial.value <= solve(step(0.2), objective).objective
    alone = LabelDistribution.from_counts({(0,): 3, (1,): 2, (2,): 1}, 3)
    refused = spectral_bound(alone, objective)
    assert refused.value is None
    assert refused.s == {}
    assert "zero mean" in refused.reason


def test_free_bias_combines_multiplicities_whose_means_cancel():
    # P p_1 of {0} alone is opposite to P p_2 of {1, 2}: one ray of s is left
    distribution = LabelDistribution.from_counts({(0,): 4, (1, 2): 2, (0, 1, 2): 1}, 3)
    objective = Objective("raw", 0.05, 0.05)
    result = spectral_bound(distribution, objective)
    assert result.value == pytest.approx(semidefinite(distribution, objective), abs=1e-7)
    assert result.s[2] == pytest.approx(2 * result.s[1])
