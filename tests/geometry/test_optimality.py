"""Distances from the optimum against direct formulas, and the inequalities that no network may violate."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from ncpipe.geometry.metrics import UndefinedMetric
from ncpipe.geometry.moments import group_means, groups
from ncpipe.geometry.optimality import residual_spectrum, split_gap, total_variation, weakest_margin
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.losses import softmax
from ncpipe.objective.refit import refit_classifier
from ncpipe.objective.settings import Objective
from ncpipe.objective.terms import network_logits, network_terms
from ncpipe.optimum.optimum import Optimum, solve


class Case(NamedTuple):
    distribution: LabelDistribution
    objective: Objective
    optimum: Optimum


@pytest.fixture(scope="module")
def case() -> Case:
    """K = 4, unequal counts, multiplicities 1 to 3."""
    counts = {(0,): 40, (1,): 30, (2,): 20, (3,): 10}
    counts |= {(0, 1): 8, (0, 2): 8, (1, 2): 6, (0, 3): 5, (1, 3): 5, (2, 3): 7, (0, 1, 2): 4, (1, 2, 3): 3}
    distribution, objective = LabelDistribution.from_counts(counts, 4), Objective("normalised", 0.01, 0.05, 0.01)
    return Case(distribution, objective, solve(distribution, objective))


def network(case, seed, *, scale=1.0, width=6, dtype=np.float32):
    rng = np.random.default_rng(seed)
    label_set = np.repeat(np.arange(len(case.distribution.counts)), case.distribution.counts.astype(int))
    weight, bias = (scale * rng.standard_normal(shape) for shape in ((4, width), 4))
    features = (scale * rng.standard_normal((len(label_set), width))).astype(dtype)
    return weight, bias, features, label_set


def objective_by_loops(weight, bias, features, label_set, distribution, objective):
    """(7) sample by sample."""
    total = 0.0
    for h, s in zip(features.astype(float), label_set, strict=True):
        z, members = weight @ h + bias, distribution.label_sets[s]
        target = 1 / len(members) if objective.target == "normalised" else 1.0
        lse = math.log(sum(math.exp(x) for x in z))
        total += sum(target * (lse - z[k]) for k in members) + objective.lambda_h / 2 * float(h @ h)
    total /= len(features)
    total += objective.lambda_w / 2 * float((weight**2).sum())
    return total + objective.lambda_b / 2 * float(bias @ bias)


def terms_of(case, weight, bias, features, label_set, objective=None):
    return network_terms(
        weight,
        bias,
        features,
        label_set=label_set,
        multi_hot=case.distribution.multi_hot(),
        objective=objective or case.objective,
    )


def parts_of(case, weight, bias, features, label_set, objective, bound):
    multi_hot = case.distribution.multi_hot()
    return split_gap(
        refit_classifier(weight, bias, features, label_set=label_set, multi_hot=multi_hot, objective=objective),
        prototypes=group_means(features, groups(label_set, len(multi_hot))),
        distribution=case.distribution,
        objective=objective,
        bound=bound,
    )


@pytest.mark.parametrize("target", ["normalised", "raw"])
def test_objective_equals_a_loop_over_samples(case, target, monkeypatch):
    monkeypatch.setattr("ncpipe.objective.terms._ROWS", 50)  # several blocks, the last one short
    objective = Objective(target, 0.02, 0.03, 0.05)
    weight, bias, features, label_set = network(case, 0)
    expected = objective_by_loops(weight, bias, features, label_set, case.distribution, objective)
    assert terms_of(case, weight, bias, features, label_set, objective).total == pytest.approx(expected, rel=1e-12)
    logits = network_logits(weight, bias, features)
    assert np.abs(logits - (features.astype(float) @ weight.T + bias)).max() < 1e-12


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.0, 3.0), width=st.integers(1, 6))
def test_no_network_is_below_the_bound_and_close_ones_predict_alike(case, seed, scale, width):
    """Gap >= 0 at any width; gap ε bounds the rms total variation from the optimum by sqrt(ε/2)."""
    weight, bias, features, label_set = network(case, seed, scale=scale, width=width)
    bound = case.optimum.lower_bound
    gap = terms_of(case, weight, bias, features, label_set).total - bound
    assert gap >= 0
    probabilities = softmax(network_logits(weight, bias, features))
    reference = case.optimum.probabilities
    distance = total_variation(probabilities, reference, label_set)
    # The reference itself is known up to its own gap.
    own = case.optimum.objective - bound
    assert distance <= math.sqrt(gap / 2) + math.sqrt(own / 2)


def test_total_variation_in_closed_form():
    """Distances 1 and 1/2 on two samples: rms of (1, 1/2)."""
    reference = np.array([[1.0, 0.0], [0.5, 0.5]])
    predictions = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert total_variation(predictions, reference, np.array([0, 1])) == pytest.approx(math.sqrt(0.625))


def perturbed(case, seed, scale):
    """The optimum's network with noise on features and classifier."""
    optimum = case.optimum
    rng = np.random.default_rng(seed)
    label_set = np.repeat(np.arange(len(case.distribution.counts)), case.distribution.counts.astype(int))
    features = optimum.prototypes[label_set]
    features = (features + scale * rng.standard_normal(features.shape)).astype(np.float32)
    weight = optimum.weight + scale * rng.standard_normal(optimum.weight.shape)
    return weight, optimum.bias, features, label_set


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1.0))
def test_parts_of_the_gap_are_not_negative_and_sum_to_it(case, seed, scale):
    weight, bias, features, label_set = perturbed(case, seed, scale)
    bound = case.optimum.lower_bound
    parts = parts_of(case, weight, bias, features, label_set, case.objective, bound)
    gap = terms_of(case, weight, bias, features, label_set).total - bound
    assert parts.total == pytest.approx(gap, abs=1e-10)
    assert min(parts.classifier, parts.scatter, parts.prototypes) >= -1e-12
    assert 0 <= parts.slack < 1e-8


@pytest.mark.parametrize(
    "objective",
    [
        Objective("normalised", 0.01, 0.05, 0.02),
        Objective("raw", 0.01, 0.05, use_bias=False),
        Objective("raw", 0.01, 0.05, 0.0),
    ],
)
def test_classifier_part_equals_an_independent_minimisation(case, objective):
    weight, bias, features, label_set = network(case, 3, scale=0.7)
    if not objective.use_bias:
        bias = np.zeros(4)

    def value(x):
        b = x[24:] if objective.use_bias else np.zeros(4)
        return terms_of(case, x[:24].reshape(4, 6), b, features, label_set, objective).total

    best = minimize(value, np.zeros(28), method="BFGS", options={"gtol": 1e-6}).fun
    parts = parts_of(case, weight, bias, features, label_set, objective, 0.0)
    expected = terms_of(case, weight, bias, features, label_set, objective).total - best
    assert parts.classifier == pytest.approx(expected, abs=1e-8)
    assert math.isnan(parts.slack) == (objective.bias_mode == "free")


def test_collapsed_network_with_the_best_classifier_has_one_part_only(case):
    """Features on their prototypes: no scatter; classifier of the optimum: nothing to gain."""
    weight, bias, features, label_set = perturbed(case, 0, 0.0)
    parts = parts_of(case, weight, bias, features, label_set, case.objective, case.optimum.lower_bound)
    assert abs(parts.scatter) < 1e-10
    assert parts.classifier < 1e-8
    assert parts.prototypes < 1e-7


def test_residuals_are_one_at_the_optimum_and_name_what_a_narrow_network_lacks(case):
    optimum = case.optimum
    found = residual_spectrum(optimum.probabilities, case.distribution, case.objective)
    assert found.ratios[:3] == pytest.approx(np.ones(3), abs=1e-4)
    assert found.ratios[3] == pytest.approx(0, abs=1e-12)

    # A classifier that cannot tell class 3 from class 2 leaves a residual along that contrast.
    targets = case.distribution.targets("normalised")
    blind = targets.copy()
    blind[:, 2:] = targets[:, 2:].mean(axis=1, keepdims=True)
    found = residual_spectrum(blind, case.distribution, case.objective)
    assert found.ratios[0] > 1
    assert abs(found.directions[0] @ np.array([0, 0, 1, -1])) / math.sqrt(2) == pytest.approx(1)
    rows = np.sqrt(case.distribution.weights)[:, None] * (blind - targets)
    assert found.ratios[0] * case.objective.lam == pytest.approx(np.linalg.norm(rows, 2))


def test_residual_spectrum_has_k_entries_with_fewer_label_sets():
    distribution = LabelDistribution.from_counts({(0,): 3, (1, 2): 1}, 3)
    found = residual_spectrum(np.full((2, 3), 1 / 3), distribution, Objective("normalised", 0.1, 0.1))
    assert found.ratios.shape == (3,)
    assert found.directions @ found.directions.T == pytest.approx(np.eye(3), abs=1e-12)


def test_weakest_margin_by_loops_and_where_it_is_undefined():
    logits = np.random.default_rng(0).standard_normal((3, 4))
    multi_hot = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [1, 1, 1, 0]])
    expected = min(
        z[a] - z[b] for z, y in zip(logits, multi_hot, strict=True) for a in range(4) for b in range(4) if y[a] > y[b]
    )
    assert weakest_margin(logits, multi_hot) == expected
    with pytest.raises(UndefinedMetric, match="no class lies outside"):
        weakest_margin(logits, np.ones((3, 4)))
