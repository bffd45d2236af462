"""Study ``synthetic``: spectra, bounds and what they bound, from independent to correlated labels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd

from ncpipe.geometry.synthesis import geometry_bound
from ncpipe.labels.design import REFERENCE, Scale, correlation_family
from ncpipe.objective.settings import Objective
from ncpipe.optimum.bound import spectral_bound
from ncpipe.optimum.laws import prediction_sigma
from ncpipe.optimum.optimum import solve
from ncpipe.results.tables import SYNTHETIC_STUDY
from ncpipe.theory.studies.designs import RANK_GAP, at_lambda, certificate, kappas, where_certified


def synthetic_study(
    objective: Objective,
    *,
    scale: Scale = REFERENCE,
    ratios: Sequence[float],
    strengths: Sequence[float],
    lambdas: Sequence[float],
    draws: int,
    seed: int,
) -> pd.DataFrame:
    """Synthetic labels from independent to strongly correlated: spectra, the bounds from them, and what they bound.

    Parameters
    ----------
    objective : Objective
        Its λ is not used.
    scale : Scale
    ratios : sequence of float
        Step in n_k.
    strengths : sequence of float
        Of the couplings between classes: pair weights are exp(strength · normal), scaled to equal class frequencies.
    lambdas : sequence of float
        λ.
    draws : int
        Draws of the couplings; each is followed over all strengths.
    seed : int

    Returns
    -------
    DataFrame
        Columns `SYNTHETIC_STUDY`: (10) as ``bound`` and its ratio to the optimum; (20) as ``law``, √κ_pool − λ, below
        ``sigma_min_predictions``; (13) at multiplicity two as ``geometry_bound`` below ``geometry_sigma``.
    """
    rows = []
    for ratio, draw in product(ratios, range(draws)):
        members = correlation_family(strengths, seed=seed + draw, scale=scale, ratio=ratio)
        for (strength, distribution), lam in product(zip(strengths, members, strict=True), lambdas):
            own = at_lambda(objective, lam)
            optimum, bound = solve(distribution, own, rtol=RANK_GAP), spectral_bound(distribution, own)
            geometry = geometry_bound(optimum.prototypes, distribution, 2)
            kappa_1, kappa_2, kappa_pool = kappas(distribution, own)
            gap, certified = certificate(optimum)
            rows.append({
                "ratio": ratio,
                "strength": strength,
                "draw": draw,
                "lambda": lam,
                "kappa_1": kappa_1,
                "kappa_2": kappa_2,
                "kappa_pool": kappa_pool,
                "optimum": optimum.objective,
                "bound": bound.value,
                "bound_ratio": None if bound.value is None else bound.value / optimum.objective,
                "rank": where_certified(optimum, optimum.rank),
                "sigma_min_logits": where_certified(optimum, optimum.singular_values[scale.classes - 2]),
                "sigma_min_predictions": where_certified(
                    optimum, prediction_sigma(distribution, own, probabilities=optimum.probabilities)[-1]
                ),
                "law": np.sqrt(kappa_pool) - lam,
                "geometry_sigma": None if geometry is None else where_certified(optimum, geometry.sigma),
                "geometry_bound": None if geometry is None else where_certified(optimum, geometry.bound),
                "relative_gap": gap,
                "certified": certified,
            })  # fmt: skip
    return pd.DataFrame(rows, columns=list(SYNTHETIC_STUDY))
