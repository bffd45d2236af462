"""The best classifier on a network's features: how much of its gap is the classifier's, theory.md (7)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ncpipe.objective.losses import loss_gradients, losses
from ncpipe.objective.settings import Objective
from ncpipe.objective.terms import network_terms

_ITERATIONS = 2000


@dataclass(frozen=True, eq=False)
class Refit:
    """The minimum of (7) over W and b, over b alone where the classifier is fixed, for given features.

    Parameters
    ----------
    weight, bias : ndarray, shapes (K, d) and (K,), float64
    objective : float
        (7) with them.
    gain : float
        (7) with the network's own classifier minus that, >= 0.
    slack : float
        The minimum lies lower by at most this; NaN with a free bias, where strong convexity proves nothing.
    """

    weight: np.ndarray
    bias: np.ndarray
    objective: float
    gain: float
    slack: float


def refit_classifier(
    weight: np.ndarray,
    bias: np.ndarray,
    features: np.ndarray,
    *,
    label_set: np.ndarray,
    multi_hot: np.ndarray,
    objective: Objective,
    factors: np.ndarray | None = None,
    iterations: int = _ITERATIONS,
) -> Refit:
    """Minimise (7) over W (unless fixed) and b for given features, from the network's own: convex, by L-BFGS.

    One float64 copy of the features is made.

    Parameters
    ----------
    weight, bias, features : ndarray, shapes (K, d), (K,), (N, d)
    label_set : ndarray of int, shape (N,)
        Row of `multi_hot` that each sample carries.
    multi_hot : ndarray, shape (S, K)
    objective : Objective
    factors : ndarray, shape (N,), optional
        Sampling weights ω_S of the samples, of mean 1.
    iterations : int
        At most so many of L-BFGS.
    """
    features = features.astype(np.float64)
    weight, bias = weight.astype(np.float64), bias.astype(np.float64)
    targets, rows = objective.target_rows(multi_hot)[label_set], factors
    if factors is not None and objective.facts.linear:
        targets, rows = targets * factors[:, None], None
    best_weight, best_bias, slack = _minimise(weight, bias, features, targets, rows, objective, iterations)

    def value(w: np.ndarray, b: np.ndarray) -> float:
        return network_terms(
            w, b, features, label_set=label_set, multi_hot=multi_hot, objective=objective, factors=factors
        ).total

    network, refitted = value(weight, bias), value(best_weight, best_bias)
    if refitted > network:  # by rounding only: the network's own classifier is the best one then
        return Refit(weight, bias, network, 0.0, slack)
    return Refit(best_weight, best_bias, refitted, network - refitted, slack)


def _minimise(
    weight: np.ndarray,
    bias: np.ndarray,
    features: np.ndarray,
    targets: np.ndarray,
    factors: np.ndarray | None,
    objective: Objective,
    iterations: int,
) -> tuple[np.ndarray, np.ndarray, float]:
    """W, b and slack of the minimum; shapes (K, d), (K,), (N, d), (N, K), (N,)."""
    from scipy.optimize import minimize

    classes, samples = len(weight), len(features)
    fixed = objective.classifier == "etf"
    if fixed and not objective.use_bias:
        return weight, bias, 0.0
    first = 0 if fixed else weight.size
    penalty_b = objective.bias_penalty
    # W in units of the features' size: the loss is then as curved in W as in b, and L-BFGS needs fewer steps.
    size = float(np.sqrt(np.mean(np.einsum("nd,nd->n", features, features)))) or 1.0

    def unpack(parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        w = weight if fixed else parameters[:first].reshape(weight.shape) / size
        return w, parameters[first:] if objective.use_bias else np.zeros(classes)

    def derivatives(w: np.ndarray, b: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        logits = features @ w.T + b
        residuals = loss_gradients(logits, targets, objective.loss) / samples  # (N, K)
        each = losses(logits, targets, objective.loss)
        if factors is not None:
            residuals, each = residuals * factors[:, None], each * factors
        value = float(each.mean()) + 0.5 * objective.lambda_w * float((w**2).sum())
        value += 0.5 * penalty_b * float(b @ b)
        return value, residuals.T @ features + objective.lambda_w * w, residuals.sum(axis=0) + penalty_b * b

    def scaled(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope_w, slope_b = derivatives(*unpack(parameters))
        return value, np.concatenate([slope_w.ravel()[:first] / size, slope_b if objective.use_bias else []])

    start = np.concatenate([weight.ravel()[:first] * size, bias if objective.use_bias else []])
    options = {"maxiter": iterations, "maxfun": 2 * iterations, "maxcor": 30, "ftol": 0.0, "gtol": 1e-10}
    found = minimize(scaled, start, jac=True, method="L-BFGS-B", options=options)
    w, b = unpack(found.x)
    _, slope_w, slope_b = derivatives(w, b)
    # Strong convexity: value − minimum <= ‖slope‖² / (2 × penalty), for W and b apart.
    slack = 0.0 if fixed else float((slope_w**2).sum()) / (2 * objective.lambda_w)
    if objective.bias_mode == "penalised":
        slack += float(slope_b @ slope_b) / (2 * objective.lambda_b)
    return w, b, math.nan if objective.bias_mode == "free" else slack
