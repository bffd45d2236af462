"""The global minimum of the terminal objective (7) for any label distribution, with a certificate.

(7) equals the convex problem (8) for every feature width d >= K - 1 (d >= K where the loss sees more than contrasts).
Small problems go to the interior-point method of `interior`, which reaches rounding whatever the rank of the optimum;
larger ones to the factored form of `factored`. Either way a solution is only as good as its lower bound (9) says: the
gap is evaluated anew, from the definitions. A fixed classifier leaves the problem of `fixed`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.losses import Loss, loss_of, predictions
from ncpipe.objective.settings import Objective
from ncpipe.objective.terms import dual_bound, objective_terms
from ncpipe.optimum import factored, interior
from ncpipe.optimum.certificates import Minimum, certify, relative_gap
from ncpipe.optimum.fixed import solve_fixed

# Logit of a class that no sample carries, relative to the lowest other one, where a free bias drives it to -inf:
# low enough that its probability is below rounding, so that the infimum is attained to rounding.
_UNSEEN_LOGIT = -60.0
_COLLAPSED = 1e-9  # singular values of a solution's logits below which they are those of a collapsed direction
_INTERIOR_COST = 5e8  # K⁴S up to which the interior-point method (half a second there) is the faster one


@dataclass(frozen=True)
class Optimum:
    """A global minimum of (7), or, with `certified` False, the best point reached.

    Parameters
    ----------
    objective : float
        (7) at (weight, bias, prototypes): an upper bound on the minimum f*.
    dual_bound : float
        (9) at `dual_point`, or (9b) for a fixed classifier: a lower bound on f*.
    relative_gap : float
        (objective - dual_bound) / dual_bound; 0 up to rounding where the minimum is 0.
    certified : bool
        Whether the relative gap that was asked for is reached.
    rank : int
        Number of directions of the logits that have not collapsed.
    iterations : int
    weight : ndarray, shape (K, K)
        W, the symmetric positive semidefinite factor (features rotate freely, this choice is canonical); or the fixed
        classifier.
    bias : ndarray, shape (K,)
    prototypes : ndarray, shape (S, K)
        The one feature that all samples of a label set share.
    logits : ndarray, shape (S, K)
        prototypes @ weight.T + bias.
    probabilities : ndarray, shape (S, K)
        The loss's predictions: softmax or sigmoid of the logits, or the logits.
    singular_values : ndarray, shape (min(S, K),)
        Of Z D^{1/2} (without the bias), descending, collapsed ones 0.
    dual_point : ndarray, shape (S, K)
        u of (9).
    """

    objective: float
    dual_bound: float
    relative_gap: float
    certified: bool
    rank: int
    iterations: int
    weight: np.ndarray
    bias: np.ndarray
    prototypes: np.ndarray
    logits: np.ndarray
    probabilities: np.ndarray
    singular_values: np.ndarray
    dual_point: np.ndarray


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
    if start is not None and start.logits.shape != (len(distribution.counts), distribution.classes):
        raise ValueError(f"start has logits of shape {start.logits.shape}, not (label sets, classes)")
    if objective.classifier == "etf":
        return _solve_fixed(distribution, objective, rtol=rtol)
    seen = classes_seen(distribution, objective)
    part, own = restrict(distribution, objective, seen)
    loss = loss_of(part, own)
    known = None if start is None else ((start.logits - start.bias)[:, seen], start.bias[seen])
    found = minimise(loss, part.weights, own, rtol=rtol, max_iterations=max_iterations, start=known)
    dual_point = np.zeros((len(part.counts), distribution.classes))
    dual_point[:, seen] = _dual_point(found.certificate.gradient, part, own)
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
    if objective.bias != "free" or objective.loss == "mse":
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


def _dual_point(gradient: np.ndarray, distribution: LabelDistribution, objective: Objective) -> np.ndarray:
    """The u_S whose residual s_S u_S - t_S is the gradient, shape (S, K), within the range of predictions."""
    point = (gradient + objective.targets(distribution)) / objective.amplitude(distribution)[:, None]
    if objective.loss == "pal":
        return np.maximum(point, 0.0)
    return np.clip(point, 0.0, 1.0) if objective.loss == "bce" else point


def _solve_fixed(distribution: LabelDistribution, objective: Objective, *, rtol: float) -> Optimum:
    """The minimum over bias and features alone."""
    found = solve_fixed(distribution, objective)
    contrasts = found.features @ found.weight.T
    values = np.linalg.svd(np.sqrt(distribution.weights)[:, None] * contrasts, compute_uv=False)
    values[values <= _COLLAPSED * max(values[0], 1.0)] = 0.0
    point = _dual_point(found.gradient, distribution, objective)
    minimum = (found.weight, found.bias, found.features, values, found.bound, point, found.iterations)
    return _evaluate(distribution, objective, *minimum, rtol=rtol)


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
    bound = dual_bound(dual_point, distribution, objective)
    found = (weight, minimum.bias, prototypes, values, bound, dual_point, minimum.iterations)
    return _evaluate(distribution, objective, *found, rtol=rtol)


def _evaluate(
    distribution: LabelDistribution,
    objective: Objective,
    weight: np.ndarray,
    bias: np.ndarray,
    prototypes: np.ndarray,
    singular_values: np.ndarray,
    bound: float,
    dual_point: np.ndarray,
    iterations: int,
    *,
    rtol: float,
) -> Optimum:
    """Evaluate (7) anew from its definition, and the gap."""
    logits = prototypes @ weight.T + bias
    value = objective_terms(
        weight,
        bias,
        prototypes,
        label_set=np.arange(len(prototypes)),
        multi_hot=distribution.multi_hot(),
        objective=objective,
        sample_weights=distribution.weights,
    ).total
    gap = relative_gap(value, bound)
    return Optimum(
        objective=value,
        dual_bound=bound,
        relative_gap=gap,
        certified=gap <= rtol,
        rank=int(np.count_nonzero(singular_values)),
        iterations=iterations,
        weight=weight,
        bias=bias,
        prototypes=prototypes,
        logits=logits,
        probabilities=predictions(logits, objective.loss),
        singular_values=singular_values,
        dual_point=dual_point,
    )
