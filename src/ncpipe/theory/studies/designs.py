"""Distributions, certificates and brackets that several studies use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np

from ncpipe.labels.design import (
    Scale,
    bipartite_pairs,
    complete_pairs,
    matching_pairs,
    mixture,
    singles_and_pairs,
    step_counts,
)
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.labels.spectrum import multiplicity_spectrum, pooled_spectrum
from ncpipe.objective.settings import Objective
from ncpipe.optimum.critical import CriticalLambda, lambda_critical
from ncpipe.optimum.optimum import Optimum, solve

Profile = Literal["step", "exponential", "uniform"]
Graph = Literal["matching", "bipartite"]
_GRAPHS: dict[Graph, Callable[[int, float], np.ndarray]] = {"matching": matching_pairs, "bipartite": bipartite_pairs}
RANK_GAP = 1e-12  # relative gap of the optima that a rank is read from, as in `lambda_critical`
_KAPPA_DIGITS = 12


def profile_distribution(profile: Profile, ratio: float, scale: Scale) -> LabelDistribution:
    """Single classes thinned as a profile says (config key ``profile``), and all pairs alike."""
    classes, most = scale.classes, scale.alone
    alone = {
        "step": step_counts(classes, most, ratio),
        "exponential": most * ratio ** (np.arange(classes) / (classes - 1)),
        "uniform": np.full(classes, most * ratio),
    }[profile]
    return singles_and_pairs(alone, complete_pairs(classes, scale.pairs))


def step_with_graph(ratio: float, share: float, graph: Graph, scale: Scale) -> LabelDistribution:
    """A step of `ratio` in n_k; `share` of the pairs' samples on the edges of a graph, the rest on all pairs alike."""
    edges = singles_and_pairs(
        step_counts(scale.classes, scale.alone, ratio), _GRAPHS[graph](scale.classes, scale.pairs)
    )
    return mixture(profile_distribution("step", ratio, scale), edges, share)


def at_lambda(objective: Objective, lam: float) -> Objective:
    """The objective with another λ (its two penalties enter the optimal logits through λ only)."""
    return replace(objective, lambda_w=lam, lambda_h=lam)


def where_certified(optimum: Optimum, value: float | None) -> float:
    """A value of an optimum; NaN where that is not certified, or the value not defined."""
    return float("nan") if value is None or not optimum.certified else float(value)


def certificate(*optima: Optimum) -> tuple[float, bool]:
    """The largest relative gap, and whether all optima are certified."""
    return max(o.relative_gap for o in optima), all(o.certified for o in optima)


def critical_bracket(
    distribution: LabelDistribution, objective: Objective, rtol: float
) -> tuple[CriticalLambda | None, float, bool]:
    """The bracket of λ_crit, with a certificate of the ranks at both its ends; None where they do not show it."""
    found = lambda_critical(distribution, objective, rtol=rtol)
    if found.low == 0.0:
        return None, float("nan"), False
    ends = [solve(distribution, at_lambda(objective, lam), rtol=RANK_GAP) for lam in (found.low, found.high)]
    gap, certified = certificate(*ends)
    full = distribution.classes - 1
    certified = certified and ends[0].rank == full and ends[1].rank == found.rank < full
    return (found if certified else None), gap, certified


def kappas(distribution: LabelDistribution, objective: Objective) -> tuple[float, float, float]:
    """κ_1, κ_2 and κ_pool, without their rounding: what is constant in a family is one number there."""
    kappas = (
        multiplicity_spectrum(distribution, 1).kappa,
        multiplicity_spectrum(distribution, 2).kappa,
        pooled_spectrum(distribution, objective.target).kappa,
    )
    first, second, pooled = (round(kappa, _KAPPA_DIGITS) for kappa in kappas)
    return first, second, pooled
