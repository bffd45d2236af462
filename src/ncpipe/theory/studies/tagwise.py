"""Study ``tagwise``, of claim 4: tag-wise averaging over the anisotropies of the labels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import get_args

import pandas as pd

from ncpipe.geometry.synthesis import tagwise_residuals
from ncpipe.labels.design import REFERENCE, Scale
from ncpipe.labels.spectrum import multiplicity_spectrum
from ncpipe.objective.settings import Objective
from ncpipe.optimum.optimum import solve
from ncpipe.results.tables import TAGWISE_STUDY
from ncpipe.theory.studies.designs import Graph, certificate, step_with_graph


def tagwise_study(
    objective: Objective, *, scale: Scale = REFERENCE, ratios: Sequence[float], shares: Sequence[float]
) -> pd.DataFrame:
    """Claim 4: the residual of tag-wise averaging at the optimum, over the anisotropies of multiplicity one and two.

    Parameters
    ----------
    objective : Objective
    scale : Scale
    ratios : sequence of float
        Step in n_k, which moves δ_1 alone.
    shares : sequence of float
        Share of the samples of pairs on a perfect matching, or on a complete bipartite graph, which moves δ_2 alone.

    Returns
    -------
    DataFrame
        Columns `TAGWISE_STUDY`, then certified.
    """
    rows = []
    for graph, ratio, share in product(get_args(Graph), ratios, shares):
        if share == 0 and graph != get_args(Graph)[0]:
            continue  # no edge of the graph is used: the same distribution again
        distribution = step_with_graph(ratio, share, graph, scale)
        optimum = solve(distribution, objective)
        gap, certified = certificate(optimum)
        rows.append({
            "delta_1": multiplicity_spectrum(distribution, 1).anisotropy,
            "delta_2": multiplicity_spectrum(distribution, 2).anisotropy,
            "ratio": ratio,
            "graph": graph,
            "share": share,
            "residual": tagwise_residuals(optimum.prototypes, distribution, 2).residual,
            "certified_gap": gap,
            "certified": certified,
        })  # fmt: skip
    return pd.DataFrame(rows, columns=[*TAGWISE_STUDY, "certified"])
