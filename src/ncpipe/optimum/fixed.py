"""The minimum of (7) when the classifier is fixed to a simplex ETF, with a certificate: theory.md (9b).

With W fixed, (7) is convex in bias and features, and for a given bias it falls apart into one small strongly convex
problem for each label set. These are solved by projected Newton steps, all at once, and the bias by Newton's method on
what they leave of it. For any rows g_S in the domain of the conjugates, weak duality gives

    f* >= (λ_W/2) ‖W‖² - Σ_S w_S [ ℓ*_S(g_S) + ‖v_S‖² / (2 λ_H) ] - ‖Σ_S w_S g_S‖² / (2 λ_b) ,

v_S = Wᵀ g_S, of which only the negative entries count where features are h >= 0. At the minimum g_S = ∇ℓ_S attains it,
and the error of the bound is quadratic in that of the solution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ncpipe.errors import InputError
from ncpipe.jobs import one_thread
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.losses import Loss, loss_of, simplex_etf
from ncpipe.objective.settings import Objective
from ncpipe.optimum.certificates import CONVERGED_STEP, SAFE_STEP, best_bias, dual_value

_BLOCK = 20_000_000  # label sets times K² that are held at once
_ITERATIONS, _HALVINGS = 100, 50


@dataclass(frozen=True)
class FixedMinimum:
    """A minimum of (7) for the fixed classifier, and a lower bound.

    Parameters
    ----------
    weight : ndarray, shape (K, K)
    bias : ndarray, shape (K,)
    features : ndarray, shape (S, K)
        One for each label set.
    gradient : ndarray, shape (S, K)
        g_S, the dual rows.
    bound : float
        (9b), with the constant penalty of the classifier.
    iterations : int
        Of the bias.
    """

    weight: np.ndarray
    bias: np.ndarray
    features: np.ndarray
    gradient: np.ndarray
    bound: float
    iterations: int


@one_thread
def solve_fixed(distribution: LabelDistribution, objective: Objective, *, nonnegative: bool = False) -> FixedMinimum:
    """Minimise (7) over bias and features of any width >= K, h >= 0 with `nonnegative`; certified by (9b).

    Parameters
    ----------
    distribution : LabelDistribution
    objective : Objective
        Its λ_W counts in the constant of the value only.
    nonnegative : bool
        For features that come out of a ReLU.

    Raises
    ------
    InputError
        If the bias is free and some class never occurs: its logit would have no minimum.
    """
    if objective.bias_mode == "free" and not distribution.class_counts().all():
        unseen = distribution.class_names[int(distribution.class_counts().argmin())]
        raise InputError(f"a free bias with a fixed classifier needs every class to occur; class {unseen} does not")
    problem = _Problem(distribution, objective, nonnegative=nonnegative)
    weights, weight, bias = distribution.weights, problem.weight, np.zeros(distribution.classes)
    features = np.zeros((len(weights), weight.shape[1]))
    iterations, lambda_b = 0, objective.bias_penalty
    value, features, slope, curvature = problem.profile(bias, features)
    while objective.use_bias and iterations < _ITERATIONS:
        iterations += 1
        descent = slope + lambda_b * bias
        curvature += lambda_b * np.eye(len(bias))
        if problem.loss.shift_invariant:
            curvature += 1.0 / len(bias)  # the direction along 1, where nothing changes, made regular
        step = -np.linalg.solve(curvature, descent)
        length, size = float(np.abs(step).max()), 1.0
        for _ in range(_HALVINGS):
            moved = bias + size * step
            found = problem.profile(moved, features)
            below = value + 0.5 * lambda_b * float(bias @ bias) + 1e-4 * size * float(descent @ step)
            if found[0] + 0.5 * lambda_b * float(moved @ moved) <= below or size * length <= CONVERGED_STEP:
                break
            size /= 2
        bias, (value, features, slope, curvature) = moved, found
        if length <= CONVERGED_STEP:
            break
    contrasts = features @ weight.T
    if objective.use_bias:
        bias = best_bias(contrasts, bias, problem.loss, weights, lambda_b=lambda_b)
    gradient = problem.loss.gradient(contrasts + bias)
    pull = gradient @ weight  # Wᵀ g_S as rows
    pull = np.minimum(pull, 0.0) if nonnegative else pull
    bound = dual_value(gradient, problem.loss, weights, objective)
    bound -= float(weights @ (pull**2).sum(axis=1)) / (2 * objective.lambda_h)
    bound += 0.5 * objective.lambda_w * float((weight**2).sum())
    return FixedMinimum(weight, bias, features, gradient, bound, iterations)


class _Problem:
    """The problems in the features of each label set, in blocks of label sets that fit in memory."""

    def __init__(self, distribution: LabelDistribution, objective: Objective, *, nonnegative: bool) -> None:
        count, classes = len(distribution.counts), distribution.classes
        self.weights, self.lambda_h, self.nonnegative = distribution.weights, objective.lambda_h, nonnegative
        self.weight = simplex_etf(classes, classes)
        self.loss = loss_of(distribution, objective)
        rows = max(1, _BLOCK // classes**2)
        self.blocks: list[tuple[slice, Loss]] = []
        for start in range(0, count, rows):
            block = slice(start, min(start + rows, count))
            part = LabelDistribution(
                distribution.indicator[block.start : block.stop], distribution.counts[block], distribution.class_names
            )
            self.blocks.append((block, loss_of(part, objective)))

    def profile(self, bias: np.ndarray, start: np.ndarray) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
        """Minimum over the features, minimisers (S, K), and derivatives of the minimum in the bias, (K,) and (K, K)."""
        features, classes = np.empty_like(start), len(bias)
        value, slope, curvature = 0.0, np.zeros(classes), np.zeros((classes, classes))
        for rows, loss in self.blocks:
            weights = self.weights[rows]
            found, values = self._minimise(loss, bias, start[rows])
            logits = found @ self.weight.T + bias
            own = loss.hessian(logits)  # A, (S, K, K)
            free = np.ones_like(found) if not self.nonnegative else (found > 0).astype(float)
            mixed = self.weight * free[:, None, :]  # W on the features that can move, (S, K, K)
            half = own @ mixed
            core = mixed.transpose(0, 2, 1) @ half
            core[:, np.arange(classes), np.arange(classes)] += self.lambda_h
            own -= half @ np.linalg.solve(core, half.transpose(0, 2, 1))
            value += float(weights @ values)
            slope += weights @ loss.gradient(logits)
            curvature += np.einsum("s,skl->kl", weights, own)
            features[rows] = found
        return value, features, slope, curvature

    def _minimise(self, loss: Loss, bias: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Projected Newton for min ℓ(Wh + b) + (λ_H/2)‖h‖², all label sets of a block at once; minimisers, values."""
        weight, diagonal = self.weight, np.arange(self.weight.shape[1])

        def objective(at: np.ndarray) -> np.ndarray:
            return loss.value(at @ weight.T + bias) + 0.5 * self.lambda_h * (at**2).sum(axis=1)

        h, value = start, objective(start)
        for _ in range(_ITERATIONS):
            logits = h @ weight.T + bias
            slope = loss.gradient(logits) @ weight + self.lambda_h * h  # (S, K)
            hessian = weight.T @ loss.hessian(logits) @ weight
            hessian[:, diagonal, diagonal] += self.lambda_h
            if self.nonnegative:
                # Features at (nearly) 0 that would go below it step by their own curvature and are cut off there.
                near = np.abs(h - np.maximum(h - slope, 0.0)).max(axis=1, keepdims=True)
                bound = (h <= np.minimum(near, 1e-3)) & (slope > 0)
                own = hessian[:, diagonal, diagonal]
                hessian = np.where(bound[:, :, None] | bound[:, None, :], 0.0, hessian)
                hessian[:, diagonal, diagonal] = own
            step = -np.linalg.solve(hessian, slope[:, :, None])[:, :, 0]
            size = np.ones(len(h))
            for _ in range(_HALVINGS):
                moved = h + size[:, None] * step
                moved = np.maximum(moved, 0.0) if self.nonnegative else moved
                trial, change = objective(moved), moved - h
                length = np.abs(change @ weight.T).max(axis=1)
                worse = (trial > value + 1e-4 * (slope * change).sum(axis=1)) & (length > SAFE_STEP * CONVERGED_STEP)
                if not worse.any():
                    break
                size[worse] /= 2
            h, value = moved, trial
            if np.abs(change).max(initial=0.0) <= CONVERGED_STEP:
                break
        return h, value
