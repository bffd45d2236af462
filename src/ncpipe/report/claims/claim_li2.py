"""Claim Li2: prototypes of two labels are scaled tag-wise averages."""

from __future__ import annotations

from ncpipe.report.claims.balanced import ALIGNED, decide_balanced
from ncpipe.report.claims.claim import EXACT, Claim
from ncpipe.report.claims.tables import Tables
from ncpipe.report.evidence import Verdict, Where
from ncpipe.results.tables import METRIC_LABELS


def decide(tables: Tables, where: Where) -> Verdict:
    """Li 2: tag-wise averaging at multiplicity two; the angle is blind to scale, so the residual decides too."""
    metrics = {"angle": METRIC_LABELS["angle"], "tagwise_residual": "tag-wise residual"}
    return decide_balanced(tables, where, CLAIM, metrics)


CLAIM = Claim(
    name="Li2",
    statement="Balanced within each multiplicity, prototypes of two labels are scaled tag-wise averages",
    rule=(
        "Angle metric and tag-wise residual at multiplicity two, balanced settings: supported if both "
        f"intervals lie below {ALIGNED:g} (at the optimum: {EXACT:g}), contradicted if one lies above."
    ),
    meaning="Whether two-label prototypes need no description of their own.",
    decide=decide,
)
