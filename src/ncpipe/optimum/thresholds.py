"""When classes collapse onto each other, and when everything does: theory.md (11), (11a), (11b).

All of it holds for every loss and for class weights (docs/theory/losses.md); none of it for a fixed classifier.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ncpipe.jobs import one_thread
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.losses import LOSSES, loss_of
from ncpipe.objective.settings import Objective, check_problem
from ncpipe.optimum.certificates import best_bias

_EQUAL = 1e-9  # relative difference below which counts are equal


@one_thread
def pair_kappa(distribution: LabelDistribution, objective: Objective) -> np.ndarray:
    """κ_ab = ½ E[(t_a − t_b)²] of every pair of classes, shape (K, K), zero diagonal: theory.md (11).

    Classes a and b can share their row of the classifier and their bias only where λ² >= κ_ab; where they are
    exchangeable, λ² >= κ_ab also suffices.
    """
    targets = objective.targets(distribution)  # (S, K)
    moment = targets.T @ (targets * distribution.weights[:, None])  # E[t tᵀ]
    own = np.diag(moment)
    kappa = np.maximum(0.5 * (own[:, None] + own[None, :]) - moment, 0.0)
    np.fill_diagonal(kappa, 0.0)
    return kappa


@dataclass(frozen=True)
class ZeroThreshold:
    """(11b): Z* = 0 exactly where λ² >= threshold.

    Parameters
    ----------
    threshold : float
    collapsed : bool
        Whether λ² is at or above it.
    bias : ndarray, shape (K,)
        The optimal bias at Z = 0 (zeros without a bias; -inf, with a free bias, for a class that never occurs, but for
        the squared error); zero-sum for pick-all-labels.
    """

    threshold: float
    collapsed: bool
    bias: np.ndarray


@one_thread
def zero_threshold(distribution: LabelDistribution, objective: Objective) -> ZeroThreshold:
    """Smallest λ² at which all logits collapse to the bias alone, theory.md (11b), for every bias mode and loss.

    It is λ_max of E[(s p_b − t)(s p_b − t)ᵀ] at the optimal bias: for pick-all-labels of C_pool without a bias, and of
    the covariance of t with a free bias and normalised targets.

    Examples
    --------
    >>> labels = LabelDistribution.from_counts({(0,): 30, (1,): 20, (2,): 10, (0, 1): 6, (1, 2): 6}, classes=3)
    >>> objective = Objective("normalised", lambda_w=0.005, lambda_h=0.05, lambda_b=0.005)
    >>> round(zero_threshold(labels, objective).threshold, 4)
    0.3595
    """
    check_problem(distribution, objective)
    targets, tau = objective.targets(distribution), objective.amplitude(distribution)
    kind, weights = LOSSES[objective.loss], distribution.weights
    mean_target, mean_tau = weights @ targets, float(weights @ tau)
    if objective.bias_mode == "none":
        bias = np.zeros(distribution.classes)
        prior = kind.predictions(bias)
    elif objective.bias_mode == "free":
        prior = mean_target / mean_tau
        bias = kind.link(prior)
    elif kind.pooled_bias is not None:
        bias = kind.pooled_bias(mean_target, mean_tau, objective.lambda_b)
        prior = kind.predictions(bias)
    else:
        loss = loss_of(distribution, objective)
        bias = best_bias(
            np.zeros_like(targets), np.zeros(distribution.classes), loss, weights, lambda_b=objective.lambda_b
        )
        prior = kind.predictions(bias)
    residuals = np.sqrt(weights)[:, None] * (tau[:, None] * prior - targets)  # (S, K)
    threshold = float(np.linalg.norm(residuals, 2) ** 2)
    return ZeroThreshold(threshold, objective.lam**2 >= threshold, bias)


@dataclass(frozen=True)
class MinorityCollapse:
    """(11a) for a step profile with equal pairs.

    Parameters
    ----------
    threshold : float or None
        The minority classes collapse onto each other exactly where λ_W λ_H >= threshold; None where the distribution
        is not of this kind.
    collapsed : bool or None
    minority : tuple of str
        The classes with fewer samples (all classes where the profile is flat).
    samples : float or None
        Samples of each minority class alone, r n_1 in (11a).
    samples_per_pair : float or None
        n_2.
    reason : str
        Why (11a) does not apply; empty where it does.
    """

    threshold: float | None
    collapsed: bool | None
    minority: tuple[str, ...]
    samples: float | None
    samples_per_pair: float | None
    reason: str = ""


def minority_collapse(distribution: LabelDistribution, objective: Objective) -> MinorityCollapse:
    """Threshold of minority collapse, theory.md (11a), which needs exchangeable minority classes.

    It applies to label sets of one and two classes with at most two different numbers of samples per class alone, and
    the same number for every pair. Both targets are supported; (11a) as written is the normalised one.

    Examples
    --------
    >>> labels = LabelDistribution.from_counts({(0,): 30, (1,): 10, (2,): 10, (0, 1): 3, (0, 2): 3, (1, 2): 3}, 3)
    >>> objective = Objective("normalised", lambda_w=0.005, lambda_h=0.05, lambda_b=0.005)
    >>> found = minority_collapse(labels, objective)
    >>> found.minority, round(found.threshold, 4), found.collapsed
    (('1', '2'), 0.1822, False)
    """
    check_problem(distribution, objective)
    alone = distribution.class_counts(1)
    pairs = distribution.counts[distribution.multiplicity == 2]
    low = alone <= alone.min() + _EQUAL * alone.max()
    high = alone >= alone.max() * (1 - _EQUAL)
    minority = np.flatnonzero(low)
    every = distribution.classes * (distribution.classes - 1) // 2
    reason = ""
    if max(distribution.multiplicities) > 2:
        reason = "not a step profile: label sets of more than two classes occur"
    elif len(pairs) not in (0, every) or (len(pairs) and np.ptp(pairs) > _EQUAL * pairs.max()):
        reason = "the pairs of classes do not all have the same number of samples"
    elif not (low | high).all():
        reason = "not a step profile: more than two different numbers of samples per class"
    elif objective.class_weights is not None and len({objective.class_weights[k] for k in minority}) > 1:
        reason = "the minority classes have different weights in the loss: they are not exchangeable"
    elif len(minority) < 2:
        reason = "the only minority class has no other to collapse onto"
    if reason:
        return MinorityCollapse(None, None, (), None, None, reason)
    threshold = float(pair_kappa(distribution, objective)[minority[0], minority[1]])
    return MinorityCollapse(
        threshold=threshold,
        collapsed=objective.lam**2 >= threshold,
        minority=tuple(distribution.class_names[k] for k in minority),
        samples=float(alone[minority[0]]),
        samples_per_pair=float(pairs[0]) if len(pairs) else 0.0,
    )


def thresholds(distribution: LabelDistribution, objective: Objective) -> dict[str, Any]:
    """All of (11) for the theory file: minority collapse, collapse to zero, and the extreme pairs of classes.

    For a fixed classifier, which cannot collapse, all are None, and ``reason`` says so.
    """
    if objective.classifier == "etf":
        names = ("lambda_squared", "minority_collapse", "zero", "pairs")
        return {**dict.fromkeys(names), "reason": "the classifier is fixed: its rows cannot collapse"}
    kappa = pair_kappa(distribution, objective)
    first, second = np.triu_indices(distribution.classes, 1)
    values = kappa[first, second]

    def pair(index: int) -> dict[str, Any]:
        names = [distribution.class_names[k] for k in (first[index], second[index])]
        return {"classes": names, "kappa": float(values[index])}

    return {
        "lambda_squared": objective.lam**2,
        "minority_collapse": asdict(minority_collapse(distribution, objective)),
        "zero": asdict(zero_threshold(distribution, objective)),
        "pairs": {"smallest": pair(int(values.argmin())), "largest": pair(int(values.argmax()))},
    }
