"""The optimum of the terminal objective (7) over features h >= 0 (after a ReLU), with a certificate.

The feasible side minimises (7) over W, b and H >= 0 from several starts. The lower side rests on theory.md (9a): (9)
stays a bound for h >= 0 once its constraint is relaxed to

    some N >= 0 (elementwise) has  RᵀR + N ⪯ λ² I .

The largest bound of this form is the minimum of (7) over features that need only be pairwise *acute*, <h_S, h_S'> >= 0
for all pairs of label sets, instead of lying in the orthant: its multipliers are N. That problem is smooth and small in
factored form, and an augmented Lagrangian solves it some hundred times faster than an interior-point method solves
the semidefinite program. Where label sets are few and (9a) leaves a gap, level 1 of `copositive` proves more, (29).
Whatever the solver returns, the bound is made rigorous afterwards: R and N are scaled
until the constraint holds, and (9) is evaluated there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize

from ncpipe.jobs import one_thread
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.losses import Loss, loss_of
from ncpipe.objective.settings import Objective, check_problem
from ncpipe.optimum import copositive
from ncpipe.optimum.certificates import Certificate, best_bias, dual_value, shrink
from ncpipe.optimum.optimum import (
    Optimum,
    Solution,
    classes_seen,
    dual_point_of,
    evaluate,
    restrict,
    solve_fixed_classifier,
)

CERTIFIED_GAP = 1e-6  # relative gap below which an optimum counts as certified
_STARTS = 8
_TARGET_GAP = 1e-7  # relative gap at which no further start is tried
_LARGEST = 800  # label sets up to which (9a), quadratic in their number, is computed
_STIFFNESS = 3.0  # first stiffness of the augmented Lagrangian, in units of λ
_ROUNDS = 30  # of the augmented Lagrangian
_UNSEEN_LOGIT = -60.0  # of a class that never occurs, below all others: its probability is below rounding
_ROUNDING = 1e-16  # relative gain of an iteration below which a minimisation has ended
_COARSE = 1e-9  # the same for further starts, until they are seen to lead
_GAIN = 1e-7  # relative gain over the best value that makes a further start worth finishing
_INSIDE = 1e-12  # relative room left for the rounding of the largest eigenvalue


class _Factored:
    """(7) in balanced variables: Z D^{1/2} = V Gᵀ with penalties λ/2 ‖V‖² and λ/2 ‖G‖², so W ∝ V and H ∝ D^{-1/2} G."""

    def __init__(self, distribution: LabelDistribution, objective: Objective, width: int) -> None:
        self.loss: Loss = loss_of(distribution, objective)
        self.weights = distribution.weights
        self.root = np.sqrt(self.weights)[:, None]  # (S, 1)
        self.objective = objective
        self.classes, self.label_sets, self.width = distribution.classes, len(self.weights), width
        self.bias_penalty = objective.bias_penalty

    @property
    def sizes(self) -> tuple[int, int, int]:
        bias = self.classes if self.objective.use_bias else 0
        return self.classes * self.width, self.label_sets * self.width, bias

    def split(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """V (K, d), G (S, d) and b (K,) of a vector of unknowns; b = 0 without a bias."""
        first, second, _ = self.sizes
        v = x[:first].reshape(self.classes, self.width)
        g = x[first : first + second].reshape(self.label_sets, self.width)
        b = x[first + second :] if self.objective.use_bias else np.zeros(self.classes)
        return v, g, b

    def start(self, rng: np.random.Generator) -> np.ndarray:
        first, _, third = self.sizes
        scale = 1 / np.sqrt(self.width)
        features = np.abs(rng.normal(size=(self.label_sets, self.width))) * self.root
        return np.concatenate([rng.normal(size=first) * scale, features.ravel(), np.zeros(third)])

    def logits(self, v: np.ndarray, g: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (g @ v.T) / self.root + b

    def value(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """(7) and its gradient."""
        v, g, b = self.split(x)
        lam = self.objective.lam
        logits = self.logits(v, g, b)
        residual = self.root * self.loss.gradient(logits)  # (S, K)
        value = float(self.weights @ self.loss.value(logits)) + 0.5 * lam * float((v**2).sum() + (g**2).sum())
        value += 0.5 * self.bias_penalty * float(b @ b)
        parts = [(residual.T @ g + lam * v).ravel(), (residual @ v + lam * g).ravel()]
        if self.objective.use_bias:
            parts.append(self.root[:, 0] @ residual + self.bias_penalty * b)
        return value, np.concatenate(parts)

    def nonnegative(self, x: np.ndarray, *, decrease: float = _ROUNDING) -> np.ndarray:
        """A local minimum with G >= 0; ends when an iteration gains less than `decrease`, relatively."""
        first, second, third = self.sizes
        bounds = [(None, None)] * first + [(0.0, None)] * second + [(None, None)] * third
        return _descend(self.value, x, bounds=bounds, decrease=decrease)

    def acute(self, x: np.ndarray, multipliers: np.ndarray, stiffness: float) -> np.ndarray:
        """A minimum of the augmented Lagrangian of the constraints <h_S, h_S'> >= 0, multipliers (S, S)."""
        first, second, _ = self.sizes
        constant = float((multipliers**2).sum()) / (2 * stiffness)

        def value(x: np.ndarray) -> tuple[float, np.ndarray]:
            total, gradient = self.value(x)
            features = self.split(x)[1]  # (S, d)
            active = np.maximum(multipliers - stiffness * (features @ features.T), 0.0)  # (S, S)
            gradient[first : first + second] -= 2 * (active @ features).ravel()
            return total + float((active**2).sum()) / (2 * stiffness) - constant, gradient

        return _descend(value, x, bounds=None, decrease=_ROUNDING)


def _descend(
    value: Callable[[np.ndarray], tuple[float, np.ndarray]],
    x: np.ndarray,
    *,
    bounds: list[Any] | None,
    decrease: float,
) -> np.ndarray:
    options = {"maxiter": 5000, "maxfun": 10000, "ftol": decrease, "gtol": 1e-10, "maxcor": 30}
    return minimize(value, x, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x


def _gradient(problem: _Factored, x: np.ndarray) -> np.ndarray:
    """Dual rows s p - t at x; a free bias is first fitted until their mean vanishes, as (9) asks."""
    v, g, b = problem.split(x)
    logits = problem.logits(v, g, np.zeros(problem.classes))
    if problem.objective.bias_mode == "free":
        b = best_bias(logits, b, problem.loss, problem.weights, lambda_b=0.0)
    return problem.loss.gradient(logits + b)


def _bound(problem: _Factored, x: np.ndarray, slack: np.ndarray) -> Certificate:
    """(9) at the residuals of x, scaled until RᵀR + N ⪯ λ² I holds in floating point, for N = slack >= 0."""
    gradient = _gradient(problem, x)
    rows = problem.root * gradient  # (S, K)
    return _scaled(problem, gradient, float(np.linalg.eigvalsh(rows @ rows.T + slack)[-1]))


def _scaled(problem: _Factored, gradient: np.ndarray, largest: float) -> Certificate:
    """(9) at a multiple of the gradient, whose constraint reads `largest` <= λ²."""
    ceiling = problem.objective.lam * (1 - _INSIDE)
    point = (min(1.0, ceiling / np.sqrt(largest)) if largest > 0 else 1.0) * gradient
    return Certificate(dual_value(point, problem.loss, problem.weights, problem.objective), point)


def _level_one_bound(problem: _Factored, x: np.ndarray) -> Certificate:
    """(9) at the residuals of x, scaled until level 1 proves λ² I − RᵀR copositive, theory.md (29)."""
    gradient = _gradient(problem, x)
    rows = problem.root * gradient  # (S, K)
    return _scaled(problem, gradient, copositive.copositive_ceiling(rows @ rows.T))


def _acute_bound(problem: _Factored, x: np.ndarray, *, target: float) -> Certificate:
    """The largest bound (9a) found by the augmented Lagrangian; ends early at `target` or when it stalls."""
    multipliers = np.zeros((problem.label_sets, problem.label_sets))
    stiffness = problem.objective.lam * _STIFFNESS
    best, stalled = Certificate(-np.inf, np.zeros_like(problem.loss.lower)), 0
    for _ in range(_ROUNDS):
        x = problem.acute(x, multipliers, stiffness)
        features = problem.split(x)[1]  # (S, d)
        multipliers = np.maximum(multipliers - stiffness * (features @ features.T), 0.0)
        # stationarity in G reads (λ² I - RᵀR - N) G = 0 with this N
        found = _bound(problem, x, 2 * problem.objective.lam * multipliers)
        stalled = 0 if found.bound > best.bound + _TARGET_GAP / 100 * abs(best.bound) else stalled + 1
        best = max(best, found, key=lambda certificate: certificate.bound)
        if best.bound >= target or stalled == 3:
            break
        stiffness *= 1.5
    return best


@one_thread
def solve_relu(distribution: LabelDistribution, objective: Objective, *, seed: int = 0) -> Optimum:
    """Minimise (7) over W, b and features h >= 0, and bound the minimum from below by (9a).

    Features have width 4K. (At the reference distributions every width from K on reaches the same minimum; on random
    ones 4K was up to 1e-4 below 2K, relatively.) Up to eight starts are tried, none more once the gap is closed to
    1e-7. Above 800 label sets, where (9a) is too large, one start is tried and the bound is that of (9): true, but
    lower by the price of h >= 0, and never certified.

    Parameters
    ----------
    distribution : LabelDistribution
    objective : Objective
    seed : int
        Seeds the starts.

    Examples
    --------
    >>> labels = LabelDistribution.from_counts({(0,): 30, (1,): 20, (2,): 10, (0, 1): 6, (1, 2): 6}, classes=3)
    >>> objective = Objective("normalised", lambda_w=0.005, lambda_h=0.05, lambda_b=0.005)
    >>> signed, relu = optimum(labels, objective), relu_optimum(labels, objective)
    >>> round(signed.objective, 4), round(relu.objective, 4), relu.certified
    (0.2128, 0.234, True)
    """
    check_problem(distribution, objective)
    if objective.classifier == "etf":
        return solve_fixed_classifier(distribution, objective, rtol=CERTIFIED_GAP, nonnegative=True)
    seen = classes_seen(distribution, objective)
    if not seen.all():
        return _solve_seen(distribution, objective, seen, seed=seed)
    problem = _Factored(distribution, objective, 4 * distribution.classes)
    rng = np.random.default_rng(seed)
    best = problem.nonnegative(problem.start(rng))
    value = problem.value(best)[0]
    if problem.label_sets <= _LARGEST:
        acute = _Factored(distribution, objective, 2 * distribution.classes)
        proof = _acute_bound(acute, acute.start(rng), target=value * (1 - _TARGET_GAP / 10))
    else:
        proof = shrink(_gradient(problem, best), problem.loss, problem.weights, objective)
    starts = 1
    while starts < _STARTS:
        if value - proof.bound <= _TARGET_GAP * abs(proof.bound) or problem.label_sets > _LARGEST:
            break
        starts += 1
        other = problem.nonnegative(problem.start(rng), decrease=_COARSE)
        if problem.value(other)[0] < value * (1 - _GAIN):
            other = problem.nonnegative(other)
        if problem.value(other)[0] < value:
            best, value = other, problem.value(other)[0]
    if problem.label_sets <= copositive.LARGEST and value - proof.bound > _TARGET_GAP * abs(proof.bound):
        proof = max(proof, _level_one_bound(problem, best), key=lambda certificate: certificate.bound)
    point = dual_point_of(proof.gradient, distribution, objective)
    solution = Solution(*_unscale(problem, best), proof.bound, point, starts)
    return evaluate(distribution, objective, solution, rtol=CERTIFIED_GAP, nonnegative=True)


def _solve_seen(distribution: LabelDistribution, objective: Objective, seen: np.ndarray, *, seed: int) -> Optimum:
    """Solve for the classes that occur: a free bias takes all others to probability 0, whatever the features."""
    small = solve_relu(*restrict(distribution, objective, seen), seed=seed)
    weight = np.zeros((distribution.classes, small.weight.shape[1]))
    bias = np.full(distribution.classes, min(0.0, small.logits.min()) + _UNSEEN_LOGIT)
    point = np.zeros_like(distribution.multi_hot())
    weight[seen], bias[seen], point[:, seen] = small.weight, small.bias, small.dual_point
    solution = Solution(weight, bias, small.prototypes, small.lower_bound, point, small.iterations)
    return evaluate(distribution, objective, solution, rtol=CERTIFIED_GAP, nonnegative=True)


def _unscale(problem: _Factored, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weight (K, d), bias (K,) and prototypes (S, d) at x."""
    v, g, b = problem.split(x)
    balance = (problem.objective.lambda_h / problem.objective.lambda_w) ** 0.25
    return v * balance, b, g / (problem.root * balance)
