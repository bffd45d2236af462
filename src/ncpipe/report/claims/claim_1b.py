"""Claim 1b: synthesis weights grow with class frequency."""

from __future__ import annotations

import numpy as np

from ncpipe.report.claims.claim import Claim
from ncpipe.report.claims.synthesis import NO_DESIGN, synthesis_groups, synthesis_rows
from ncpipe.report.claims.tables import FILES, Tables
from ncpipe.report.evidence import Cell, Evidence, Verdict, Where, lies_above, number, outcome_of

GROWTH = 0.1  # the exponent above which weights grow with frequency


def decide(tables: Tables, where: Where) -> Verdict:
    """Weights grow with frequency: the interval of the fitted exponent γ against a threshold."""
    rows = synthesis_rows(tables, where, ("fitted",))
    if rows.empty:
        return CLAIM.missing(where, NO_DESIGN, [FILES["synthesis"]])
    statistic = "exponent γ"
    cells, evidence = [], []
    for subject, group, obstacle in synthesis_groups(tables, rows):
        if where == "networks":
            cells.append(Cell(subject, statistic, group["gamma"].to_numpy(), obstacle))
            continue
        value, low, high = group.iloc[0][["gamma", "gamma_low", "gamma_high"]].astype(float)
        missing = obstacle or ("" if np.isfinite([value, low, high]).all() else "no interval of γ")
        code = 0 if missing else int(low > GROWTH) - int(high < GROWTH)
        evidence.append(
            Evidence(
                subject,
                statistic,
                number(value),
                number(low),
                number(high),
                verdict=outcome_of(code),
                slack=number(low - GROWTH),
                reason=missing,
            )
        )
    evidence += lies_above(cells, above=GROWTH, below=GROWTH)
    return CLAIM.verdict(where, evidence, [FILES["synthesis"]])


CLAIM = Claim(
    name="1b",
    statement="Synthesis weights grow with class frequency",
    rule=(
        f"Supported if the interval of the exponent γ lies above {GROWTH:g}, contradicted if it lies below {GROWTH:g}."
    ),
    meaning="Whether frequent classes pull a joint prototype harder (γ > 0); γ < 0 says that rare classes do.",
    decide=decide,
)
