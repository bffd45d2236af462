"""Claim 4a: tag-wise averaging is exact under perfect orthogonality."""

from __future__ import annotations

import numpy as np

from ncpipe.report.claims.claim import EXACT, Claim
from ncpipe.report.claims.tables import FILES, Tables, theory_path
from ncpipe.report.claims.tagwise import EQUIVALENT, excess_cells, isotropic_labels, tagwise_residuals
from ncpipe.report.evidence import Verdict, Where, exactly, weigh
from ncpipe.statistics import CONFIDENCE, equivalence_p, mean_interval


def decide(tables: Tables, where: Where) -> Verdict:
    """Exact if isotropic: residual 0 at the optimum, excess equivalent to 0 in networks."""
    if where == "networks":
        evidence = weigh(
            excess_cells(tables, isotropic=True),
            lambda samples, k: equivalence_outcome(samples, comparisons=k),
            lambda low, high: EQUIVALENT - max(abs(low), abs(high)),
        )
        missing = "no setting but the balanced one is isotropic at every multiplicity: nothing to compare with it"
        return CLAIM.verdict(where, evidence, [FILES["metrics"]], missing=missing)
    evidence, files = [], []
    for key, theory in tables.theory.items():
        if not isotropic_labels(theory):
            continue
        files.append(theory_path(key))
        for m, residual in tagwise_residuals(theory).items():
            subject = f"{key[0]}, {tables.label(key[1])}, {key[2]}, multiplicity {m}"
            certified = tables.certified(*key[:2])
            slack = EXACT - residual
            evidence.append(
                exactly(subject, "tag-wise residual", residual, residual <= EXACT, slack, certified=certified)
            )
    missing = "no isotropic label distribution in this run"
    if files:
        missing = "no isotropic label distribution of this run has prototypes of several labels"
    return CLAIM.verdict(where, evidence, files, missing=missing)


def equivalence_outcome(samples: np.ndarray, *, comparisons: int = 1) -> int:
    """Rule of claim 4a on excesses over seeds, shape (seeds,): +1 equivalent to 0, -1 above the margin, else 0."""
    if equivalence_p(samples, EQUIVALENT) < 1 - CONFIDENCE:
        return 1
    low = mean_interval(samples, confidence=1 - (1 - CONFIDENCE) / comparisons).low
    return -1 if low > EQUIVALENT else 0


CLAIM = Claim(
    name="4a",
    statement="Tag-wise averaging is exact under perfect orthogonality",
    rule=(
        "At the optimum: exact at every isotropic label distribution. In networks: the residual's excess over "
        f"the balanced runs' is equivalent to 0 (two one-sided tests, margin {EQUIVALENT:g}) at every "
        "isotropic setting."
    ),
    meaning="Whether a joint prototype is the scaled sum of its classes' prototypes when labels are balanced.",
    decide=decide,
)
