"""The terminal objective (7), its terms and its dual bound (9), shared by training, theory and collapse."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ncpipe.labels.distribution import LabelDistribution, contrast_basis
from ncpipe.objective.losses import LOSSES, losses
from ncpipe.objective.settings import Objective

# Feasibility of a dual point is asked for up to this relative rounding; it moves the bound by no more.
_ROUNDING = 1e-12

# Samples evaluated at once: float64 copies of features stay this small.
_ROWS = 4096


@dataclass(frozen=True)
class Terms:
    """The four terms of (7); `total` is their sum."""

    loss: float
    classifier: float
    feature: float
    bias: float

    @property
    def total(self) -> float:
        """The objective (7)."""
        return self.loss + self.classifier + self.feature + self.bias


def objective_terms(
    weight: np.ndarray,
    bias: np.ndarray,
    features: np.ndarray,
    *,
    label_set: np.ndarray,
    multi_hot: np.ndarray,
    objective: Objective,
    sample_weights: np.ndarray | None = None,
) -> Terms:
    """Evaluate the terms of (7) for a network's last layer, in float64.

    Parameters
    ----------
    weight : ndarray, shape (K, d)
    bias : ndarray, shape (K,)
        Zeros for a network without a bias.
    features : ndarray, shape (N, d)
    label_set : ndarray of int, shape (N,)
        Row of `multi_hot` that each sample carries.
    multi_hot : ndarray, shape (S, K)
    objective : Objective
    sample_weights : ndarray, shape (N,), optional
        Weights of the samples, summing to 1; 1/N unless given. With prototypes as features and w_S as weights
        this is (7) of fully collapsed features.
    """
    weight, bias, features = (np.asarray(a, dtype=np.float64) for a in (weight, bias, features))
    if sample_weights is None:
        sample_weights = np.full(len(features), 1.0 / len(features))
    targets = objective.target_rows(multi_hot)[label_set]  # (N, K)
    penalty_b = objective.bias_penalty
    return Terms(
        loss=float(sample_weights @ losses(features @ weight.T + bias, targets, objective.loss)),
        classifier=0.5 * objective.lambda_w * float((weight**2).sum()),
        feature=0.5 * objective.lambda_h * float(sample_weights @ (features**2).sum(axis=1)),
        bias=0.5 * penalty_b * float(bias @ bias),
    )


def collapsed_terms(
    distribution: LabelDistribution,
    objective: Objective,
    *,
    weight: np.ndarray,
    bias: np.ndarray,
    prototypes: np.ndarray,
) -> Terms:
    """Evaluate the terms of (7) where all samples of a label set share its prototype.

    Parameters
    ----------
    distribution : LabelDistribution
    objective : Objective
    weight, bias, prototypes : ndarray, shapes (K, d), (K,) and (S, d)
    """
    return objective_terms(
        weight,
        bias,
        prototypes,
        label_set=np.arange(len(prototypes)),
        multi_hot=distribution.multi_hot(),
        objective=objective,
        sample_weights=distribution.weights,
    )


def network_logits(weight: np.ndarray, bias: np.ndarray, features: np.ndarray) -> np.ndarray:
    """W h_i + b in float64, shape (N, K), without a float64 copy of the features."""
    weight, bias = weight.astype(np.float64), bias.astype(np.float64)
    logits = np.empty((len(features), len(weight)))
    for start in range(0, len(features), _ROWS):
        block = slice(start, start + _ROWS)
        np.matmul(features[block].astype(np.float64), weight.T, out=logits[block])
    return logits + bias


def network_terms(
    weight: np.ndarray,
    bias: np.ndarray,
    features: np.ndarray,
    *,
    label_set: np.ndarray,
    multi_hot: np.ndarray,
    objective: Objective,
    factors: np.ndarray | None = None,
) -> Terms:
    """Terms of (7) of a network's last layer, sample block by sample block.

    Shapes as in `objective_terms`; `factors`, shape (N,) and of mean 1, are the samples' sampling weights ω_S.
    """
    shares = (np.ones(len(features)) if factors is None else factors) / len(features)
    parts = []
    for start in range(0, len(features), _ROWS):
        block = slice(start, start + _ROWS)
        terms = objective_terms(
            weight, bias, features[block], label_set=label_set[block], multi_hot=multi_hot, objective=objective,
            sample_weights=shares[block],
        )  # fmt: skip
        parts.append(terms)
    return replace(parts[0], loss=math.fsum(p.loss for p in parts), feature=math.fsum(p.feature for p in parts))


def residual_matrix(distribution: LabelDistribution, objective: Objective, *, probabilities: np.ndarray) -> np.ndarray:
    """R = (s p − t) D^{1/2} of (9) and (23), as rows; s = τ for pick-all-labels, else 1.

    Parameters
    ----------
    probabilities : ndarray, shape (S, K)
        Predictions of each label set (for a network: averaged over its samples), or a dual point u.

    Returns
    -------
    ndarray, shape (S, K)
        Row S is sqrt(w_S) (s_S p_S − t_S); ‖R‖_2 <= λ at the optimum.
    """
    residuals = objective.amplitude(distribution)[:, None] * probabilities - objective.targets(distribution)
    return np.sqrt(distribution.weights)[:, None] * residuals


def lower_bound(distribution: LabelDistribution, objective: Objective, *, dual_point: np.ndarray) -> float:
    """Evaluate the lower bound (9) on the minimum of (7), with a learned classifier, at a feasible dual point.

    Parameters
    ----------
    dual_point : ndarray, shape (S, K)
        u_S, with ‖(s u − t)D^{1/2}‖_2 <= λ; a free bias also asks for Σ_S w_S (s_S u_S − t_S) = 0. Each row lies in
        the range of the predictions: u_S >= 0 with 1ᵀu_S = 1 (pal), 0 <= u_S <= 1 (bce), anywhere (mse).

    Raises
    ------
    ValueError
        If the point is infeasible by more than rounding, so that (9) would not be a bound.
    """
    weights, amplitude, loss = distribution.weights, objective.amplitude(distribution), LOSSES[objective.loss]
    residuals = residual_matrix(distribution, objective, probabilities=dual_point)
    norm = float(np.linalg.norm(residuals, 2))
    # The second part is the rounding of u itself, which matters for tiny λ only.
    largest = float(amplitude.max()) if loss.bounded else max(1.0, float(np.abs(dual_point).max()))
    rounding = _ROUNDING * objective.lam + 8 * np.finfo(float).eps * np.sqrt(distribution.classes) * largest
    if norm > objective.lam + rounding:
        raise ValueError(f"infeasible dual point: residual norm {norm:.17g} > lambda {objective.lam:.17g}")
    value = float(weights @ loss.dual_values(dual_point, objective.targets(distribution), amplitude))
    if objective.bias_mode == "none":
        return value
    imbalance = np.sqrt(weights) @ residuals  # Σ_S w_S (s_S u_S − t_S), shape (K,)
    if objective.bias_mode == "penalised":
        return value - float(imbalance @ imbalance) / (2 * objective.lambda_b)
    if np.abs(imbalance).max() > _ROUNDING * float(weights @ amplitude):
        raise ValueError(f"infeasible dual point: mean residual {np.abs(imbalance).max():.3g}, not 0")
    return value


def radius(distribution: LabelDistribution, objective: Objective, *, gap: float, nonnegative: bool = False) -> float:
    """Bound on ‖R‖₂ at a point with this gap: λ + √(2 L s_max ε), with √2 λ for features h >= 0 (theory.md (20)).

    L is the curvature of the loss: λ + √(τ_max ε) for pick-all-labels.

    Parameters
    ----------
    distribution : LabelDistribution
    objective : Objective
    gap : float
        ε = objective − lower bound, absolute; from (9), or from (9a) for features h >= 0.
    nonnegative : bool
        Whether features are >= 0.
    """
    lam = objective.lam * (np.sqrt(2.0) if nonnegative else 1.0)
    steepest = 2 * LOSSES[objective.loss].curvature * objective.amplitude(distribution).max()
    return float(lam + np.sqrt(steepest * max(gap, 0.0)))


def prediction_sigma(
    distribution: LabelDistribution, objective: Objective, *, probabilities: np.ndarray, multiplicity: int | None = None
) -> np.ndarray:
    """All K − 1 singular values of F = s P p D^{1/2} on 1^⊥, descending, or of F_m / √w_m: theory.md (20).

    For pick-all-labels F = τ(p − 1/K) D^{1/2}. With t_S / s_S for the predictions they are those of the targets.

    Parameters
    ----------
    probabilities : ndarray, shape (S, K)
        Predictions, averaged over the samples of each label set.
    """
    weights = distribution.weights
    if multiplicity is not None:
        rows = distribution.multiplicity == multiplicity
        weights = np.where(rows, weights, 0.0) / weights[rows].sum()
    scale = np.sqrt(weights) * objective.amplitude(distribution)
    sigma = np.linalg.svd(scale[:, None] * probabilities @ contrast_basis(distribution.classes), compute_uv=False)
    return np.pad(sigma, (0, max(0, distribution.classes - 1 - len(sigma))))
