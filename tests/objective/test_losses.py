from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime

from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.losses import LOSSES as TABLE
from ncpipe.objective.losses import loss_of
from ncpipe.objective.names import LOSS_FACTS, LossName
from ncpipe.objective.settings import Objective
from ncpipe.optimum import factored, interior
from ncpipe.optimum.certificates import certify
from ncpipe.optimum.optimum import minimise

COUNTS = {(0,): 5, (1,): 2, (2,): 1, (0, 1): 1.5, (1, 2, 3): 1, (3,): 0.5}
DISTRIBUTION = LabelDistribution.from_counts(COUNTS, 4)
WEIGHTS = np.array([0.5, 1.0, 2.0, 3.0])


def over(target, distribution=DISTRIBUTION, **more):
    return loss_of(distribution, Objective(target, 1.0, 1.0, **more))


LOSSES = {
    "pal": over("normalised"),
    "weighted": over("raw", class_weights=tuple(WEIGHTS)),
    "bce": over("raw", loss="bce"),
    "mse": over("normalised", loss="mse"),
}
BIASES = [Objective("normalised", 0.1, 0.1, *b) for b in ((0.2, True), (0.0, True), (0.0, False))]
each_loss = pytest.mark.parametrize("name", LOSSES)


def loss_by_cvxpy(name, logits):
    import cvxpy as cp

    w, y = DISTRIBUTION.weights, DISTRIBUTION.multi_hot()
    t = DISTRIBUTION.targets("raw" if name == "weighted" else "normalised")
    if name == "bce":
        return cp.sum(cp.multiply(w[:, None], cp.logistic(logits) - cp.multiply(y, logits)))
    if name == "mse":
        return cp.sum(cp.multiply(w[:, None], cp.square(logits - t))) / 2
    if name == "weighted":
        t = t * WEIGHTS
    return cp.sum(cp.multiply(w * t.sum(axis=1), cp.log_sum_exp(logits, axis=1))) - cp.sum(
        cp.multiply(w[:, None] * t, logits)
    )


@each_loss
@pytest.mark.parametrize("objective", BIASES, ids=lambda o: o.bias_mode)
def test_both_methods_agree_with_a_general_convex_solver(name, objective):
    import cvxpy as cp

    z, b = cp.Variable((6, 4)), cp.Variable((1, 4))
    value = loss_by_cvxpy(name, z + np.ones((6, 1)) @ b)
    value += objective.lam * cp.normNuc(cp.diag(np.sqrt(DISTRIBUTION.weights)) @ z)
    if objective.bias_mode == "penalised":
        value += 0.5 * objective.lambda_b * cp.sum_squares(b)
    constraints = [b == 0] if objective.bias_mode == "none" else []
    tight = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-10)
    expected = cp.Problem(cp.Minimize(value), constraints).solve(solver=cp.CLARABEL, **tight)
    loss, weights = LOSSES[name], DISTRIBUTION.weights
    start = certify(np.zeros((6, 4)), np.zeros(4), loss, weights, objective, 0)
    for method in (interior, factored):
        found = method.minimise(loss, weights, objective, rtol=1e-9, max_iterations=1000, start=start)
        assert found.value == pytest.approx(expected, rel=1e-8)
        assert -1e-14 < found.relative_gap <= 1e-9


@each_loss
def test_derivatives_are_those_of_the_values(name):
    loss = LOSSES[name]
    logits = np.random.default_rng(0).standard_normal((6, 4))
    gradient, hessian = loss.gradient(logits), loss.hessian(logits)
    for row in range(6):

        def value(z, row=row):
            return loss.value(np.vstack([logits[:row], z, logits[row + 1 :]]))[row]

        def slope(z, k, row=row):
            return loss.gradient(np.vstack([logits[:row], z, logits[row + 1 :]]))[row, k]

        np.testing.assert_allclose(gradient[row], approx_fprime(logits[row], value), atol=1e-6)
        for k in range(4):
            np.testing.assert_allclose(hessian[row, k], approx_fprime(logits[row], slope, 1e-7, k), atol=1e-6)
    weights = DISTRIBUTION.weights
    np.testing.assert_allclose(loss.mean_hessian(logits, weights), np.einsum("s,skl->kl", weights, hessian), atol=1e-15)


@each_loss
@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.floats(0.1, 10))
def test_the_conjugate_is_the_largest_gap_between_a_plane_and_the_loss(name, seed, size):
    """Fenchel–Young: ℓ(z) + ℓ*(g) >= gᵀz, with equality where g = ∇ℓ(z); and ∇ of -ℓ* is -z there."""
    loss = LOSSES[name]
    rng = np.random.default_rng(seed)
    logits, other = size * rng.standard_normal((2, 6, 4))
    gradient = loss.gradient(logits)
    assert (gradient >= loss.lower).all()
    assert (gradient <= loss.upper).all()
    np.testing.assert_allclose(loss.value(logits) - loss.dual(gradient), (gradient * logits).sum(axis=1), atol=1e-11)
    assert (loss.value(other) - loss.dual(gradient) >= (gradient * other).sum(axis=1) - 1e-11).all()
    if size < 3:
        back = loss.dual_gradient(gradient) + logits
        back -= back.mean(axis=1, keepdims=True) if loss.shift_invariant else 0.0
        np.testing.assert_allclose(back, 0, atol=1e-5)


def test_the_squared_error_without_bias_is_singular_value_thresholding():
    objective = Objective("normalised", 0.2, 0.2, use_bias=False)
    root = np.sqrt(DISTRIBUTION.weights)[:, None]
    left, values, right = np.linalg.svd(root * DISTRIBUTION.targets("normalised"), full_matrices=False)
    expected = (left * np.maximum(values - 0.2, 0)) @ right / root
    found = minimise(LOSSES["mse"], DISTRIBUTION.weights, objective, rtol=1e-12)
    np.testing.assert_allclose(found.contrasts, expected, atol=1e-5)


def test_unit_class_weights_change_nothing():
    plain, unit = over("raw"), over("raw", class_weights=(1.0,) * 4)
    logits = np.random.default_rng(0).standard_normal((6, 4))
    np.testing.assert_array_equal(plain.gradient(logits), unit.gradient(logits))


def test_every_loss_has_its_facts_its_functions_and_its_branch_in_torch():
    from ncpipe.train.objective import BATCH_LOSSES

    names = set(get_args(LossName))
    assert set(LOSS_FACTS) == set(TABLE) == set(BATCH_LOSSES) == names
    for name in names:
        assert over(LOSS_FACTS[name].targets[-1], loss=name).shift_invariant == LOSS_FACTS[name].contrasts_only


def test_an_infimum_that_no_free_bias_attains_is_not_called_certified():
    never = LabelDistribution.from_counts({(0,): 1, (1,): 1}, 3)  # BCE drives the bias of class 2 to -inf
    found = minimise(over("raw", never, loss="bce"), never.weights, BIASES[1], rtol=1e-10)
    assert found.certificate.bound <= found.value
