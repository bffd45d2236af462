"""The spectral laws on random distributions, at optima and away from them, and their measured tightness."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from ncpipe.geometry.synthesis import tagwise_residuals
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.losses import losses, softmax
from ncpipe.objective.settings import Objective
from ncpipe.objective.terms import objective_terms, prediction_sigma, radius
from ncpipe.optimum.laws import (
    deviation_law,
    isotropic,
    laws,
    margin_laws,
    pair_laws,
    residual_sigma,
    spectral_laws,
)
from ncpipe.optimum.optimum import solve
from ncpipe.optimum.relu import solve_relu

BIASES = {"none": (0.0, False), "free": (0.0, True), "penalised": (0.05, True)}
ROUNDING = 1e-9


def step(r, *, classes=10, alone=3100.0, pair=200.0):
    counts = {(k,): alone * (1 if k < classes // 2 else r) for k in range(classes)}
    counts |= dict.fromkeys(itertools.combinations(range(classes), 2), pair)
    return LabelDistribution.from_counts(counts, classes)


def random_case(seed):
    """A distribution over 2 to 6 classes with any multiplicities, and an objective of any kind."""
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(2, 7))
    share = rng.uniform(0.1, 1.0)
    sets = [s for m in range(1, classes + 1) for s in itertools.combinations(range(classes), m)]
    kept = [s for s in sets if rng.random() < share] or sets[:1]
    distribution = LabelDistribution.from_counts({s: float(np.ceil(rng.exponential(50))) for s in kept}, classes)
    lam = np.exp(rng.uniform(np.log(2e-3), np.log(0.3)))
    lambda_b, use_bias = BIASES[str(rng.choice(sorted(BIASES)))]
    return distribution, Objective(str(rng.choice(["normalised", "raw"])), 3 * lam, lam / 3, lambda_b, use_bias), rng


def hold_everywhere(probabilities, logits, distribution, objective, bound):
    for law in spectral_laws(distribution, objective, probabilities=probabilities, radius=bound):
        assert law.left >= law.right - ROUNDING
    deviation = deviation_law(distribution, objective, probabilities=probabilities, radius=bound)
    assert deviation.left >= deviation.right - ROUNDING
    for left, right in (
        margin_laws(distribution, objective, logits=logits, radius=bound),
        pair_laws(distribution, objective, logits=logits, radius=bound),
    ):
        applicable = right > 0
        assert (left[applicable] >= right[applicable] - ROUNDING).all()


def check_at_the_optimum_and_near_it(seed):
    distribution, objective, rng = random_case(seed)
    optimum = solve(distribution, objective)
    bound = radius(distribution, objective, gap=optimum.objective - optimum.lower_bound)
    hold_everywhere(optimum.probabilities, optimum.logits, distribution, objective, bound)
    # (23), and R at most 1 + the gap's slack: no direction is missing
    assert (
        residual_sigma(distribution, objective, probabilities=optimum.probabilities)[0]
        <= bound / objective.lam + ROUNDING
    )
    # a network with gap ε: any perturbation of the last layer
    for spread in (1e-3, 0.1, 1.0):
        weight = optimum.weight + spread * rng.normal(size=optimum.weight.shape)
        prototypes = optimum.prototypes + spread * rng.normal(size=optimum.prototypes.shape)
        value = objective_terms(
            weight,
            optimum.bias,
            prototypes,
            label_set=np.arange(len(prototypes)),
            multi_hot=distribution.multi_hot(),
            objective=objective,
            sample_weights=distribution.weights,
        ).total
        logits = prototypes @ weight.T + optimum.bias
        bound = radius(distribution, objective, gap=value - optimum.lower_bound)
        hold_everywhere(softmax(logits), logits, distribution, objective, bound)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_laws_hold_at_the_optimum_and_for_networks_with_a_gap(seed):
    check_at_the_optimum_and_near_it(seed)


@pytest.mark.slow
def test_laws_hold_on_a_thousand_random_distributions():
    for seed in range(1000):
        check_at_the_optimum_and_near_it(seed)


def check_relu(seed):
    distribution, objective, _ = random_case(seed)
    result = solve_relu(distribution, objective)
    bound = radius(distribution, objective, gap=result.objective - result.lower_bound, nonnegative=True)
    for law in spectral_laws(distribution, objective, probabilities=result.probabilities, radius=bound):
        assert law.left >= law.right - ROUNDING
    deviation = deviation_law(distribution, objective, probabilities=result.probabilities, radius=bound)
    assert deviation.left >= deviation.right - ROUNDING


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_laws_hold_for_relu_features_with_root_two(seed):
    check_relu(seed)


@pytest.mark.parametrize(("r", "expected"), [(1.0, 0.9994), (0.2, 0.9982), (0.1, 0.9981)])
def test_measured_tightness_of_the_pooled_law(r, expected):
    distribution = step(r)
    objective = Objective("normalised", 5e-4, 0.256, use_bias=False)
    result = laws(distribution, objective, optimum=solve(distribution, objective))
    assert result["spectral"][0]["multiplicity"] is None
    assert result["spectral"][0]["tightness"] == pytest.approx(expected, abs=6e-5)
    assert [law["multiplicity"] for law in result["spectral"]] == [None, 1, 2]
    assert result["isotropic"] == (r == 1.0)
    assert result["residual_sigma"] == pytest.approx(np.ones(9), abs=1e-4)
    for summary in [*result["margins"], result["pairs"]]:
        assert summary["applicable"] == summary["instances"]
        assert 0 < summary["median_tightness"] <= summary["tightness"] <= 1


def test_vacuous_laws_say_nothing_rather_than_something_false():
    distribution = LabelDistribution.from_counts({(0,): 2, (0, 1, 2): 1}, 3)  # κ = 0
    objective = Objective("normalised", 0.5, 0.5, use_bias=False)
    result = laws(distribution, objective, optimum=solve(distribution, objective))
    assert all(law["right"] < 0 and law["tightness"] is None for law in result["spectral"])
    assert [m["applicable"] for m in result["margins"]] == [1, 0]
    assert result["margins"][1]["classes"] is None
    # the set of all classes has no margin
    left, _ = margin_laws(distribution, objective, logits=np.zeros((2, 3)), radius=0.5)
    assert left[1] == np.inf


def test_margin_law_is_the_sharp_minimum_over_the_residual_disc():
    # for one label set: min p_a / p_b over (t - τ p_a)² + (τ p_b)² <= λ²/w
    distribution = LabelDistribution.from_counts({(0,): 3, (1,): 1}, 4)
    objective = Objective("normalised", 0.1, 0.1, use_bias=False)
    _, right = margin_laws(distribution, objective, logits=np.zeros((2, 4)), radius=objective.lam)
    angles = np.linspace(0, 2 * np.pi, 200_001)
    for weight, value in zip(distribution.weights, right, strict=True):
        disc = objective.lam / np.sqrt(weight)
        x, y = 1 + disc * np.cos(angles), disc * np.sin(angles)
        inside = y > 0
        assert value == pytest.approx(np.log((x[inside] / y[inside]).min()), abs=1e-8)


def test_prediction_sigma_splits_by_multiplicity():
    distribution = step(0.3, classes=4)
    objective = Objective("raw", 0.01, 0.01)
    probabilities = softmax(np.random.default_rng(0).normal(size=(len(distribution.counts), 4)))
    projection = np.eye(4) - 0.25
    rows = distribution.multiplicity == 2
    weights = distribution.counts[rows] / distribution.counts[rows].sum()
    expected = np.linalg.svd((2 * np.sqrt(weights)[:, None] * probabilities[rows]) @ projection, compute_uv=False)[:3]
    np.testing.assert_allclose(
        prediction_sigma(distribution, objective, probabilities=probabilities, multiplicity=2), expected
    )


@pytest.mark.parametrize(("width", "above"), [(8, True), (9, False)])
def test_missing_width_shows_in_the_residual_spectrum(width, above):
    """(23): a stationary point of width K - 2 has one direction above λ; width K - 1 has none."""
    distribution = step(0.2)
    objective = Objective("normalised", 5e-4, 0.256, use_bias=False)
    targets, weights = distribution.targets("normalised"), distribution.weights
    count, root = len(weights), np.sqrt(weights)[:, None]

    def value(x):
        v, g = x[: 10 * width].reshape(10, width), x[10 * width :].reshape(count, width)
        logits = g @ v.T / root
        residual = root * (softmax(logits) - targets)
        total = weights @ losses(logits, targets, "pal") + objective.lam / 2 * (x @ x)
        return total, np.concatenate([
            (residual.T @ g + objective.lam * v).ravel(),
            (residual @ v + objective.lam * g).ravel(),
        ])  # fmt: skip

    start = np.random.default_rng(0).normal(size=(10 + count) * width) * 0.1
    options = {"maxiter": 5000, "ftol": 1e-16, "gtol": 1e-10}
    x = minimize(value, start, jac=True, method="L-BFGS-B", options=options).x
    logits = x[10 * width :].reshape(count, width) @ x[: 10 * width].reshape(10, width).T / root
    sigma = residual_sigma(distribution, objective, probabilities=softmax(logits))
    assert (sigma[0] > 1.5) == above
    np.testing.assert_allclose(sigma[1 if above else 0 :], 1, atol=1e-4)


@given(
    classes=st.integers(3, 6),
    counts=st.lists(st.floats(1, 100), min_size=5, max_size=5),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=25, deadline=None)
def test_isotropic_labels_make_tagwise_averaging_exact(classes, counts, seed):
    rng = np.random.default_rng(seed)
    present = [m for m in range(2, classes) if rng.random() < 0.6] or [2]
    sets = {s: counts[m - 1] for m in [1, *present] for s in itertools.combinations(range(classes), m)}
    distribution = LabelDistribution.from_counts(sets, classes)
    assert isotropic(distribution)
    lambda_b, use_bias = BIASES[str(rng.choice(sorted(BIASES)))]
    optimum = solve(distribution, Objective("normalised", 0.01, 0.02, lambda_b, use_bias))
    if optimum.rank == 0:
        return
    for m in present:
        assert tagwise_residuals(optimum.prototypes, distribution, m).residual < 1e-4


def test_half_the_classes_can_be_isotropic_with_unequal_frequencies():
    # complements have the same outer product: the pairs of one class are as isotropic as all pairs
    distribution = LabelDistribution.from_counts({(0, 1): 1, (0, 2): 1, (0, 3): 1}, 4)
    contrasts = distribution.multi_hot() - 0.5
    np.testing.assert_allclose(contrasts.T @ contrasts / 3, (np.eye(4) - 0.25) / 3, atol=1e-15)
    assert not isotropic(distribution)
