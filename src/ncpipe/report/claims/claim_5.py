"""Claim 5: networks reach the terminal phase."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ncpipe.report.claims.claim import Claim
from ncpipe.report.claims.tables import FILES, Tables, final_values
from ncpipe.report.evidence import Cell, Verdict, Where, lies_below

GAP, VARIATION = 0.005, 0.1  # gap, and rms total variation to the optimum's predictions


def decide(tables: Tables, where: Where) -> Verdict:
    """Terminal phase: the gap to the reference that fits the features, and the distance of the predictions."""
    if where == "optimum":
        return CLAIM.missing(where, "a statement about training; the optimum is the terminal phase itself")
    variations = final_values(tables, "total_variation")
    gaps, distances = [], []
    for key, values in final_values(tables, "gap_reference").items():
        subject = f"{key[0]}, {tables.label(key[2])}, {key[1]}"
        gaps.append(Cell(subject, "gap ε to the reference", values.to_numpy()))
        found = variations.get(key)
        missing = "" if found is not None else "the table lacks the total variation"
        samples = np.empty(0) if found is None else found.to_numpy()
        distances.append(Cell(subject, "rms total variation to p*", samples, missing))
    # Only a gap supports and only a measured distance contradicts: a gap bounds the distance, not the reverse.
    evidence = lies_below(gaps, below=GAP, above=np.inf)
    for entry in lies_below(distances, below=VARIATION, above=VARIATION):
        decides = entry.decides and entry.verdict == "contradicted"
        evidence.append(replace(entry, decides=decides))
    return CLAIM.verdict(where, evidence, [FILES["metrics"]], missing="the table lacks gap_reference")


CLAIM = Claim(
    name="5",
    statement="Networks reach the terminal phase that the theory assumes",
    rule=(
        f"Supported if the upper end of the gap's interval is at most {GAP:g} everywhere; contradicted if the "
        f"rms total variation between predictions and the optimum's lies above {VARIATION:g} somewhere."
    ),
    meaning="Whether statements about the optimum say anything about the networks that were trained.",
    decide=decide,
)
