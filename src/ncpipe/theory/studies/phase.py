"""Study ``phase``: where classes collapse, over imbalance and λ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd

from ncpipe.labels.design import REFERENCE, Scale
from ncpipe.labels.spectrum import pooled_spectrum
from ncpipe.objective.settings import Objective
from ncpipe.optimum.optimum import Optimum, solve
from ncpipe.optimum.thresholds import minority_collapse, zero_threshold
from ncpipe.results.tables import PHASE_STUDY
from ncpipe.theory.studies.designs import RANK_GAP, at_lambda, certificate, profile_distribution, where_certified

_COINCIDE = 1e-6  # of the largest weight: closer rows of the classifier count as one


def phase_study(
    objective: Objective,
    *,
    scale: Scale = REFERENCE,
    ratios: Sequence[float],
    lambdas: Sequence[float],
    per_pair: Sequence[float],
) -> pd.DataFrame:
    """Rank of the certified optimum over (r, λ, n_2) for the step profile, beside the closed forms of (11).

    Parameters
    ----------
    objective : Objective
        Its λ is not used, but kept beside the diagram.
    scale : Scale
    ratios, lambdas : sequence of float
        r and λ.
    per_pair : sequence of float
        n_2, samples of each pair; 0: no pairs.

    Returns
    -------
    DataFrame
        Columns `PHASE_STUDY`. ``minority_collapsed`` is read off the classifier: whether the rows and biases of the
        minority classes are one. ``lambda_minority`` (11a) and ``lambda_zero`` (11b) are where theory expects collapse,
        ``root_kappa_pool`` is the heuristic for full rank.
    """
    rows = []
    for samples, ratio in product(per_pair, ratios):
        distribution = profile_distribution("step", ratio, replace(scale, per_pair=samples))
        minority = np.arange(scale.classes // 2, scale.classes)
        lines = {
            "lambda_minority": minority_collapse(distribution, objective).threshold,
            "lambda_zero": zero_threshold(distribution, objective).threshold,
            "root_kappa_pool": pooled_spectrum(distribution, objective.target).kappa,
        }
        roots = {name: float(np.sqrt(value)) for name, value in lines.items() if value is not None}
        for lam in lambdas:
            optimum = solve(distribution, at_lambda(objective, lam), rtol=RANK_GAP)
            gap, certified = certificate(optimum)
            rows.append({
                "samples_per_pair": samples,
                "ratio": ratio,
                "lambda": lam,
                "lambda_objective": objective.lam,
                "rank": where_certified(optimum, optimum.rank),
                "minority_collapsed": where_certified(optimum, _coincide(optimum, minority)),
                **roots,
                "relative_gap": gap,
                "certified": certified,
            })  # fmt: skip
    return pd.DataFrame(rows, columns=list(PHASE_STUDY))


def _coincide(optimum: Optimum, classes: np.ndarray) -> bool:
    """Whether the rows and biases of the classifier of these classes are equal."""
    rows = np.column_stack([optimum.weight, optimum.bias])[classes]
    return bool(np.ptp(rows, axis=0).max() <= _COINCIDE * max(float(np.abs(optimum.weight).max()), _COINCIDE))
