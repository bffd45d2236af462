"""Study ``spectrum``, of claim 2: label spectra against the weakest directions of the optimum."""

from __future__ import annotations

import pandas as pd

from ncpipe.labels.design import REFERENCE, Scale, family
from ncpipe.objective.settings import Objective
from ncpipe.optimum.laws import margin_laws, prediction_sigma
from ncpipe.optimum.optimum import solve
from ncpipe.results.tables import SPECTRUM_STUDY
from ncpipe.theory.studies.designs import certificate, critical_bracket, kappas, where_certified

_FAMILY_BRACKET = 1e-3  # the same within a family, where λ_crit spreads some hundred times wider


def spectrum_study(
    objective: Objective,
    *,
    scale: Scale = REFERENCE,
    ratio: float,
    members: int,
    graphs: int,
    critical_members: int,
    seed: int,
) -> pd.DataFrame:
    """Claim 2: label spectra against the weakest directions of the optimum, in families with fixed class counts.

    Parameters
    ----------
    objective : Objective
    scale : Scale
    ratio : float
        Step of the families F2 and F2b.
    members : int
        Distributions in each family.
    graphs : int
        Graphs that F2b relabels, one after the other, each a family of its own: in one family all but κ_pool is
        constant, and how well κ_pool orders it depends on the graph.
    critical_members : int
        The first of each family, whose λ_crit is found too.
    seed : int

    Returns
    -------
    DataFrame
        Columns `SPECTRUM_STUDY`, then sigma_min_predictions (of (20)), relative_gap, certified. ``sigma_min_logits`` is
        σ_{K−1}(Z D^{1/2}), ``margin`` the smallest z_a − z_b over label sets, a ∈ S, b ∉ S.
    """
    families = [(name, family(name, members, seed=seed, scale=scale, ratio=ratio)) for name in ("F1", "F2")]
    families += [
        (f"F2b-{graph + 1}", family("F2b", members, seed=seed + graph, scale=scale, ratio=ratio))
        for graph in range(graphs)
    ]
    rows = []
    for name, distributions in families:
        for index, distribution in enumerate(distributions):
            optimum = solve(distribution, objective)
            gap, certified = certificate(optimum)
            margins, _ = margin_laws(distribution, objective, logits=optimum.logits, radius=objective.lam)
            critical = None
            if index < critical_members:
                critical, _, _ = critical_bracket(distribution, objective, _FAMILY_BRACKET)
            kappa_1, kappa_2, kappa_pool = kappas(distribution, objective)
            rows.append({
                "family": name,
                "member": f"{name}-{index}",
                "kappa_1": kappa_1,
                "kappa_2": kappa_2,
                "kappa_pool": kappa_pool,
                "sigma_min_logits": where_certified(optimum, optimum.singular_values[scale.classes - 2]),
                "margin": where_certified(optimum, margins.min()),
                "lambda_critical": None if critical is None else 0.5 * (critical.low + critical.high),
                "sigma_min_predictions": where_certified(
                    optimum, prediction_sigma(distribution, objective, probabilities=optimum.probabilities)[-1]
                ),
                "relative_gap": gap,
                "certified": certified,
            })  # fmt: skip
    return pd.DataFrame(rows, columns=[*SPECTRUM_STUDY, "sigma_min_predictions", "relative_gap", "certified"])
