"""The global minimum of the terminal objective (7) for any label distribution, with a certificate.

(7) equals the convex problem (8) for every feature width d >= K - 1 (d >= K where the loss sees more than contrasts).
Small problems go to the interior-point method of `interior`, which reaches rounding whatever the rank of the optimum;
larger ones to the factored form of `factored`. Either way a solution is only as good as its lower bound (9) says: the
gap is evaluated anew, from the definitions. A fixed classifier leaves the problem of `fixed`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from ncpipe.errors import check_number
from ncpipe.jobs import one_thread
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.losses import LOSSES, Loss, loss_of, predictions
from ncpipe.objective.settings import Objective, check_problem
from ncpipe.objective.terms import collapsed_terms, lower_bound
from ncpipe.optimum import factored, interior
from ncpipe.optimum.certificates import Minimum, certify, relative_gap
from ncpipe.optimum.fixed import solve_fixed

# Logit of a class that no sample carries, relative to the lowest other one, where a free bias drives it to -inf:
# low enough that its probability is below rounding, so that the infimum is attained to rounding.
_UNSEEN_LOGIT = -60.0
_COLLAPSED = 1e-9  # singular values of a solution's logits below which they are those of a collapsed direction
_CONVEX_ONLY = ("rank", "iterations", "singular_values", "dual_point")  # in theory files
_INTERIOR_COST = 5e8  # K⁴S up to which the interior-point method (half a second there) is the faster one


@dataclass(frozen=True)
class Optimum:
    """A global minimum of (7), or, with `certified` False, the best point reached.

    Parameters
    ----------
    objective : float
        (7) at (weight, bias, prototypes): an upper bound on the minimum f*.
    lower_bound : float
        A lower bound on f*: (9) at `dual_point`; (9b) for a fixed classifier; (9a), or (29) where that is higher, for
        features h >= 0, or (9), which is lower, where there are too many label sets.
    relative_gap : float
        (objective - lower_bound) / lower_bound; 0 up to rounding where the minimum is 0.
    certified : bool
        Whether the relative gap that was asked for is reached.
    nonnegative : bool
        Whether features are h >= 0.
    rank : int or None
        Number of directions of the logits that have not collapsed; None for features h >= 0 with a learned classifier,
        where no direction collapses exactly.
    iterations : int
        Of the solver; for features h >= 0, the starts that were tried.
    weight : ndarray, shape (K, d)
        For a learned classifier d = K, and W is the symmetric positive semidefinite factor (features rotate freely,
        this choice is canonical); d = 4K for features h >= 0. Or the fixed classifier.
    bias : ndarray, shape (K,)
    prototypes : ndarray, shape (S, d)
        The one feature that all samples of a label set share.
    logits : ndarray, shape (S, K)
        prototypes @ weight.T + bias.
    probabilities : ndarray, shape (S, K)
        The loss's predictions: softmax or sigmoid of the logits, or the logits.
    singular_values : ndarray, shape (min(S, K),)
        Of Z D^{1/2} (without the bias), descending, collapsed ones 0.
    dual_point : ndarray, shape (S, K)
        u of (9), which proves `lower_bound`; for features h >= 0 together with the multipliers N of (9a).

    Examples
    --------
    >>> labels = LabelDistribution.from_counts({(0,): 30, (1,): 20, (2,): 10, (0, 1): 6, (1, 2): 6}, classes=3)
    >>> objective = Objective("normalised", lambda_w=0.005, lambda_h=0.05, lambda_b=0.005)
    >>> solution = optimum(labels, objective)
    >>> solution.prototypes.shape, solution.rank, solution.relative_gap < 1e-10
    ((5, 3), 2, True)
    """

    objective: float
    lower_bound: float
    relative_gap: float
    certified: bool
    nonnegative: bool
    rank: int | None
    iterations: int
    weight: np.ndarray
    bias: np.ndarray
    prototypes: np.ndarray
    logits: np.ndarray
    probabilities: np.ndarray
    singular_values: np.ndarray
    dual_point: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """The keys of a theory file, arrays as they are; there the convex problem's lower bound is ``dual_bound``."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "nonnegative"}
        if self.nonnegative:
            return {name: value for name, value in values.items() if name not in _CONVEX_ONLY}
        return {"dual_bound" if name == "lower_bound" else name: value for name, value in values.items()}


@dataclass(frozen=True)
class Solution:
    """What a solver of (7) comes to, before both sides of its gap are evaluated; shapes as in `Optimum`."""

    weight: np.ndarray
    bias: np.ndarray
    prototypes: np.ndarray
    lower_bound: float
    dual_point: np.ndarray
    iterations: int


@one_thread
def solve(
    distribution: LabelDistribution,
    objective: Objective,
    *,
    rtol: float = 1e-10,
    max_iterations: int | None = None,
    start: Optimum | None = None,
) -> Optimum:
    """Minimise (7) over all classifiers, unless it is fixed, biases and features of any width >= K - 1 (or K).

    Parameters
    ----------
    distribution : LabelDistribution
    objective : Objective
    rtol : float
        Relative gap between objective and dual bound to stop at. Where it is not reached, `certified` is False and
        `relative_gap` says what was.
    max_iterations : int, optional
        Of the method that the size calls for; by default 100 (interior point) or 3,000 (factored form).
    start : Optimum, optional
        Of a similar problem over the same label sets, such as the same with another λ: where the factored form
        starts from (the interior-point method has no use for it).

    Returns
    -------
    Optimum

    Raises
    ------
    ValueError
        If `start` belongs to other label sets.
    """
    check_problem(distribution, objective)
    check_number("rtol", rtol, least=0)
    if start is not None and start.logits.shape != (len(distribution.counts), distribution.classes):
        raise ValueError(f"start has logits of shape {start.logits.shape}, not (label sets, classes)")
    if objective.classifier == "etf":
        return solve_fixed_classifier(distribution, objective, rtol=rtol)
    seen = classes_seen(distribution, objective)
    part, own = restrict(distribution, objective, seen)
    loss = loss_of(part, own)
    known = None if start is None else ((start.logits - start.bias)[:, seen], start.bias[seen])
    found = minimise(loss, part.weights, own, rtol=rtol, max_iterations=max_iterations, start=known)
    dual_point = np.zeros((len(part.counts), distribution.classes))
    dual_point[:, seen] = dual_point_of(found.certificate.gradient, part, own)
    if not seen.all():
        # A free bias takes a class that no sample carries to probability 0, whatever the features.
        contrasts = np.zeros_like(dual_point)
        contrasts[:, seen] = found.contrasts
        bias = np.full(distribution.classes, min(0.0, (found.contrasts + found.bias).min()) + _UNSEEN_LOGIT)
        bias[seen] = found.bias
        found = replace(found, contrasts=contrasts, bias=bias)
    return _finish(distribution, objective, found, dual_point, rtol=rtol)


def classes_seen(distribution: LabelDistribution, objective: Objective) -> np.ndarray:
    """Classes whose logits have a minimum, bool (K,): all, but for a free bias that sends unseen ones to -inf."""
    if objective.bias_mode != "free" or not LOSSES[objective.loss].bounded:
        return np.ones(distribution.classes, dtype=bool)
    return distribution.class_counts() > 0


def restrict(
    distribution: LabelDistribution, objective: Objective, seen: np.ndarray
) -> tuple[LabelDistribution, Objective]:
    """The problem of the classes in `seen`, bool (K,), of which every label set is a part."""
    names = tuple(name for name, there in zip(distribution.class_names, seen, strict=True) if there)
    part = LabelDistribution(distribution.indicator[:, np.flatnonzero(seen)], distribution.counts, names)
    if objective.class_weights is None:
        return part, objective
    kept = tuple(c for c, there in zip(objective.class_weights, seen, strict=True) if there)
    return part, replace(objective, class_weights=kept)


def dual_point_of(gradient: np.ndarray, distribution: LabelDistribution, objective: Objective) -> np.ndarray:
    """The u_S whose residual s_S u_S - t_S is the gradient, shape (S, K), within the range of predictions."""
    point = (gradient + objective.targets(distribution)) / objective.amplitude(distribution)[:, None]
    return LOSSES[objective.loss].into_range(point)


def solve_fixed_classifier(
    distribution: LabelDistribution, objective: Objective, *, rtol: float, nonnegative: bool = False
) -> Optimum:
    """The minimum over bias and features alone."""
    minimum = solve_fixed(distribution, objective, nonnegative=nonnegative)
    values = _singular_values(distribution, minimum.features, minimum.weight)
    values[values <= _COLLAPSED * max(values[0], 1.0)] = 0.0
    point = dual_point_of(minimum.gradient, distribution, objective)
    solution = Solution(minimum.weight, minimum.bias, minimum.features, minimum.bound, point, minimum.iterations)
    return evaluate(distribution, objective, solution, rtol=rtol, nonnegative=nonnegative, living=values)


def minimise(
    loss: Loss,
    weights: np.ndarray,
    objective: Objective,
    *,
    rtol: float,
    max_iterations: int | None = None,
    start: tuple[np.ndarray, np.ndarray] | None = None,
) -> Minimum:
    """Minimise (8) for any convex loss by the method that the size of the problem calls for.

    Parameters
    ----------
    loss : Loss
    weights : ndarray, shape (S,)
        w_S, summing to 1.
    objective : Objective
        λ, the bias mode and λ_b are read; the target is the loss's business.
    rtol, max_iterations
        As in `solve`.
    start : tuple of ndarray, shapes (S, K) and (K,), optional
        Z and bias to start from (factored form).
    """
    zero = (np.zeros_like(loss.lower), np.zeros(loss.lower.shape[1]))
    collapsed = certify(*zero, loss, weights, objective, 0)
    if collapsed.relative_gap <= rtol:
        return collapsed  # (11b)
    count, classes = loss.lower.shape
    if classes**4 * count <= _INTERIOR_COST:
        return interior.minimise(
            loss, weights, objective, rtol=rtol, max_iterations=max_iterations or 100, start=collapsed
        )
    begin = collapsed if start is None else certify(*start, loss, weights, objective, 0)
    return factored.minimise(loss, weights, objective, rtol=rtol, max_iterations=max_iterations or 3000, start=begin)


def _finish(
    distribution: LabelDistribution,
    objective: Objective,
    minimum: Minimum,
    dual_point: np.ndarray,
    *,
    rtol: float,
) -> Optimum:
    """Factor the minimum into weight and prototypes, and evaluate both sides of the gap anew from the definitions."""
    root = np.sqrt(distribution.weights)[:, None]
    # X = Z D^{1/2} = U Σ Vᵀ; W = c U Σ^{1/2} Uᵀ and H D^{1/2} = U Σ^{1/2} Vᵀ / c are balanced for c⁴ = λ_H / λ_W.
    right, values, left = np.linalg.svd(root * minimum.contrasts, full_matrices=False)
    values[values <= len(values) * np.finfo(float).eps * values[0]] = 0.0  # rounding of collapsed directions
    balance = (objective.lambda_h / objective.lambda_w) ** 0.25
    weight = balance * (left.T * np.sqrt(values)) @ left
    prototypes = (right * np.sqrt(values)) @ left / root / balance
    bound = lower_bound(distribution, objective, dual_point=dual_point)
    solution = Solution(weight, minimum.bias, prototypes, bound, dual_point, minimum.iterations)
    return evaluate(distribution, objective, solution, rtol=rtol, living=values)


def evaluate(
    distribution: LabelDistribution,
    objective: Objective,
    solution: Solution,
    *,
    rtol: float,
    nonnegative: bool = False,
    living: np.ndarray | None = None,
) -> Optimum:
    """Evaluate (7) anew from its definition, and the gap.

    Parameters
    ----------
    living : ndarray, shape (min(S, K),), optional
        Singular values of the solution, collapsed ones 0; without them no rank is told.
    """
    weight, bias, prototypes = solution.weight, solution.bias, solution.prototypes
    logits = prototypes @ weight.T + bias
    value = collapsed_terms(distribution, objective, weight=weight, bias=bias, prototypes=prototypes).total
    gap = relative_gap(value, solution.lower_bound)
    return Optimum(
        objective=value,
        lower_bound=solution.lower_bound,
        relative_gap=gap,
        certified=gap <= rtol,
        nonnegative=nonnegative,
        rank=None if living is None else int(np.count_nonzero(living)),
        iterations=solution.iterations,
        weight=weight,
        bias=bias,
        prototypes=prototypes,
        logits=logits,
        probabilities=predictions(logits, objective.loss),
        singular_values=_singular_values(distribution, prototypes, weight) if living is None else living,
        dual_point=solution.dual_point,
    )


def _singular_values(distribution: LabelDistribution, prototypes: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Of Z D^{1/2}, without the bias."""
    return np.linalg.svd(np.sqrt(distribution.weights)[:, None] * (prototypes @ weight.T), compute_uv=False)
