"""Losses convex in the logits, as solvers and certificates need them: values, derivatives, conjugates.

For every loss of this form (7) equals the convex problem (8), and weak duality gives, for any rows g_S in the
domain of the conjugates,

    f* >= -Σ_S w_S ℓ*_S(g_S) - ‖Σ_S w_S g_S‖² / (2 λ_b)      whenever  ‖ g D^{1/2} ‖_2 <= λ ,

which for PAL is (9) with g = τu - t. The domain of every loss here is a box that contains g = 0. A new loss is a
function that returns a `Loss`; nothing else changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import entr, expit, logsumexp

from ncpipe.labels.distribution import LabelDistribution, Target
from ncpipe.objective.settings import LossName, Objective

# Feasibility of a dual point is asked for up to this relative rounding; it moves the bound by no more.
_ROUNDING = 1e-12

# Largest curvature L of each loss in the logits, per unit of its amplitude: ∇²ℓ ⪯ L s_S I.
CURVATURE: dict[LossName, float] = {"pal": 0.5, "bce": 0.25, "mse": 1.0}


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


_TINY = np.finfo(float).tiny

Rows = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Loss:
    """One loss over the label sets of a distribution; all functions act on all rows at once.

    Parameters
    ----------
    value : callable
        ℓ_S(z_S), logits (S, K) to (S,).
    gradient : callable
        ∇ℓ_S(z_S), (S, K) to (S, K).
    hessian : callable
        ∇²ℓ_S(z_S), (S, K) to (S, K, K).
    mean_hessian : callable
        Σ_S w_S ∇²ℓ_S(z_S), of logits (S, K) and weights (S,), (K, K), without holding each.
    dual : callable
        -ℓ*_S(g_S), gradients (S, K) inside the box to (S,).
    dual_gradient : callable
        Its gradient (minus the logits that have gradient g_S), (S, K) to (S, K); finite on the boundary.
    lower, upper : ndarray, shape (S, K)
        The box that gradients lie in.
    shift_invariant : bool
        Whether ℓ(z + c 1) = ℓ(z): then gradients sum to 0 and only contrasts matter.
    """

    value: Rows
    gradient: Rows
    hessian: Rows
    mean_hessian: Callable[[np.ndarray, np.ndarray], np.ndarray]
    dual: Rows
    dual_gradient: Rows
    lower: np.ndarray
    upper: np.ndarray
    shift_invariant: bool


def loss_of(distribution: LabelDistribution, objective: Objective) -> Loss:
    """The loss of an objective over the label sets of a distribution."""
    if objective.loss == "bce":
        return bce(distribution)
    if objective.loss == "mse":
        return mse(distribution, objective.target)
    weights = None if objective.class_weights is None else np.array(objective.class_weights)
    return pal(distribution, objective.target, class_weights=weights)


def pal(
    distribution: LabelDistribution,
    target: Target,
    *,
    class_weights: np.ndarray | None = None,
    adjustment: np.ndarray | None = None,
) -> Loss:
    """Pick-all-labels cross-entropy ℓ(z, S) = τ_S logsumexp(z) - t_Sᵀz, theory.md (7), and its variants.

    Parameters
    ----------
    distribution : LabelDistribution
    target : {"normalised", "raw"}
    class_weights : ndarray, shape (K,), optional
        Class-weighted loss: c_k t_k in place of t_k (and τ their sum).
    adjustment : ndarray, shape (K,), optional
        Logit-adjusted loss: z + a in place of z, such as a_k = ln of the frequency of class k.

    Raises
    ------
    ValueError
        If a class weight is not > 0.
    """
    targets = distribution.targets(target)  # (S, K)
    if class_weights is not None:
        if not (np.asarray(class_weights) > 0).all():
            raise ValueError(f"class weights must be > 0, found {np.min(class_weights)}")
        targets = targets * class_weights
    tau = targets.sum(axis=1, keepdims=True)  # (S, 1)
    shift = np.zeros(distribution.classes) if adjustment is None else np.asarray(adjustment, dtype=np.float64)

    def dual_point(gradient: np.ndarray) -> np.ndarray:
        return np.maximum((gradient + targets) / tau, 0.0)

    def hessian(logits: np.ndarray) -> np.ndarray:
        p = softmax(logits + shift)
        curvature = -(tau * p)[:, :, None] * p[:, None, :]
        diagonal = np.arange(p.shape[1])
        curvature[:, diagonal, diagonal] += tau * p
        return curvature

    def mean_hessian(logits: np.ndarray, weights: np.ndarray) -> np.ndarray:
        p = softmax(logits + shift)
        mass = weights[:, None] * tau * p
        return np.diag(mass.sum(axis=0)) - p.T @ mass

    return Loss(
        value=lambda logits: pal_losses(logits + shift, targets),
        gradient=lambda logits: tau * softmax(logits + shift) - targets,
        hessian=hessian,
        mean_hessian=mean_hessian,
        dual=lambda gradient: tau[:, 0] * entr(dual_point(gradient)).sum(axis=1) + gradient @ shift,
        dual_gradient=lambda gradient: shift - np.log(np.maximum(dual_point(gradient), _TINY)),
        lower=-targets,
        upper=tau - targets,
        shift_invariant=True,
    )


def bce(distribution: LabelDistribution) -> Loss:
    """Binary cross-entropy of every class, summed: ℓ(z, S) = Σ_k ln(1 + e^{z_k}) - y_Sᵀz."""
    labels = distribution.multi_hot()  # (S, K)

    def curvature(logits: np.ndarray) -> np.ndarray:
        p = expit(logits)
        return p * (1 - p)

    def dual_point(gradient: np.ndarray) -> np.ndarray:
        return np.clip(gradient + labels, 0.0, 1.0)

    def dual_gradient(gradient: np.ndarray) -> np.ndarray:
        u = dual_point(gradient)
        return np.log(np.maximum(1 - u, _TINY)) - np.log(np.maximum(u, _TINY))

    def dual(gradient: np.ndarray) -> np.ndarray:
        u = dual_point(gradient)
        return (entr(u) + entr(1 - u)).sum(axis=1)

    return Loss(
        value=lambda logits: losses(logits, labels, "bce"),
        gradient=lambda logits: expit(logits) - labels,
        hessian=lambda logits: curvature(logits)[:, :, None] * np.eye(labels.shape[1]),
        mean_hessian=lambda logits, weights: np.diag(weights @ curvature(logits)),
        dual=dual,
        dual_gradient=dual_gradient,
        lower=-labels,
        upper=1 - labels,
        shift_invariant=False,
    )


def mse(distribution: LabelDistribution, target: Target) -> Loss:
    """Squared error ℓ(z, S) = ‖z - t_S‖² / 2."""
    targets = distribution.targets(target)  # (S, K)
    identity = np.eye(targets.shape[1])
    return Loss(
        value=lambda logits: losses(logits, targets, "mse"),
        gradient=lambda logits: logits - targets,
        hessian=lambda logits: np.broadcast_to(identity, (len(logits), *identity.shape)).copy(),
        mean_hessian=lambda logits, weights: weights.sum() * identity,
        dual=lambda gradient: -(0.5 * gradient**2 + gradient * targets).sum(axis=1),
        dual_gradient=lambda gradient: -(gradient + targets),
        lower=np.full_like(targets, -np.inf),
        upper=np.full_like(targets, np.inf),
        shift_invariant=False,
    )
