"""The terminal objective (7), its terms and its dual bound (9), shared by training, theory and collapse."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy.special import entr, expit, logsumexp

from ncpipe.labels import LabelDistribution, Target, contrast_basis

Bias = Literal["none", "penalised", "free"]
LossName = Literal["pal", "bce", "mse"]
Classifier = Literal["learned", "etf"]

# Largest curvature L of each loss in the logits, per unit of its amplitude: ∇²ℓ ⪯ L s_S I.
CURVATURE: dict[LossName, float] = {"pal": 0.5, "bce": 0.25, "mse": 1.0}

# Feasibility of a dual point is asked for up to this relative rounding; it moves the bound by no more.
_ROUNDING = 1e-12

# Samples evaluated at once: float64 copies of features stay this small.
_ROWS = 4096


@dataclass(frozen=True)
class Objective:
    """Settings of the terminal objective, theory.md (7).

    Parameters
    ----------
    target : {"normalised", "raw"}
        t_S = y_S / m or t_S = y_S (pick-all-labels).
    lambda_w, lambda_h : float
        Penalties on the classifier and, per sample, on the features; > 0.
    lambda_b : float
        Penalty on the bias; 0 makes it free. Ignored without a bias.
    use_bias : bool
        Whether the classifier has a bias.
    loss : {"pal", "bce", "mse"}
        ℓ of (7): pick-all-labels cross-entropy, binary cross-entropy of every class, or half the squared error.
    class_weights : tuple of float, length K, optional
        c_k > 0: pick-all-labels with c_k t_k for t_k.
    classifier : {"learned", "etf"}
        Whether W is learned, or fixed to `simplex_etf`; its penalty in (7) is a constant then.
    """

    target: Target
    lambda_w: float
    lambda_h: float
    lambda_b: float = 0.0
    use_bias: bool = True
    loss: LossName = "pal"
    class_weights: tuple[float, ...] | None = None
    classifier: Classifier = "learned"

    @property
    def lam(self) -> float:
        """λ = sqrt(λ_W λ_H), the nuclear-norm weight of (8)."""
        return float(np.sqrt(self.lambda_w * self.lambda_h))

    @property
    def bias(self) -> Bias:
        """The bias mode of (9)."""
        if not self.use_bias:
            return "none"
        return "penalised" if self.lambda_b > 0 else "free"

    @property
    def variant(self) -> str:
        """What sets the objective apart from unweighted pick-all-labels with a learned classifier; "" if nothing."""
        parts = [] if self.loss == "pal" else [f"loss {self.loss}"]
        parts += [] if self.class_weights is None else ["class weights"]
        parts += [] if self.classifier == "learned" else ["a fixed classifier"]
        return " and ".join(parts)

    @property
    def least_width(self) -> str:
        """Feature width from which on (7) equals (8): "K - 1" where the loss sees contrasts only, else "K"."""
        return "K - 1" if self.loss == "pal" and self.classifier == "learned" else "K"

    @classmethod
    def from_config(cls, entry: dict[str, Any]) -> Objective:
        """Build from a validated entry of ``objectives``, its class weights numbers (`config.objective_entry`)."""
        weights = entry.get("class_weights")
        return cls(
            target=entry["target"],
            lambda_w=float(entry["lambda_w"]),
            lambda_h=float(entry["lambda_h"]),
            lambda_b=float(entry["lambda_b"]),
            use_bias=bool(entry["bias"]),
            loss=entry.get("loss", "pal"),
            class_weights=None if weights is None else tuple(map(float, weights)),
            classifier=entry.get("classifier", "learned"),
        )

    def as_entry(self) -> dict[str, Any]:
        """The entry that `from_config` makes this of; values that are defaults of the configuration are left out."""
        entry: dict[str, Any] = {
            "target": self.target,
            "lambda_w": self.lambda_w,
            "lambda_h": self.lambda_h,
            "lambda_b": self.lambda_b,
            "bias": self.use_bias,
        }
        entry |= {} if self.loss == "pal" else {"loss": self.loss}
        entry |= {} if self.class_weights is None else {"class_weights": list(self.class_weights)}
        return entry | ({} if self.classifier == "learned" else {"classifier": self.classifier})

    def target_rows(self, multi_hot: np.ndarray) -> np.ndarray:
        """t_S of multi-hot rows, shape (S, K): of the objective's target, times its class weights."""
        rows = target_rows(multi_hot, self.target)
        return rows if self.class_weights is None else rows * np.array(self.class_weights)

    def targets(self, distribution: LabelDistribution) -> np.ndarray:
        """t_S of the label sets, shape (S, K)."""
        rows = distribution.targets(self.target)
        return rows if self.class_weights is None else rows * np.array(self.class_weights)

    def amplitude(self, distribution: LabelDistribution) -> np.ndarray:
        """s_S of the gradient s_S p_S − t_S, shape (S,): τ_S = 1ᵀt_S for pick-all-labels, 1 for the others."""
        if self.loss != "pal":
            return np.ones(len(distribution.counts))
        if self.class_weights is None:
            return distribution.tau(self.target)
        return self.targets(distribution).sum(axis=1)


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


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis (classes), overflow-free."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def simplex_etf(classes: int, width: int) -> np.ndarray:
    """The fixed classifier, shape (K, width): √(K/(K−1)) (I − 11ᵀ/K) with unit rows, further columns 0.

    As in the code of Li et al. (2024), whose feature width is K. Values are rounded to float32, so that a network that
    holds them in float32 has the very classifier that theory is about.

    Raises
    ------
    ValueError
        If width < K.
    """
    if width < classes:
        raise ValueError(f"a simplex ETF of {classes} classes needs as many features, found {width}")
    rows = np.sqrt(classes / (classes - 1)) * (np.eye(classes) - 1.0 / classes)
    return np.pad(rows, ((0, 0), (0, width - classes))).astype(np.float32).astype(np.float64)


def predictions(logits: np.ndarray, loss: LossName) -> np.ndarray:
    """Predictions p of logits: softmax (pal), sigmoid of each (bce), or the logits themselves (mse)."""
    if loss == "pal":
        return softmax(logits)
    return expit(logits) if loss == "bce" else logits


def losses(logits: np.ndarray, targets: np.ndarray, loss: LossName) -> np.ndarray:
    """ℓ(z, S) of each row, theory.md (7).

    Parameters
    ----------
    logits, targets : ndarray, shape (N, K)

    Returns
    -------
    ndarray, shape (N,)
    """
    if loss == "pal":
        return pal_losses(logits, targets)
    if loss == "bce":
        return np.logaddexp(0, np.where(targets > 0, -logits, logits)).sum(axis=-1)
    return 0.5 * ((logits - targets) ** 2).sum(axis=-1)


def loss_gradients(logits: np.ndarray, targets: np.ndarray, loss: LossName) -> np.ndarray:
    """∇ℓ(z, S) = s p − t of each row, shape (N, K)."""
    amplitude = targets.sum(axis=-1, keepdims=True) if loss == "pal" else 1.0
    return amplitude * predictions(logits, loss) - targets


def pal_losses(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """ℓ(z, S) = τ logsumexp(z) − tᵀz of each row, theory.md (7).

    Parameters
    ----------
    logits, targets : ndarray, shape (N, K)

    Returns
    -------
    ndarray, shape (N,)
    """
    # t·(lse − z) rather than τ·lse − t·z: every term is >= 0, so nothing cancels when the loss is small.
    return (targets * (logsumexp(logits, axis=-1, keepdims=True) - logits)).sum(axis=-1)


def target_rows(multi_hot: np.ndarray, target: Target) -> np.ndarray:
    """Targets of multi-hot rows, shape (S, K): y/|y| (normalised) or y (raw)."""
    rows = np.asarray(multi_hot, dtype=np.float64)
    return rows / rows.sum(axis=1, keepdims=True) if target == "normalised" else rows


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
    penalty_b = objective.lambda_b if objective.bias == "penalised" else 0.0
    return Terms(
        loss=float(sample_weights @ losses(features @ weight.T + bias, targets, objective.loss)),
        classifier=0.5 * objective.lambda_w * float((weight**2).sum()),
        feature=0.5 * objective.lambda_h * float(sample_weights @ (features**2).sum(axis=1)),
        bias=0.5 * penalty_b * float(bias @ bias),
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


def residual_matrix(probabilities: np.ndarray, distribution: LabelDistribution, objective: Objective) -> np.ndarray:
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


def dual_bound(dual_point: np.ndarray, distribution: LabelDistribution, objective: Objective) -> float:
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
    weights, amplitude = distribution.weights, objective.amplitude(distribution)
    residuals = residual_matrix(dual_point, distribution, objective)
    norm = float(np.linalg.norm(residuals, 2))
    # The second part is the rounding of u itself, which matters for tiny λ only.
    largest = float(amplitude.max()) if objective.loss != "mse" else max(1.0, float(np.abs(dual_point).max()))
    rounding = _ROUNDING * objective.lam + 8 * np.finfo(float).eps * np.sqrt(distribution.classes) * largest
    if norm > objective.lam + rounding:
        raise ValueError(f"infeasible dual point: residual norm {norm:.17g} > lambda {objective.lam:.17g}")
    value = float(weights @ _dual_values(dual_point, objective.targets(distribution), amplitude, objective.loss))
    if objective.bias == "none":
        return value
    imbalance = np.sqrt(weights) @ residuals  # Σ_S w_S (s_S u_S − t_S), shape (K,)
    if objective.bias == "penalised":
        return value - float(imbalance @ imbalance) / (2 * objective.lambda_b)
    if np.abs(imbalance).max() > _ROUNDING * float(weights @ amplitude):
        raise ValueError(f"infeasible dual point: mean residual {np.abs(imbalance).max():.3g}, not 0")
    return value


def _dual_values(point: np.ndarray, targets: np.ndarray, amplitude: np.ndarray, loss: LossName) -> np.ndarray:
    """-ℓ*_S(s_S u_S − t_S), shape (S,)."""
    if loss == "pal":
        if point.min() < 0 or np.abs(point.sum(axis=1) - 1).max() > _ROUNDING:
            raise ValueError("infeasible dual point: rows must be >= 0 and sum to 1")
        return amplitude * entr(point).sum(axis=1)
    if loss == "bce":
        if point.min() < 0 or point.max() > 1:
            raise ValueError("infeasible dual point: entries must lie in 0 to 1")
        return (entr(point) + entr(1 - point)).sum(axis=1)
    return 0.5 * (targets**2 - point**2).sum(axis=1)


def radius(distribution: LabelDistribution, objective: Objective, gap: float, *, nonnegative: bool = False) -> float:
    """Bound on ‖R‖₂ at a point with this gap: λ + √(2 L s_max ε), with √2 λ for features h >= 0 (theory.md (20)).

    L is the `CURVATURE` of the loss: λ + √(τ_max ε) for pick-all-labels.

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
    steepest = 2 * CURVATURE[objective.loss] * objective.amplitude(distribution).max()
    return float(lam + np.sqrt(steepest * max(gap, 0.0)))


def prediction_sigma(
    probabilities: np.ndarray, distribution: LabelDistribution, objective: Objective, *, multiplicity: int | None = None
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


def has_signed_features(architecture: str) -> bool:
    """Whether features of a network are of either sign; all others come out of a ReLU, where (7) has a higher minimum.

    Parameters
    ----------
    architecture : str
        Of an entry of ``networks`` in the configuration.
    """
    return architecture in ("ufm", "vit")
