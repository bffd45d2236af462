"""Claim 4b: tag-wise averaging is exact only under perfect orthogonality."""

from __future__ import annotations

import numpy as np

from ncpipe.report.claims.claim import EXACT, ROUNDING, Claim
from ncpipe.report.claims.tables import FILES, Tables
from ncpipe.report.claims.tagwise import EQUIVALENT, excess_cells
from ncpipe.report.evidence import Evidence, Verdict, Where, exactly, weigh
from ncpipe.results.tables import TAGWISE_STUDY
from ncpipe.statistics import CONFIDENCE, equivalence_p, mean_interval

CERTIFIED = 1e-5  # relative gap below which a solution of the tag-wise study counts as certified


_GRAPHS = {"matching": "in a perfect matching", "bipartite": "between two halves of the classes"}


def decide(tables: Tables, where: Where) -> Verdict:
    """Exact only if isotropic: contradicted by one anisotropic distribution whose residual is 0."""
    if where == "networks":
        evidence = weigh(
            excess_cells(tables, isotropic=False),
            lambda samples, k: only_then_outcome(samples, comparisons=k),
            lambda low, high: low - EQUIVALENT,
        )
        missing = "no anisotropic setting beside a balanced one"
        return CLAIM.verdict(where, evidence, [FILES["metrics"]], missing=missing)
    study = tables.tagwise_study
    if study is None:
        reason = "the grid of anisotropic label distributions was not computed in this run"
        return CLAIM.missing(where, reason, [FILES["tagwise_study"]])
    evidence = []
    for delta_1, delta_2, ratio, graph, share, residual, gap in study[list(TAGWISE_STUDY)].to_numpy().tolist():
        if max(delta_1, delta_2) <= ROUNDING:
            continue
        subject = f"r = {ratio:g}, {share:.0%} of the pairs {_GRAPHS.get(graph, f'on the graph {graph}')}"
        statistic = "tag-wise residual"
        certified = gap <= CERTIFIED
        if certified and EXACT < residual <= EQUIVALENT:
            reason = f"neither 0 nor above {EQUIVALENT:g}"
            evidence.append(Evidence(subject, statistic, residual, slack=0.0, reason=reason))
        else:
            apart = residual > EQUIVALENT
            slack = residual - EQUIVALENT
            evidence.append(exactly(subject, statistic, residual, apart, slack, certified=certified))
    return CLAIM.verdict(where, evidence, [FILES["tagwise_study"]], missing="the grid is isotropic throughout")


def only_then_outcome(samples: np.ndarray, *, comparisons: int = 1) -> int:
    """Rule of claim 4b on excesses over seeds, shape (seeds,): +1 above the margin, -1 equivalent to 0, else 0."""
    if equivalence_p(samples, EQUIVALENT) < (1 - CONFIDENCE) / comparisons:
        return -1
    return 1 if mean_interval(samples).low > EQUIVALENT else 0


CLAIM = Claim(
    name="4b",
    statement="Tag-wise averaging is exact only under perfect orthogonality",
    rule=(
        "At the optimum: contradicted by one certified anisotropic distribution with residual 0. In networks: "
        "contradicted by an anisotropic setting whose excess is equivalent to 0; supported if every excess "
        "exceeds the margin."
    ),
    meaning="Whether an exact tag-wise average would prove that labels are perfectly balanced.",
    decide=decide,
)
