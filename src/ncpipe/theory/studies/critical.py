"""Study ``critical``: the λ at which the optimum loses its full rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import get_args

import numpy as np
import pandas as pd

from ncpipe.labels.design import REFERENCE, Scale
from ncpipe.labels.spectrum import pooled_spectrum
from ncpipe.objective.settings import Objective
from ncpipe.optimum.thresholds import minority_collapse
from ncpipe.results.tables import CRITICAL_STUDY
from ncpipe.theory.studies.designs import Profile, critical_bracket, profile_distribution

_BRACKET = 1e-4  # relative width of the bracket of λ_crit


def critical_study(
    objective: Objective, *, scale: Scale = REFERENCE, ratios: Sequence[float], per_pair: Sequence[float]
) -> pd.DataFrame:
    """λ_crit, at which the optimum loses its full rank, over r for the three profiles.

    Parameters
    ----------
    objective : Objective
        Its λ is not used.
    scale : Scale
    ratios : sequence of float
        r.
    per_pair : sequence of float
        n_2, samples of each pair.

    Returns
    -------
    DataFrame
        Columns `CRITICAL_STUDY`: the bracket [lambda_low, lambda_high] by bisection, its ends certified, with the rank
        above it; the heuristic ``root_kappa_pool``; and ``lambda_minority`` (11a), empty where it does not apply.
    """
    rows = []
    for samples, profile, ratio in product(per_pair, get_args(Profile), ratios):
        distribution = profile_distribution(profile, ratio, replace(scale, per_pair=samples))
        found, gap, certified = critical_bracket(distribution, objective, _BRACKET)
        threshold = minority_collapse(distribution, objective).threshold
        rows.append({
            "profile": profile,
            "samples_per_pair": samples,
            "ratio": ratio,
            "lambda_low": None if found is None else found.low,
            "lambda_high": None if found is None else found.high,
            "rank_above": None if found is None else found.rank,
            "root_kappa_pool": np.sqrt(pooled_spectrum(distribution, objective.target).kappa),
            "lambda_minority": None if threshold is None else np.sqrt(threshold),
            "relative_gap": gap,
            "certified": certified,
        })  # fmt: skip
    return pd.DataFrame(rows, columns=list(CRITICAL_STUDY))
