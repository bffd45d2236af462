"""Losses convex in the logits: one table of values, derivatives, conjugates and predictions.

For every loss of this form (7) equals the convex problem (8), and weak duality gives, for any rows g_S in the
domain of the conjugates,

    f* >= -Σ_S w_S ℓ*_S(g_S) - ‖Σ_S w_S g_S‖² / (2 λ_b)      whenever  ‖ g D^{1/2} ‖_2 <= λ ,

which for PAL is (9) with g = τu - t. The domain of every loss here is a box that contains g = 0. A new loss is an entry
of `LOSSES`, its plain facts in `ncpipe.objective.names.LOSS_FACTS`, and its torch function in `ncpipe.train.objective`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import entr, expit, logit, logsumexp

from ncpipe.errors import InputError, check_whole
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.names import LOSS_FACTS, LossName
from ncpipe.objective.settings import Objective

# Feasibility of a dual point is asked for up to this relative rounding; it moves the bound by no more.
_ROUNDING = 1e-12
_TINY = np.finfo(float).tiny
_NEWTON = 100

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


@dataclass(frozen=True)
class LossKind:
    """One loss for any targets: what solvers, bounds, laws and thresholds ask of it.

    Parameters
    ----------
    predictions : callable
        p of logits, (N, K) to (N, K).
    values : callable
        ℓ(z, t) of logits and targets (N, K), to (N,).
    over : callable
        Targets (S, K) to the `Loss` of these label sets.
    curvature : float
        L: ∇²ℓ ⪯ L s_S I.
    bounded : bool
        Whether predictions lie in a bounded range, its ends at infinite logits.
    into_range : callable
        Dual points with rounding to the nearest that is a prediction, (S, K) to (S, K).
    dual_values : callable
        -ℓ*_S(s_S u_S - t_S) of dual points and targets (S, K) and amplitudes s (S,), to (S,); ValueError off the range.
    link : callable
        The bias whose predictions are the given ones, (K,) to (K,).
    pooled_bias : callable, optional
        The minimiser of the mean loss of b plus (λ_b/2)‖b‖², from mean target (K,), mean amplitude and λ_b.
    logit_distances : callable
        How far logits can be from the optimum's, given predictions (S, K), the share ε/w_S of a gap that a label set
        can account for and the amplitude, both (S, 1), to (S, K): theory.md (30). Not finite where nothing is known.
    """

    predictions: Rows
    values: Callable[[np.ndarray, np.ndarray], np.ndarray]
    over: Callable[[np.ndarray], Loss]
    curvature: float
    bounded: bool
    into_range: Rows
    dual_values: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    link: Rows
    logit_distances: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    pooled_bias: Callable[[np.ndarray, float, float], np.ndarray] | None = None


def loss_of(distribution: LabelDistribution, objective: Objective) -> Loss:
    """The loss of an objective over the label sets of a distribution."""
    return LOSSES[objective.loss].over(objective.targets(distribution))


def predictions(logits: np.ndarray, loss: LossName) -> np.ndarray:
    """Predictions p of logits: softmax (pal), sigmoid of each (bce), or the logits themselves (mse)."""
    return LOSSES[loss].predictions(logits)


def losses(logits: np.ndarray, targets: np.ndarray, loss: LossName) -> np.ndarray:
    """ℓ(z, S) of each row, theory.md (7).

    Parameters
    ----------
    logits, targets : ndarray, shape (N, K)
    loss : {"pal", "bce", "mse"}

    Returns
    -------
    ndarray, shape (N,)
    """
    return LOSSES[loss].values(logits, targets)


def loss_gradients(logits: np.ndarray, targets: np.ndarray, loss: LossName) -> np.ndarray:
    """∇ℓ(z, S) = s p − t of each row, shape (N, K)."""
    amplitude = targets.sum(axis=-1, keepdims=True) if LOSS_FACTS[loss].linear else 1.0
    return amplitude * predictions(logits, loss) - targets


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis (classes), overflow-free."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def simplex_etf(classes: int, width: int) -> np.ndarray:
    """The fixed classifier, shape (K, width): √(K/(K−1)) (I − 11ᵀ/K) with unit rows, further columns 0.

    As in the code of Li et al. (2024), whose feature width is K. Values are rounded to float32, so that a network that
    holds them in float32 has the very classifier that theory is about.

    Parameters
    ----------
    classes : int
        K >= 2.
    width : int
        >= K.

    Raises
    ------
    InputError
        If there are fewer than two classes, or width < K.
    """
    classes, width = check_whole("classes", classes, least=2), check_whole("width", width, least=1)
    if width < classes:
        raise InputError(f"a simplex ETF of {classes} classes needs as many features, found {width}")
    rows = np.sqrt(classes / (classes - 1)) * (np.eye(classes) - 1.0 / classes)
    return np.pad(rows, ((0, 0), (0, width - classes))).astype(np.float32).astype(np.float64)


# --- pick-all-labels: ℓ(z, S) = τ_S logsumexp(z) - t_Sᵀz -------------------------------------------------------------


def _pal_values(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    # t·(lse − z) rather than τ·lse − t·z: every term is >= 0, so nothing cancels when the loss is small.
    return (targets * (logsumexp(logits, axis=-1, keepdims=True) - logits)).sum(axis=-1)


def _pal(targets: np.ndarray) -> Loss:
    tau = targets.sum(axis=1, keepdims=True)  # (S, 1)

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
        value=lambda logits: _pal_values(logits, targets),
        gradient=lambda logits: tau * softmax(logits) - targets,
        hessian=hessian,
        mean_hessian=mean_hessian,
        dual=lambda gradient: tau[:, 0] * entr(dual_point(gradient)).sum(axis=1),
        dual_gradient=lambda gradient: -np.log(np.maximum(dual_point(gradient), _TINY)),
        lower=-targets,
        upper=tau - targets,
        shift_invariant=True,
    )


def _pal_dual_values(point: np.ndarray, targets: np.ndarray, amplitude: np.ndarray) -> np.ndarray:
    if point.min() < 0 or np.abs(point.sum(axis=1) - 1).max() > _ROUNDING:
        raise InputError("infeasible dual point: rows must be >= 0 and sum to 1")
    return amplitude * entr(point).sum(axis=1)


def _pal_link(prior: np.ndarray) -> np.ndarray:
    bias = np.log(prior, out=np.full_like(prior, -np.inf), where=prior > 0)
    return bias - bias[prior > 0].mean()


def _pal_pooled_bias(mean_target: np.ndarray, mean_tau: float, lambda_b: float) -> np.ndarray:
    """Minimise E[τ] logsumexp(b) − E[t]ᵀb + (λ_b/2)‖b‖² by damped Newton."""
    classes = len(mean_target)
    bias = np.zeros(classes)

    def value(b: np.ndarray) -> float:
        peak = b.max()
        logsumexp = peak + np.log(np.exp(b - peak).sum())
        return float(mean_tau * logsumexp - mean_target @ b + 0.5 * lambda_b * (b @ b))

    for _ in range(_NEWTON):
        p = softmax(bias)
        slope = mean_tau * p - mean_target + lambda_b * bias
        curvature = mean_tau * (np.diag(p) - np.outer(p, p)) + lambda_b * np.eye(classes)
        step = -np.linalg.solve(curvature, slope)
        decrease = -float(slope @ step)
        size = 1.0
        while value(bias + size * step) > value(bias) - 0.25 * size * decrease and size * decrease > 1e-15:
            size /= 2
        bias = bias + size * step
        if decrease < 1e-28:
            break
    return bias


# --- binary cross-entropy of every class: ℓ(z, S) = Σ_k ln(1 + e^{z_k}) - y_Sᵀz -----------------------------------


def _bce_values(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, np.where(targets > 0, -logits, logits)).sum(axis=-1)


def _bce(labels: np.ndarray) -> Loss:
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
        value=lambda logits: _bce_values(logits, labels),
        gradient=lambda logits: expit(logits) - labels,
        hessian=lambda logits: curvature(logits)[:, :, None] * np.eye(labels.shape[1]),
        mean_hessian=lambda logits, weights: np.diag(weights @ curvature(logits)),
        dual=dual,
        dual_gradient=dual_gradient,
        lower=-labels,
        upper=1 - labels,
        shift_invariant=False,
    )


def _bce_dual_values(point: np.ndarray, targets: np.ndarray, amplitude: np.ndarray) -> np.ndarray:
    if point.min() < 0 or point.max() > 1:
        raise InputError("infeasible dual point: entries must lie in 0 to 1")
    return (entr(point) + entr(1 - point)).sum(axis=1)


def _bce_distances(probabilities: np.ndarray, share: np.ndarray, amplitude: np.ndarray) -> np.ndarray:
    change = np.sqrt(share / 2)
    return -np.log1p(-change / probabilities) - np.log1p(-change / (1 - probabilities))


# --- half the squared error: ℓ(z, S) = ‖z - t_S‖² / 2 -------------------------------------------------------------


def _mse_values(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return 0.5 * ((logits - targets) ** 2).sum(axis=-1)


def _mse(targets: np.ndarray) -> Loss:
    identity = np.eye(targets.shape[1])
    return Loss(
        value=lambda logits: _mse_values(logits, targets),
        gradient=lambda logits: logits - targets,
        hessian=lambda logits: np.broadcast_to(identity, (len(logits), *identity.shape)).copy(),
        mean_hessian=lambda logits, weights: weights.sum() * identity,
        dual=lambda gradient: -(0.5 * gradient**2 + gradient * targets).sum(axis=1),
        dual_gradient=lambda gradient: -(gradient + targets),
        lower=np.full_like(targets, -np.inf),
        upper=np.full_like(targets, np.inf),
        shift_invariant=False,
    )


LOSSES: Mapping[LossName, LossKind] = {
    "pal": LossKind(
        predictions=softmax,
        values=_pal_values,
        over=_pal,
        curvature=0.5,
        bounded=True,
        into_range=lambda point: np.maximum(point, 0.0),
        dual_values=_pal_dual_values,
        link=_pal_link,
        pooled_bias=_pal_pooled_bias,
        logit_distances=lambda p, share, amplitude: -np.log1p(-np.sqrt(2 * share / amplitude) / 2 / p),
    ),
    "bce": LossKind(
        predictions=expit,
        values=_bce_values,
        over=_bce,
        curvature=0.25,
        bounded=True,
        into_range=lambda point: np.clip(point, 0.0, 1.0),
        dual_values=_bce_dual_values,
        link=logit,
        logit_distances=_bce_distances,
    ),
    "mse": LossKind(
        predictions=lambda logits: logits,
        values=_mse_values,
        over=_mse,
        curvature=1.0,
        bounded=False,
        into_range=lambda point: point,
        dual_values=lambda point, targets, _: 0.5 * (targets**2 - point**2).sum(axis=1),
        link=lambda prior: prior,
        logit_distances=lambda p, share, _: np.sqrt(2 * share / p.shape[1]) * np.ones_like(p),
    ),
}
