from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar

from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.losses import loss_of, softmax
from ncpipe.objective.settings import Objective
from ncpipe.objective.terms import lower_bound
from ncpipe.optimum.certificates import best_bias, dual_value, polar, shrink, spectral_norm
from ncpipe.optimum.optimum import solve

MODES = st.sampled_from([(True, 0.05), (True, 0.0), (False, 0.0)])


def step_profile(ratio: float, *, classes: int = 6, single: float = 30, pair: float = 4) -> LabelDistribution:
    counts = {(k,): single * (1 if k < classes // 2 else ratio) for k in range(classes)}
    return LabelDistribution.from_counts(counts | dict.fromkeys(combinations(range(classes), 2), pair), classes)


def as_dual_point(gradient: np.ndarray, distribution: LabelDistribution, objective: Objective) -> np.ndarray:
    tau = distribution.tau(objective.target)[:, None]
    return np.maximum((gradient + distribution.targets(objective.target)) / tau, 0.0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), MODES, st.sampled_from(["normalised", "raw"]), st.floats(-2.5, 0), st.floats(-1, 1.5))
def test_shrinking_any_prediction_gives_a_valid_bound_and_the_best_of_its_ray(seed, mode, target, log_lam, log_size):
    rng = np.random.default_rng(seed)
    distribution = step_profile(0.3)
    objective = Objective(target, 10**log_lam, 10**log_lam, mode[1], mode[0])
    loss, weights = loss_of(distribution, Objective(target, 1.0, 1.0)), distribution.weights
    logits = 10**log_size * rng.standard_normal((len(weights), 6))
    if objective.bias_mode == "free":
        logits = logits + best_bias(logits, np.zeros(6), loss, weights, lambda_b=0.0)
    gradient = loss.gradient(logits)
    found = shrink(gradient, loss, weights, objective)
    # feasible, by the independent evaluation that refuses infeasible points
    u = as_dual_point(found.gradient, distribution, objective)
    assert lower_bound(distribution, objective, dual_point=u) == pytest.approx(found.bound, rel=1e-9, abs=1e-12)
    assert found.bound <= solve(distribution, objective).objective * (1 + 1e-12)
    norm = np.linalg.norm(np.sqrt(weights)[:, None] * gradient, 2)
    ray = minimize_scalar(
        lambda s: -dual_value(s * gradient, loss, weights, objective),
        bounds=(0, min(1, objective.lam / norm)),
        method="bounded",
        options={"xatol": 1e-12},
    )
    assert found.bound >= -ray.fun - 1e-9


@pytest.mark.parametrize("ratio", [1.0, 0.3, 0.05])
@pytest.mark.parametrize("mode", [(True, 0.05), (False, 0.0)])
def test_the_polar_certificate_closes_the_gap_of_a_rough_solution(ratio, mode):
    distribution = step_profile(ratio)
    objective = Objective("normalised", 0.05, 0.05, *mode[::-1])
    loss, weights = loss_of(distribution, Objective("normalised", 1.0, 1.0)), distribution.weights
    optimum = solve(distribution, objective, rtol=1e-13)
    root = np.sqrt(weights)[:, None]
    rng = np.random.default_rng(0)
    contrasts = optimum.prototypes @ optimum.weight.T
    contrasts = contrasts + 1e-5 * rng.standard_normal((len(weights), 6)) @ optimum.weight
    left, values, right = np.linalg.svd(root * contrasts, full_matrices=False)
    living = values > 1e-9
    gradient = loss.gradient(contrasts + optimum.bias)
    rough = shrink(gradient, loss, weights, objective)
    close = polar(left[:, living], right[living], gradient, rough.gradient, loss, weights, objective)
    lower_bound(distribution, objective, dual_point=as_dual_point(close.gradient, distribution, objective))  # feasible
    assert close.bound <= optimum.objective * (1 + 1e-14)
    assert optimum.objective - close.bound < 1e-8 * optimum.objective
    assert optimum.objective - close.bound < 0.05 * (optimum.objective - rough.bound)


def test_a_polar_point_outside_the_box_is_pulled_back_inside():
    distribution = LabelDistribution.from_counts({(0,): 1000, (1,): 1, (2,): 1}, 3)
    objective = Objective("normalised", 0.3, 0.3, use_bias=False)
    loss, weights = loss_of(distribution, Objective("normalised", 1.0, 1.0)), distribution.weights
    contrasts = np.array([[2.0, -1, -1], [-5, 5, 0], [-5, 0, 5]])
    left, _, right = np.linalg.svd(np.sqrt(weights)[:, None] * contrasts, full_matrices=False)
    gradient = loss.gradient(contrasts)
    rough = shrink(gradient, loss, weights, objective)
    found = polar(left[:, :2], right[:2], gradient, rough.gradient, loss, weights, objective)
    assert (found.gradient >= loss.lower).all()
    assert (found.gradient <= loss.upper).all()
    assert found.bound <= solve(distribution, objective).objective


@pytest.mark.parametrize("lambda_b", [0.0, 0.1])
def test_the_best_bias_is_where_a_general_minimiser_finds_it(lambda_b):
    distribution = step_profile(0.2, classes=4)
    loss, weights = loss_of(distribution, Objective("raw", 1.0, 1.0)), distribution.weights
    contrasts = 3 * np.random.default_rng(0).standard_normal((len(weights), 4))
    found = best_bias(contrasts, np.zeros(4), loss, weights, lambda_b=lambda_b)
    np.testing.assert_allclose(weights @ loss.gradient(contrasts + found) + lambda_b * found, 0, atol=1e-14)
    other = minimize(lambda b: weights @ loss.value(contrasts + b) + 0.5 * lambda_b * b @ b, np.zeros(4), tol=1e-9).x
    np.testing.assert_allclose(found - found.mean(), other - other.mean(), atol=1e-4)


def test_a_bias_far_from_its_start_is_found():
    distribution = LabelDistribution.from_counts({(0,): 1e9, (1,): 1}, 2)
    loss = loss_of(distribution, Objective("normalised", 1.0, 1.0))
    found = best_bias(np.zeros((2, 2)), np.zeros(2), loss, distribution.weights, lambda_b=0)
    np.testing.assert_allclose(softmax(found), distribution.weights, rtol=1e-7)


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 1000))
def test_spectral_norm(rows, columns, seed):
    matrix = np.random.default_rng(seed).standard_normal((rows, columns))
    assert spectral_norm(matrix) == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-13)
