"""Claim Li1: prototypes of multiplicity one form a simplex ETF."""

from __future__ import annotations

from ncpipe.report.claims.balanced import ALIGNED, decide_balanced
from ncpipe.report.claims.claim import EXACT, Claim
from ncpipe.report.claims.tables import Tables
from ncpipe.report.evidence import Verdict, Where
from ncpipe.results.tables import METRIC_LABELS


def decide(tables: Tables, where: Where) -> Verdict:
    """Li 1: prototypes of multiplicity one form a simplex ETF when label sets are balanced."""
    return decide_balanced(tables, where, CLAIM, {"nc2_h": METRIC_LABELS["nc2_h"]})


CLAIM = Claim(
    name="Li1",
    statement="Balanced within each multiplicity, multiplicity-one prototypes form a simplex ETF",
    rule=(
        f"NC2-H at balanced settings: supported if its interval lies below {ALIGNED:g} (at the optimum: "
        f"{EXACT:g}), contradicted if above."
    ),
    meaning="Whether the geometry of ordinary neural collapse survives multi-label samples.",
    decide=decide,
)
