"""How far a network is from the certified optimum of the terminal objective (7), and in which of its parts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

from ncpipe.labels import LabelDistribution
from ncpipe.metrics import UndefinedMetric
from ncpipe.objective import (
    Objective,
    Terms,
    objective_terms,
    pal_losses,
    residual_matrix,
    softmax,
    target_rows,
)

# Samples evaluated at once: float64 copies of features stay this small.
_ROWS = 4096


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


def total_variation(
    probabilities: np.ndarray, reference: np.ndarray, label_set: np.ndarray, factors: np.ndarray | None = None
) -> float:
    """Root mean square, over samples, of the total variation between predictions and the optimum's.

    A gap ε bounds it by sqrt(ε / 2) for normalised targets (theory.md §2, "what a gap means").

    Parameters
    ----------
    probabilities : ndarray, shape (N, K)
    reference : ndarray, shape (S, K)
        p*_S.
    label_set : ndarray of int, shape (N,)
    factors : ndarray, shape (N,), optional
        Sampling weights ω_S of the samples, of mean 1; the gap bounds the mean that they weight.
    """
    distances = 0.5 * np.abs(probabilities - reference[label_set]).sum(axis=1)  # (N,)
    return float(np.sqrt(np.mean(distances**2 if factors is None else factors * distances**2)))


@dataclass(frozen=True, eq=False)
class ResidualSpectrum:
    """σ(R)/λ of (23): all 1 where W ≠ 0 at a stationary point; above 1 names a direction that a better W would use.

    Parameters
    ----------
    ratios : ndarray, shape (K,)
        Descending; the last is 0, since residuals sum to 0 over classes.
    directions : ndarray, shape (K, K)
        Unit rows in class space, one for each ratio.
    """

    ratios: np.ndarray
    directions: np.ndarray


def residual_spectrum(
    probabilities: np.ndarray, distribution: LabelDistribution, objective: Objective
) -> ResidualSpectrum:
    """Spectrum of the residuals, theory.md (23), averaged within each label set.

    Parameters
    ----------
    probabilities : ndarray, shape (S, K)
        Softmax averaged over the samples of each label set.
    """
    residuals = residual_matrix(probabilities, distribution, objective.target)  # (S, K)
    classes = distribution.classes
    # Through QR, so that thousands of label sets cost one K × K decomposition and fewer than K still give K ratios.
    padded = np.vstack([residuals, np.zeros((max(0, classes - len(residuals)), classes))])
    singular, directions = np.linalg.svd(np.linalg.qr(padded, mode="r"))[1:]
    signs = np.sign(directions[np.arange(classes), np.abs(directions).argmax(axis=1)])
    return ResidualSpectrum(singular / objective.lam, directions * signs[:, None])


def weakest_margin(logits: np.ndarray, multi_hot: np.ndarray) -> float:
    """Smallest z_a − z_b over label sets S, a in S and b not in S: the left side of (21), at the prototypes.

    Parameters
    ----------
    logits, multi_hot : ndarray, shape (S, K)
        Logits of the prototypes, which are the mean logits of their samples.

    Raises
    ------
    UndefinedMetric
        If a label set holds every class.
    """
    present = multi_hot.astype(bool)
    if present.all(axis=1).any():
        raise UndefinedMetric("no class lies outside the label set")
    lowest = np.where(present, logits, np.inf).min(axis=1)
    highest = np.where(present, -np.inf, logits).max(axis=1)
    return float((lowest - highest).min())


@dataclass(frozen=True)
class GapSplit:
    """Where a gap comes from; the three parts are >= 0 and sum to it.

    Parameters
    ----------
    classifier : float
        What a better W and b would gain on the features as they are.
    scatter : float
        What collapsing each label set onto its prototype would gain then.
    prototypes : float
        What is left: prototypes, and the classifier with them, away from the optimum.
    slack : float
        The classifier part may be larger, and the others smaller, by at most this (the solver's certified
        inexactness); NaN with a free bias, where strong convexity proves nothing.
    """

    classifier: float
    scatter: float
    prototypes: float
    slack: float

    @property
    def total(self) -> float:
        """The gap."""
        return self.classifier + self.scatter + self.prototypes


def split_gap(
    weight: np.ndarray,
    bias: np.ndarray,
    features: np.ndarray,
    *,
    prototypes: np.ndarray,
    label_set: np.ndarray,
    distribution: LabelDistribution,
    objective: Objective,
    bound: float,
    factors: np.ndarray | None = None,
    iterations: int = 2000,
) -> GapSplit:
    """Split a network's gap, (7) minus `bound`, into classifier, within-label-set scatter and prototypes.

    One float64 copy of the features is made.

    Parameters
    ----------
    weight, bias, features : ndarray, shapes (K, d), (K,), (N, d)
    prototypes : ndarray, shape (S, d)
        Mean feature of each label set.
    label_set : ndarray of int, shape (N,)
        Position of each sample's label set in `distribution`.
    distribution : LabelDistribution
        As training sees it: with sampling weights, q_S N samples of each label set.
    objective : Objective
    bound : float
        A lower bound on (7) over the features considered: (9), or (9a) for features >= 0.
    factors : ndarray, shape (N,), optional
        Sampling weights ω_S of the samples, of mean 1.
    iterations : int
        At most so many of L-BFGS.
    """
    multi_hot = distribution.multi_hot()
    features = features.astype(np.float64)
    weight, bias = weight.astype(np.float64), bias.astype(np.float64)
    targets = target_rows(multi_hot, objective.target)[label_set]
    if factors is not None:
        targets = targets * factors[:, None]  # the loss is linear in its target
    best = _best_classifier(weight, bias, features, targets, objective, iterations)

    def value(w: np.ndarray, b: np.ndarray) -> float:
        return network_terms(
            w, b, features, label_set=label_set, multi_hot=multi_hot, objective=objective, factors=factors
        ).total

    network, refitted = value(weight, bias), value(best.weight, best.bias)
    if refitted > network:  # by rounding only: the network's own classifier is the best one then
        best, refitted = replace(best, weight=weight, bias=bias), network
    flat = objective_terms(
        best.weight, best.bias, prototypes, label_set=np.arange(len(prototypes)), multi_hot=multi_hot,
        objective=objective, sample_weights=distribution.weights,
    ).total  # fmt: skip
    return GapSplit(network - refitted, refitted - flat, flat - bound, best.slack)


@dataclass(frozen=True, eq=False)
class _Classifier:
    weight: np.ndarray
    bias: np.ndarray
    slack: float


def _best_classifier(
    weight: np.ndarray,
    bias: np.ndarray,
    features: np.ndarray,
    targets: np.ndarray,
    objective: Objective,
    iterations: int,
) -> _Classifier:
    """Minimise (7) over W and b for given features: convex. Shapes (K, d), (K,), (N, d), (N, K)."""
    classes, samples = len(weight), len(features)
    tau = targets.sum(axis=1, keepdims=True)
    penalty_b = objective.lambda_b if objective.bias == "penalised" else 0.0
    # W in units of the features' size: the loss is then as curved in W as in b, and L-BFGS needs fewer steps.
    size = float(np.sqrt(np.mean(np.einsum("nd,nd->n", features, features)))) or 1.0

    def unpack(parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        w = parameters[: weight.size].reshape(weight.shape) / size
        return w, parameters[weight.size :] if objective.use_bias else np.zeros(classes)

    def derivatives(w: np.ndarray, b: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        logits = features @ w.T + b
        residuals = (tau * softmax(logits) - targets) / samples  # (N, K)
        value = float(pal_losses(logits, targets).mean()) + 0.5 * objective.lambda_w * float((w**2).sum())
        value += 0.5 * penalty_b * float(b @ b)
        return value, residuals.T @ features + objective.lambda_w * w, residuals.sum(axis=0) + penalty_b * b

    def scaled(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope_w, slope_b = derivatives(*unpack(parameters))
        return value, np.concatenate([slope_w.ravel() / size, slope_b if objective.use_bias else []])

    start = np.concatenate([weight.ravel() * size, bias if objective.use_bias else []])
    options = {"maxiter": iterations, "maxfun": 2 * iterations, "maxcor": 30, "ftol": 0.0, "gtol": 1e-10}
    found = minimize(scaled, start, jac=True, method="L-BFGS-B", options=options)
    w, b = unpack(found.x)
    _, slope_w, slope_b = derivatives(w, b)
    # Strong convexity: value − minimum <= ‖slope‖² / (2 × penalty), for W and b apart.
    slack = float((slope_w**2).sum()) / (2 * objective.lambda_w)
    if objective.bias == "penalised":
        slack += float(slope_b @ slope_b) / (2 * objective.lambda_b)
    return _Classifier(w, b, math.nan if objective.bias == "free" else slack)
