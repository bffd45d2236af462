"""Rebalancing: measured values, the semidefinite program against brute force, bounds that are bounds."""

import itertools

import clarabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from ncpipe.errors import InputError
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.labels.rebalance import frequency_weights, rebalance
from ncpipe.labels.sampling import resampled, sampling_weights
from ncpipe.labels.spectrum import pooled_spectrum
from ncpipe.objective.settings import Objective
from ncpipe.optimum.optimum import solve


def step(r, *, classes=10, alone=3100.0, pair=200.0):
    counts = {(k,): alone * (1 if k < classes // 2 else r) for k in range(classes)}
    counts |= dict.fromkeys(itertools.combinations(range(classes), 2), pair)
    return LabelDistribution.from_counts(counts, classes)


def random_distribution(seed):
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(3, 7))
    counts = {(k,): float(rng.integers(1, 100)) for k in range(classes)}
    for m in range(2, classes):
        counts |= {
            s: float(rng.integers(1, 100)) for s in itertools.combinations(range(classes), m) if rng.random() < 0.5
        }
    return LabelDistribution.from_counts(counts, classes)


def check_feasible(distribution, weights, cap):
    w = distribution.weights
    assert (weights <= w * cap * (1 + 1e-9)).all()
    assert (weights >= w / cap * (1 - 1e-9)).all()
    for m in distribution.multiplicities:
        rows = distribution.multiplicity == m
        assert weights[rows].sum() == pytest.approx(w[rows].sum(), rel=1e-9)


@pytest.mark.parametrize("method", ["semidefinite", "first_order"])
@pytest.mark.parametrize(("cap", "expected"), [(2.0, 0.0430), (5.0, 0.0804)])
def test_measured_reference_values(cap, expected, method):
    distribution = step(0.1)
    result = rebalance(distribution, "normalised", cap=cap, method=method)
    check_feasible(distribution, result.weights, cap)
    assert result.kappa_before == pytest.approx(0.0273, abs=5e-5)
    assert result.kappa == pytest.approx(expected, abs=2e-4)
    assert result.kappa <= result.upper_bound <= result.kappa * (1 + 2e-3)
    assert pooled_spectrum(resampled(distribution, result.weights), "normalised").kappa == pytest.approx(result.kappa)


def kappa_by_cvxpy(distribution, target, cap):
    """(19) as cvxpy states it, on all K dimensions."""
    import cvxpy as cp

    targets, w = distribution.targets(target), distribution.weights
    contrasts = targets - targets.mean(axis=1, keepdims=True)
    q, kappa = cp.Variable(len(w)), cp.Variable()
    centre = np.eye(distribution.classes) - 1 / distribution.classes
    constraints = [contrasts.T @ cp.diag(q) @ contrasts - kappa * centre >> 0, q >= w / cap, q <= cap * w]
    for m in distribution.multiplicities:
        rows = distribution.multiplicity == m
        constraints.append(cp.sum(q[rows]) == w[rows].sum())
    return cp.Problem(cp.Maximize(kappa), constraints).solve(
        solver="SCS", eps_abs=1e-9, eps_rel=1e-9, max_iters=100_000
    )


@pytest.mark.parametrize("target", ["normalised", "raw"])
@pytest.mark.parametrize(
    ("distribution", "cap"), [(step(0.1, alone=140.0, pair=20.0), 2.0), (random_distribution(5), 4.0)]
)
def test_the_semidefinite_program_is_the_one_that_cvxpy_states(distribution, cap, target):
    result = rebalance(distribution, target, cap=cap)
    assert result.kappa == pytest.approx(kappa_by_cvxpy(distribution, target, cap), rel=1e-6)


def test_where_the_interior_point_solver_gives_up_the_first_order_method_answers(monkeypatch):
    settings = clarabel.DefaultSettings()
    settings.max_iter = 2
    monkeypatch.setattr(clarabel, "DefaultSettings", lambda: settings)
    exact, quick = (rebalance(step(0.1), "raw", cap=2.0, method=m) for m in ("semidefinite", "first_order"))
    np.testing.assert_array_equal(exact.weights, quick.weights)
    assert exact.upper_bound == quick.upper_bound


def test_class_balanced_weights_have_their_measured_effect():
    distribution = step(0.1)
    weights = frequency_weights(distribution, "class_balanced")
    assert pooled_spectrum(resampled(distribution, weights), "normalised").kappa == pytest.approx(0.0436, abs=5e-5)
    assert (weights / distribution.weights).max() == pytest.approx(1.78, abs=5e-3)


@given(seed=st.integers(0, 2**32), cap=st.floats(1, 8), target=st.sampled_from(["normalised", "raw"]))
@settings(max_examples=15, deadline=None)
def test_methods_agree_and_no_feasible_weights_beat_the_bound(seed, cap, target):
    distribution = random_distribution(seed)
    exact = rebalance(distribution, target, cap=cap, method="semidefinite")
    quick = rebalance(distribution, target, cap=cap, method="first_order")
    for result in (exact, quick):
        check_feasible(distribution, result.weights, cap)
        assert result.kappa_before <= result.kappa <= result.upper_bound
    assert exact.upper_bound - exact.kappa <= 1e-6
    assert quick.kappa <= exact.upper_bound + 1e-12
    assert quick.upper_bound >= exact.kappa - 1e-12
    assert quick.kappa >= exact.kappa * 0.97
    # random vertices of the feasible set
    rng = np.random.default_rng(seed)
    w, multiplicity = distribution.weights, distribution.multiplicity
    shares = np.array([multiplicity == m for m in distribution.multiplicities], dtype=float)
    for _ in range(5):
        vertex = linprog(
            rng.normal(size=len(w)), A_eq=shares, b_eq=shares @ w, bounds=np.column_stack([w / cap, w * cap])
        ).x
        assert pooled_spectrum(resampled(distribution, vertex), target).kappa <= exact.upper_bound + 1e-9


def test_a_cap_of_one_changes_nothing():
    distribution = step(0.3)
    result = rebalance(distribution, "raw", cap=1.0)
    np.testing.assert_allclose(result.weights, distribution.weights, rtol=1e-9)
    assert result.kappa == pytest.approx(result.kappa_before)


def test_a_missing_class_cannot_be_weighted_up():
    distribution = LabelDistribution.from_counts({(0,): 3, (1,): 1}, 4)
    result = rebalance(distribution, "normalised", cap=3.0)
    assert result.kappa == pytest.approx(0, abs=1e-12)
    assert result.upper_bound == pytest.approx(0, abs=1e-12)


def test_cap_below_one_is_refused():
    with pytest.raises(ValueError, match=r"cap: found 0\.5"):
        rebalance(step(0.3), "raw", cap=0.5)


def test_rebalancing_recovers_the_rank_of_the_optimum():
    """At λ² = 0.035 the minority contrasts have collapsed; with the weights found they have not."""
    distribution = step(0.1)
    lam = np.sqrt(0.035)
    objective = Objective("normalised", lam, lam, use_bias=False)
    balanced = resampled(distribution, rebalance(distribution, "normalised", cap=2.0).weights)
    assert solve(distribution, objective).rank == 5
    assert solve(balanced, objective).rank == 9


def test_frequency_weights_follow_their_definitions():
    distribution = LabelDistribution.from_counts({(0,): 6, (1,): 1, (0, 1): 2}, 3)
    n = np.array([8.0, 3.0])
    samples = np.array([6.0, 1.0, 2.0])
    inverse = samples * [1 / n[0], 1 / n[1], 1 / n[0] + 1 / n[1]]
    np.testing.assert_allclose(frequency_weights(distribution, "inverse_frequency"), inverse / inverse.sum())
    balanced = samples * [1 / n[0], 1 / n[1], (1 / n[0] + 1 / n[1]) / 2]
    np.testing.assert_allclose(frequency_weights(distribution, "class_balanced"), balanced / balanced.sum())
    effective = 0.1 / (1 - 0.9**n)
    expected = samples * [effective[0], effective[1], effective.mean()]
    np.testing.assert_allclose(frequency_weights(distribution, "effective_number", beta=0.9), expected / expected.sum())
    # β = 0 counts every class once: nothing is reweighted
    np.testing.assert_allclose(frequency_weights(distribution, "effective_number", beta=0.0), distribution.weights)


@pytest.mark.slow
def test_a_hundred_classes_to_about_a_percent():
    rng = np.random.default_rng(0)
    counts = {(k,): float(rng.integers(10, 500)) for k in range(100)}
    while len(counts) < 5000:
        label_set = rng.choice(100, int(rng.integers(2, 5)), replace=False)
        counts[tuple(sorted(label_set.tolist()))] = float(rng.integers(1, 100))
    distribution = LabelDistribution.from_counts(counts, 100)
    result = rebalance(distribution, "normalised", cap=3.0)
    check_feasible(distribution, result.weights, 3.0)
    assert result.upper_bound <= 1.015 * result.kappa


def test_what_rebalancing_does_not_know_is_refused():
    distribution = LabelDistribution.from_counts({(0,): 3, (1,): 1, (0, 1): 2}, 2)
    with pytest.raises(InputError, match=r"target: found 'normalized'; did you mean 'normalised'\?"):
        rebalance(distribution, "normalized", cap=2)
    for cap in (0.5, float("nan"), "2", None):
        with pytest.raises(InputError, match="cap: found"):
            rebalance(distribution, "raw", cap=cap)
    with pytest.raises(InputError, match="method: found 'semidefinit'; did you mean 'semidefinite'"):
        rebalance(distribution, "raw", cap=2, method="semidefinit")
    with pytest.raises(InputError, match="scheme: found 'balanced'"):
        frequency_weights(distribution, "balanced")
    with pytest.raises(InputError, match="beta: found 1"):
        frequency_weights(distribution, "effective_number", beta=1)
    with pytest.raises(InputError, match="method: found 'kappa'"):
        sampling_weights(distribution, "raw", method="kappa")
