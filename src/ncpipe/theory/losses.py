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
from scipy.special import entr, expit

from ncpipe.labels import LabelDistribution, Target
from ncpipe.objective import Objective, losses, pal_losses, softmax

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
