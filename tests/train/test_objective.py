"""The training loss and the terms of the objective, against formulas without torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ncpipe.objective import terms as numpy_objective
from ncpipe.objective.settings import Objective, target_rows
from ncpipe.train.objective import batch_loss, error_and_score, objective_terms

K, D = 5, 3


def random_labels(rng: np.random.Generator, samples: int) -> np.ndarray:
    labels = rng.random((samples, K)) < 0.4
    labels[np.arange(samples), rng.integers(0, K, samples)] = True
    return labels


def random_targets(rng: np.random.Generator, samples: int, target: str) -> np.ndarray:
    labels = random_labels(rng, samples).astype(float)
    return labels / labels.sum(1, keepdims=True) if target == "normalised" else labels


def naive_loss(logits: np.ndarray, features: np.ndarray, targets: np.ndarray, lambda_h: float) -> float:
    total = 0.0
    for z, h, t in zip(logits, features, targets, strict=True):
        total += sum(t[k] * (np.log(np.exp(z).sum()) - z[k]) for k in range(K)) + lambda_h / 2 * (h**2).sum()
    return total / len(logits)


@pytest.mark.parametrize("target", ["normalised", "raw"])
@pytest.mark.parametrize("samples", [1, 7])
def test_loss_is_the_formula(target: str, samples: int) -> None:
    rng = np.random.default_rng(samples)
    logits, features = 3 * rng.standard_normal((samples, K)), rng.standard_normal((samples, D))
    targets = random_targets(rng, samples, target)
    loss = batch_loss(*map(torch.from_numpy, (logits, features, targets)), 0.3)
    assert loss.item() == pytest.approx(naive_loss(logits, features, targets, 0.3), rel=1e-12)


@pytest.mark.parametrize("target", ["normalised", "raw"])
def test_gradients_agree_with_finite_differences_and_closed_form(target: str) -> None:
    """Of logits: (τp − t) / B; of features: λ_H h / B beside what comes through the classifier."""
    rng = np.random.default_rng(0)
    samples, step = 4, 1e-6
    logits, features = rng.standard_normal((samples, K)), rng.standard_normal((samples, D))
    targets = random_targets(rng, samples, target)
    z, h = (torch.from_numpy(a).requires_grad_() for a in (logits.copy(), features.copy()))
    batch_loss(z, h, torch.from_numpy(targets), 0.3).backward()
    for values, gradient in ((logits, z.grad), (features, h.grad)):
        assert gradient is not None
        for index in np.ndindex(values.shape):
            ends = []
            for sign in (1, -1):
                values[index] += sign * step
                ends.append(naive_loss(logits, features, targets, 0.3))
                values[index] -= sign * step
            assert gradient[index].item() == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-8)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    residual = targets.sum(1, keepdims=True) * probabilities - targets
    np.testing.assert_allclose(z.grad, residual / samples, atol=1e-15)
    np.testing.assert_allclose(h.grad, 0.3 * features / samples, atol=1e-15)


def test_penalty_of_a_short_batch_is_the_same_for_each_sample() -> None:
    """Li et al. sum over the batch, so that the short last one of an epoch counts half; here it does not."""
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.standard_normal((128, D)))
    features /= features.norm(dim=1, keepdim=True)
    logits, targets = torch.zeros(128, K, dtype=torch.float64), torch.full((128, K), 1 / K, dtype=torch.float64)
    for batch in (128, 64, 1):
        loss = batch_loss(logits[:batch], features[:batch], targets[:batch], 0.256)
        assert loss.item() == pytest.approx(np.log(K) + 0.128, rel=1e-12)


@pytest.mark.parametrize("target", ["normalised", "raw"])
@pytest.mark.parametrize("lambda_b", [0.0, 0.02])
def test_terms_agree_with_the_shared_definition(target: str, lambda_b: float) -> None:
    rng = np.random.default_rng(1)
    features, weight, bias = (rng.standard_normal(s).astype(np.float32) for s in ((40, D), (K, D), (K,)))
    multi_hot, label_set = np.unique(random_labels(rng, 40), axis=0, return_inverse=True)
    settings = Objective(target=target, lambda_w=0.3, lambda_h=0.2, lambda_b=lambda_b, use_bias=True)
    expected = numpy_objective.objective_terms(
        weight, bias, features, label_set=label_set, multi_hot=multi_hot, objective=settings
    )
    targets = target_rows(multi_hot, target)[label_set]
    terms = objective_terms(
        *map(torch.from_numpy, (features, weight, bias, targets)), lambda_w=0.3, lambda_h=0.2, lambda_b=lambda_b
    )
    for name, value in terms.items():
        # Exact to rounding in float64, although features and weights are float32.
        assert value == pytest.approx(getattr(expected, name), rel=1e-13), name
    assert sum(terms.values()) == pytest.approx(expected.total, rel=1e-13)


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.booleans())
def test_error_and_score_by_brute_force(seed: int, samples: int, coarse: bool) -> None:
    """Sort the logits; where the m-th and the next are equal, the top m are no set, hence an error."""
    rng = np.random.default_rng(seed)
    labels = random_labels(rng, samples)
    logits = rng.integers(0, 3, (samples, K)).astype(float) if coarse else rng.standard_normal((samples, K))
    wrong, mass = 0, 0.0
    for z, y in zip(logits, labels, strict=True):
        order, m = np.argsort(-z), int(y.sum())
        tie = m < K and z[order[m - 1]] == z[order[m]]
        wrong += tie or set(order[:m]) != set(np.flatnonzero(y))
        mass += np.exp(z)[y].sum() / np.exp(z).sum()
    error, score = error_and_score(torch.from_numpy(logits), torch.from_numpy(labels))
    assert error == pytest.approx(wrong / samples, abs=1e-12)
    assert score == pytest.approx(mass / samples, rel=1e-12)


def test_a_sample_of_all_classes_has_no_error() -> None:
    error, score = error_and_score(torch.randn(3, K), torch.ones(3, K, dtype=torch.bool))
    assert error == 0
    assert score == pytest.approx(1)
