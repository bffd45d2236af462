"""Losses convex in the logits, as the solver and the certificates need them: values, derivatives, conjugate.

For every loss of this form (7) equals the convex problem (8), and weak duality gives, for any rows g_S in the
domain of the conjugate,

    f* >= -Σ_S w_S ℓ*_S(g_S) - ‖Σ_S w_S g_S‖² / (2 λ_b)      whenever  ‖ g D^{1/2} ‖_2 <= λ ,

which is (9) with g = τu - t. The domain is a box, and contains g = 0 for every loss here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import entr

from ncpipe.labels import LabelDistribution, Target
from ncpipe.objective import pal_losses, softmax

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


def pal(distribution: LabelDistribution, target: Target) -> Loss:
    """Pick-all-labels cross-entropy ℓ(z, S) = τ_S logsumexp(z) - t_Sᵀz, theory.md (7)."""
    targets = distribution.targets(target)  # (S, K)
    tau = distribution.tau(target)[:, None]  # (S, 1)

    def dual_point(gradient: np.ndarray) -> np.ndarray:
        return np.maximum((gradient + targets) / tau, 0.0)

    def hessian(logits: np.ndarray) -> np.ndarray:
        p = softmax(logits)
        curvature = -(tau * p)[:, :, None] * p[:, None, :]
        diagonal = np.arange(p.shape[1])
        curvature[:, diagonal, diagonal] += tau * p
        return curvature

    def mean_hessian(logits: np.ndarray, weights: np.ndarray) -> np.ndarray:
        p = softmax(logits)
        mass = weights[:, None] * tau * p
        return np.diag(mass.sum(axis=0)) - p.T @ mass

    return Loss(
        value=lambda logits: pal_losses(logits, targets),
        gradient=lambda logits: tau * softmax(logits) - targets,
        hessian=hessian,
        mean_hessian=mean_hessian,
        dual=lambda gradient: tau[:, 0] * entr(dual_point(gradient)).sum(axis=1),
        dual_gradient=lambda gradient: -np.log(np.maximum(dual_point(gradient), _TINY)),
        lower=-targets,
        upper=tau - targets,
        shift_invariant=True,
    )
