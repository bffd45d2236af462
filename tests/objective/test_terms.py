from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp

from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.losses import losses, softmax
from ncpipe.objective.settings import Objective
from ncpipe.objective.terms import lower_bound, objective_terms, residual_matrix

PAL = Objective("normalised", 5e-4, 0.256, 5e-4)


def random_network(seed: int = 0, *, classes: int = 4, width: int = 3, samples: int = 25):
    rng = np.random.default_rng(seed)
    multi_hot = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 1, 1]])
    label_set = np.r_[np.arange(4), rng.integers(0, 4, samples - 4)]
    return (
        rng.standard_normal((classes, width)),
        rng.standard_normal(classes),
        rng.standard_normal((samples, width)),
        label_set,
        multi_hot,
    )


@pytest.mark.parametrize("target", ["normalised", "raw"])
@pytest.mark.parametrize(("use_bias", "lambda_b"), [(True, 0.03), (True, 0.0), (False, 0.03)])
def test_terms_are_those_of_the_definition_written_as_loops(target, use_bias, lambda_b):
    weight, bias, features, label_set, multi_hot = random_network()
    objective = Objective(target, 0.01, 0.2, lambda_b, use_bias)
    loss = feature = 0.0
    for h, s in zip(features, label_set, strict=True):
        y = multi_hot[s]
        t = y / y.sum() if target == "normalised" else y
        z = weight @ h + bias
        loss += (t.sum() * np.log(np.exp(z).sum()) - t @ z) / len(features)
        feature += 0.1 * h @ h / len(features)
    terms = objective_terms(weight, bias, features, label_set=label_set, multi_hot=multi_hot, objective=objective)
    assert terms.loss == pytest.approx(loss, rel=1e-13)
    assert terms.feature == pytest.approx(feature, rel=1e-13)
    assert terms.classifier == pytest.approx(0.005 * (weight**2).sum(), rel=1e-13)
    assert terms.bias == pytest.approx(0.5 * lambda_b * bias @ bias if use_bias else 0.0, rel=1e-13)
    assert terms.total == pytest.approx(loss + feature + terms.classifier + terms.bias, rel=1e-13)


def test_prototypes_with_label_set_weights_are_samples_that_share_a_feature():
    weight, bias, features, label_set, multi_hot = random_network()
    counts = np.bincount(label_set)
    prototypes = np.array([features[label_set == s].mean(axis=0) for s in range(4)])
    whole = objective_terms(
        weight, bias, prototypes[label_set], label_set=label_set, multi_hot=multi_hot, objective=PAL
    )
    condensed = objective_terms(
        weight,
        bias,
        prototypes,
        label_set=np.arange(4),
        multi_hot=multi_hot,
        objective=PAL,
        sample_weights=counts / counts.sum(),
    )
    assert condensed.total == pytest.approx(whole.total, rel=1e-13)


def test_losses_survive_extreme_logits_and_keep_their_digits_when_small():
    targets = np.array([[1.0, 0.0], [0.5, 0.5]])
    logits = np.array([[1e4, -1e4], [800.0, 0.0]])
    np.testing.assert_array_equal(losses(logits, targets, "pal"), [0.0, 400.0])
    # ln(1 + e^-30), which 1·lse − 1·z computed apart would round to 0
    small = losses(np.array([[30.0, 0.0]]), targets[:1], "pal")[0]
    assert small == pytest.approx(np.log1p(np.exp(-30.0)), rel=1e-2)
    np.testing.assert_array_equal(softmax(logits[:1]), [[1.0, 0.0]])


def test_residual_rows_sum_to_zero_and_carry_the_root_of_the_weight():
    distribution = LabelDistribution.from_counts({(0,): 3, (1, 2): 1}, 3)
    p = np.array([[0.5, 0.3, 0.2], [0.2, 0.4, 0.4]])
    residual = residual_matrix(distribution, Objective("raw", 1.0, 1.0), probabilities=p)
    np.testing.assert_allclose(residual.sum(axis=1), 0, atol=1e-16)
    np.testing.assert_allclose(residual[0], np.sqrt(0.75) * np.array([-0.5, 0.3, 0.2]))
    np.testing.assert_allclose(residual[1], np.sqrt(0.25) * np.array([0.4, -0.2, -0.2]))


def test_the_dual_bound_is_the_formula_at_a_feasible_point_and_refuses_any_other():
    distribution = LabelDistribution.from_counts({(0,): 2, (1,): 1, (0, 1): 1}, 2)
    objective = Objective("raw", 1.0, 4.0, 0.1)
    u = np.array([[0.9, 0.1], [0.3, 0.7], [0.5, 0.5]])
    w, tau, t = np.array([0.5, 0.25, 0.25]), np.array([1, 1, 2]), np.array([[1, 0], [0, 1], [1, 1]])
    mean = (w[:, None] * (tau[:, None] * u - t)).sum(axis=0)
    entropy = -(u * np.log(u)).sum(axis=1)
    assert lower_bound(distribution, objective, dual_point=u) == pytest.approx((w * tau) @ entropy - mean @ mean / 0.2)
    no_bias = Objective("raw", 1.0, 4.0, use_bias=False)
    assert lower_bound(distribution, no_bias, dual_point=u) == pytest.approx((w * tau) @ entropy)
    with pytest.raises(ValueError, match="mean residual"):
        lower_bound(distribution, Objective("raw", 1.0, 4.0), dual_point=u)
    with pytest.raises(ValueError, match="> lambda"):
        lower_bound(distribution, Objective("raw", 0.01, 0.01, use_bias=False), dual_point=u)
    with pytest.raises(ValueError, match="sum to 1"):
        lower_bound(distribution, no_bias, dual_point=u * 0.99)
    with pytest.raises(ValueError, match=">= 0"):
        lower_bound(distribution, no_bias, dual_point=np.array([[1.1, -0.1], [0.2, 0.8], [0.5, 0.5]]))


def test_softmax_agrees_with_logsumexp():
    logits = np.random.default_rng(0).standard_normal((5, 7)) * 10
    np.testing.assert_allclose(softmax(logits), np.exp(logits - logsumexp(logits, axis=1, keepdims=True)), rtol=1e-13)
