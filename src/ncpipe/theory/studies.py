"""The studies of label distributions behind claims 2 and 4: designed, solved and certified, without any image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from ncpipe.objective import Objective
from ncpipe.synthesis import tagwise_residuals
from ncpipe.tables import SPECTRUM_STUDY, TAGWISE_STUDY, write_table
from ncpipe.theory.critical import lambda_critical
from ncpipe.theory.design import REFERENCE, Family, Scale, family, step_with_matching
from ncpipe.theory.laws import margin_laws
from ncpipe.theory.optimum import solve
from ncpipe.theory.spectrum import multiplicity_spectrum, pooled_spectrum

RATIOS = (1.0, 0.2, 0.1)
SHARES = (0.0, 0.5, 0.9, 1.0)

_CRITICAL = 1e-3  # relative width of the bracket of λ_crit: its spread within a family is a hundred times wider


def spectrum_study(objective: Objective, *, members: int = 30, seed: int = 0, scale: Scale = REFERENCE) -> pd.DataFrame:
    """Claim 2: label spectra against the weakest directions of the optimum, in the families F1, F2 and F2b.

    Returns
    -------
    DataFrame
        One row per member: family, member, kappa_1, kappa_2, kappa_pool, sigma_min_logits (σ_{K−1} of Z D^{1/2}),
        margin (the smallest over all label sets) and lambda_critical (NaN where the rank is never full).
    """
    rows = []
    for name in get_args(Family):
        for index, distribution in enumerate(family(name, members, seed=seed, scale=scale)):
            optimum = solve(distribution, objective)
            critical = lambda_critical(distribution, objective, rtol=_CRITICAL)
            margins, _ = margin_laws(optimum.logits, distribution, objective, objective.lam)
            rows.append(
                (
                    name,
                    f"{name}-{index}",
                    multiplicity_spectrum(distribution, 1).kappa,
                    multiplicity_spectrum(distribution, 2).kappa,
                    pooled_spectrum(distribution, objective.target).kappa,
                    float(optimum.singular_values[distribution.classes - 2]),
                    float(margins.min()),
                    critical.low if critical.low > 0 else np.nan,
                )
            )
    return pd.DataFrame(rows, columns=list(SPECTRUM_STUDY))


def tagwise_study(
    objective: Objective,
    *,
    ratios: Sequence[float] = RATIOS,
    shares: Sequence[float] = SHARES,
    scale: Scale = REFERENCE,
) -> pd.DataFrame:
    """Claim 4: the residual of tag-wise averaging at the optimum, over a step in n_k and a matching among the pairs.

    Returns
    -------
    DataFrame
        One row per point: delta_1, delta_2 (anisotropies), ratio, matching_share, residual (one c), certified_gap
        (relative).
    """
    rows = []
    for ratio in ratios:
        for share in shares:
            distribution = step_with_matching(ratio, share, scale=scale)
            optimum = solve(distribution, objective)
            delta = [multiplicity_spectrum(distribution, m).anisotropy for m in (1, 2)]
            residual = tagwise_residuals(optimum.prototypes, distribution, 2).residual
            rows.append((*delta, ratio, share, residual, optimum.relative_gap))
    return pd.DataFrame(rows, columns=list(TAGWISE_STUDY)).astype(float)


def write_studies(
    objective_entry: Mapping[str, Any], *, spectrum: Path, tagwise: Path, members: int, seed: int
) -> None:
    """Write both studies, under one entry of ``objectives``, as the CSV files that report and figures read."""
    objective = Objective.from_config(dict(objective_entry))
    write_table(spectrum, spectrum_study(objective, members=members, seed=seed))
    write_table(tagwise, tagwise_study(objective))
