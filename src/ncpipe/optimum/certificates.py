"""Lower bounds on the minimum of (7) made from any candidate solution: weak duality, theory.md (9)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from ncpipe.objective.losses import Loss
from ncpipe.objective.settings import Objective

# A dual point is pulled this far (relatively) inside the ball ‖g D^{1/2}‖_2 <= λ: more than the rounding of the
# norm itself, so that the constraint truly holds and the bound stays a bound.
_INSIDE = 64 * np.finfo(float).eps
_BALANCED = 1e-12  # largest Σ_S w_S g_S that is taken for the rounding of 0

# The third derivative of a softmax or sigmoid loss is bounded by its second times the largest change of a logit:
# within the first length Newton's step always descends (and its size need not be judged from values that rounding
# has made equal), and convergence is quadratic, so that after a step of the second length only rounding remains.
SAFE_STEP, CONVERGED_STEP = 0.25, 1e-8

_NEWTON_ITERATIONS = 100


@dataclass(frozen=True)
class Certificate:
    """A lower bound and the dual point that proves it.

    Parameters
    ----------
    bound : float
        f* >= bound.
    gradient : ndarray, shape (S, K)
        Dual rows g_S (PAL: τ_S u_S - t_S).
    """

    bound: float
    gradient: np.ndarray


@dataclass(frozen=True)
class Minimum:
    """A candidate for the minimum of (8), for any loss, with a lower bound.

    Parameters
    ----------
    contrasts : ndarray, shape (S, K)
        Z, without the bias.
    bias : ndarray, shape (K,)
    value : float
        (8) there.
    certificate : Certificate
    iterations : int
        Of the solver, when it was found.
    """

    contrasts: np.ndarray
    bias: np.ndarray
    value: float
    certificate: Certificate
    iterations: int = 0

    @property
    def relative_gap(self) -> float:
        """Gap between value and bound, relative to the bound."""
        return relative_gap(self.value, self.certificate.bound)

    def improved(self, other: Minimum) -> Minimum:
        """The lower value with the higher bound of the two: they need not come from the same iteration."""
        low = min(self, other, key=lambda m: m.value)
        certificate = max(self.certificate, other.certificate, key=lambda c: c.bound)
        return Minimum(low.contrasts, low.bias, low.value, certificate, other.iterations)


def relative_gap(value: float, bound: float) -> float:
    """(value - bound) / bound; a minimum below 1e-12 is one of 0 (one class seen, free bias), its gap says it all."""
    return (value - bound) / max(abs(bound), 1e-12)


def spectral_norm(rows: np.ndarray) -> float:
    """Largest singular value, through the Gram matrix of the shorter side (relative rounding of a few eps)."""
    gram = rows.T @ rows if rows.shape[0] >= rows.shape[1] else rows @ rows.T
    return float(np.sqrt(max(np.linalg.eigvalsh(gram)[-1], 0.0)))


def dual_value(gradient: np.ndarray, loss: Loss, weights: np.ndarray, objective: Objective) -> float:
    """Right side of (9) at a dual point inside the ball and the box, which is the caller's to see to.

    With a free bias it is -inf where Σ_S w_S g_S is not 0: nothing is proven there.
    """
    value = float(weights @ loss.dual(gradient))
    if objective.bias_mode == "none":
        return value
    mean = weights @ gradient  # (K,)
    if objective.bias_mode == "penalised":
        return value - float(mean @ mean) / (2 * objective.lambda_b)
    return value if np.abs(mean).max() <= _BALANCED * max(1.0, float(np.abs(gradient).max())) else -np.inf


def shrink(gradient: np.ndarray, loss: Loss, weights: np.ndarray, objective: Objective) -> Certificate:
    """Certificate (i): the best point of the ray s·g, 0 <= s <= 1, inside the ball.

    The bound is concave in s, so one root of its derivative finds the maximum.

    Parameters
    ----------
    gradient : ndarray, shape (S, K)
        Gradients of the loss at a candidate's logits (averaged over the samples of each label set). With a free
        bias they must satisfy Σ_S w_S g_S = 0: see `best_bias`.
    """
    norm = spectral_norm(np.sqrt(weights)[:, None] * gradient)
    ceiling = objective.lam * (1 - _INSIDE)
    largest = 1.0 if norm <= ceiling else ceiling / norm

    mean = weights @ gradient  # (K,)
    penalty = float(mean @ mean) / objective.lambda_b if objective.bias_mode == "penalised" else 0.0

    def slope(scale: float) -> float:
        along = (gradient * loss.dual_gradient(scale * gradient)).sum(axis=1)
        return float(weights @ along) - scale * penalty

    scale = largest
    if slope(largest) < 0 < slope(0.0):
        scale = brentq(slope, 0.0, largest, xtol=1e-14)
    point = scale * gradient
    return Certificate(dual_value(point, loss, weights, objective), point)


def polar(
    left: np.ndarray,
    right: np.ndarray,
    gradient: np.ndarray,
    fallback: np.ndarray,
    loss: Loss,
    weights: np.ndarray,
    objective: Objective,
) -> Certificate:
    """Certificate (ii): -λ times the polar factor of Z D^{1/2}, completed by the clipped residual.

    Parameters
    ----------
    left, right : ndarray, shapes (S, r) and (r, K)
        Singular vectors of the rows of Z D^{1/2} in the directions that have not collapsed.
    gradient : ndarray, shape (S, K)
        Gradients of the loss there.
    fallback : ndarray, shape (S, K)
        A feasible dual point to blend with where the polar point leaves the box.
    """
    root = np.sqrt(weights)[:, None]
    residual = root * gradient
    rest = residual - left @ (left.T @ residual)
    rest -= (rest @ right.T) @ right
    u, s, v = np.linalg.svd(rest, full_matrices=False)
    point = (u * np.minimum(s, objective.lam)) @ v - objective.lam * (left @ right)
    if loss.shift_invariant:
        point -= point.mean(axis=1, keepdims=True)  # living directions near 0 are orthogonal to 1 only roughly
    if objective.bias_mode == "free":
        point -= root * (root.T @ point)  # Σ_S w_S g_S = 0 by projection, which never lengthens
    norm = spectral_norm(point)
    point *= min(1.0, objective.lam * (1 - _INSIDE) / norm) if norm > 0 else 1.0
    candidate = point / root
    share = _stay_inside(fallback, candidate, loss)
    candidate = fallback + share * (candidate - fallback)
    return Certificate(dual_value(candidate, loss, weights, objective), candidate)


def _stay_inside(start: np.ndarray, end: np.ndarray, loss: Loss) -> float:
    """Largest share <= 1 of the way from `start` (inside) to `end` that stays inside the box."""
    step = end - start
    with np.errstate(divide="ignore", invalid="ignore"):
        down = np.where(step < 0, (loss.lower - start) / step, np.inf)
        up = np.where(step > 0, (loss.upper - start) / step, np.inf)
    return float(np.clip(min(down.min(), up.min()), 0.0, 1.0))


def best_bias(
    contrasts: np.ndarray, bias: np.ndarray, loss: Loss, weights: np.ndarray, *, lambda_b: float
) -> np.ndarray:
    """Minimise Σ_S w_S ℓ(Z_S + b) + (λ_b/2)‖b‖² over the bias by Newton, to rounding.

    With a free bias (λ_b = 0) the gradients then satisfy Σ_S w_S g_S = 0, as (9) asks.

    Parameters
    ----------
    contrasts : ndarray, shape (S, K)
        Z, without the bias.
    bias : ndarray, shape (K,)
        Where to start.
    """

    def value(at: np.ndarray) -> float:
        return float(weights @ loss.value(contrasts + at)) + 0.5 * lambda_b * float(at @ at)

    current = value(bias)
    for _ in range(_NEWTON_ITERATIONS):
        descent = weights @ loss.gradient(contrasts + bias) + lambda_b * bias
        curvature = loss.mean_hessian(contrasts + bias, weights)
        curvature += lambda_b * np.eye(len(bias))
        if loss.shift_invariant:
            curvature += 1.0 / len(bias)  # the direction along 1, where nothing changes, made regular
        step = -np.linalg.solve(curvature, descent)
        size, moved, length = 1.0, value(bias + step), float(np.abs(step).max())
        decrement = float(-descent @ step)
        while length * size > SAFE_STEP and moved > current - 1e-4 * size * decrement:
            size /= 2
            moved = value(bias + size * step)
        bias, current = bias + size * step, moved
        if length <= CONVERGED_STEP:
            break
    return bias


def certify(
    contrasts: np.ndarray, bias: np.ndarray, loss: Loss, weights: np.ndarray, objective: Objective, iterations: int
) -> Minimum:
    """Value of (8) at a candidate, its collapsed directions set to 0 where that is no loss, and its best certificate.

    Parameters
    ----------
    contrasts : ndarray, shape (S, K)
    bias : ndarray, shape (K,)
        Where the search for the best bias starts (zeros stay zeros without one).
    """
    root, lambda_b = np.sqrt(weights)[:, None], objective.bias_penalty
    left, values, right = np.linalg.svd(root * contrasts, full_matrices=False)

    def settle(rows: np.ndarray, nuclear: float) -> tuple[float, np.ndarray]:
        settled = bias
        if objective.bias_mode != "none":
            settled = best_bias(rows, bias, loss, weights, lambda_b=lambda_b)
        value = float(weights @ loss.value(rows + settled)) + 0.5 * lambda_b * float(settled @ settled)
        return value + objective.lam * nuclear, settled

    value, settled = settle(contrasts, float(values.sum()))
    gradient = loss.gradient(contrasts + settled)
    # Complementarity: a direction lives if its singular value, and has collapsed if its slack, is the larger.
    slack = 1.0 - (((root * gradient) @ right.T / objective.lam) ** 2).sum(axis=0)
    living = values > slack
    left, right = left[:, living], right[living]
    certificate = shrink(gradient, loss, weights, objective)
    other = polar(left, right, gradient, certificate.gradient, loss, weights, objective)
    certificate = max(certificate, other, key=lambda c: c.bound)
    collapsed = (left * values[living]) @ right / root
    value_collapsed, settled_collapsed = settle(collapsed, float(values[living].sum()))
    if value_collapsed <= value * (1 + 1e-14):
        return Minimum(collapsed, settled_collapsed, value_collapsed, certificate, iterations)
    return Minimum(contrasts, settled, value, certificate, iterations)
