"""The penalty at which the optimum loses rank: theory.md §2, below (11b)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ncpipe.errors import check_number
from ncpipe.jobs import one_thread
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.settings import Objective, check_problem
from ncpipe.optimum.optimum import solve
from ncpipe.optimum.thresholds import zero_threshold

_DESCENT = 0.7  # from the zero threshold λ falls by this factor until the rank is full
_SMALLEST = 1e-3  # of the zero threshold: where the search for full rank ends
_GAP = 1e-12  # relative gap of every solution that a rank is read from


@dataclass(frozen=True)
class CriticalLambda:
    """The λ at which the rank of the optimum's logits falls below K - 1, bracketed.

    Parameters
    ----------
    low : float
        Largest λ found at which the rank is K - 1; 0 where no λ in the range searched has that rank.
    high : float
        Smallest λ found above it at which the rank is less.
    rank : int
        The rank at `high`.
    """

    low: float
    high: float
    rank: int


@one_thread
def lambda_critical(distribution: LabelDistribution, objective: Objective, *, rtol: float = 1e-5) -> CriticalLambda:
    """Bracket the λ = √(λ_W λ_H) at which the certified optimum loses its full rank, by bisection.

    The target, the bias mode and λ_b are those of `objective`, its λ is not used. λ falls from the zero threshold (11b)
    until the rank is full; the boundary found lies in the last such step.

    Parameters
    ----------
    distribution : LabelDistribution
    objective : Objective
    rtol : float
        Relative width of the bracket, >= 1e-6: closer to the boundary, singular values are below what a gap at
        rounding resolves.

    Raises
    ------
    InputError
        If `rtol` is below 1e-6.

    Examples
    --------
    >>> labels = LabelDistribution.from_counts({(0,): 30, (1,): 20, (2,): 10, (0, 1): 6, (1, 2): 6}, classes=3)
    >>> objective = Objective("normalised", lambda_w=0.005, lambda_h=0.05, lambda_b=0.005)
    >>> critical = lambda_critical(labels, objective, rtol=1e-3)
    >>> round(critical.low, 3), critical.rank
    (0.427, 1)
    """
    check_problem(distribution, objective)
    check_number("rtol", rtol, least=1e-6)
    full = distribution.classes - 1
    top = float(np.sqrt(zero_threshold(distribution, objective).threshold))

    def rank_at(lam: float) -> int:
        optimum = solve(distribution, replace(objective, lambda_w=lam, lambda_h=lam), rtol=_GAP)
        return int(np.count_nonzero(optimum.singular_values))

    low, high, rank = top, top, 0
    while low > _SMALLEST * top:
        low *= _DESCENT
        reached = rank_at(low)
        if reached == full:
            break
        high, rank = low, reached
    else:
        return CriticalLambda(0.0, high, rank)
    while high - low > rtol * high:
        middle = 0.5 * (low + high)
        reached = rank_at(middle)
        if reached == full:
            low = middle
        else:
            high, rank = middle, reached
    return CriticalLambda(low, high, rank)
