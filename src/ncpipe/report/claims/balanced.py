"""What the claims of Li et al. share: their rule, at settings that are balanced within each multiplicity."""

from __future__ import annotations

from collections.abc import Mapping
from math import comb

import numpy as np

from ncpipe.labels.distribution import LabelDistribution
from ncpipe.report.claims.claim import EXACT, Claim
from ncpipe.report.claims.tables import FILES, Tables, final_values, values_at_optimum
from ncpipe.report.evidence import Cell, Evidence, Verdict, Where, exactly, lies_below

ALIGNED = 0.1  # a Frobenius distance of unit matrices of 0.1 is an angle of 5.7 degrees


def balanced_within(distribution: LabelDistribution) -> bool:
    """Whether every label set of each multiplicity that occurs has the same number of samples."""
    for m in distribution.multiplicities:
        counts = distribution.counts[distribution.multiplicity == m]
        if len(counts) != comb(distribution.classes, int(m)) or counts.min() != counts.max():
            return False
    return True


def decide_balanced(tables: Tables, where: Where, claim: Claim, metrics: Mapping[str, str]) -> Verdict:
    """Rule of Li's claims: each metric, at settings balanced within each multiplicity, against a margin."""
    balanced = {key for key, theory in tables.theory.items() if balanced_within(theory.distribution)}
    missing = "no setting of this run is balanced within each multiplicity"
    if not balanced:
        return claim.missing(where, missing)
    evidence: list[Evidence] = []
    if where == "networks":
        cells = [
            Cell(f"{dataset}, {tables.label(setting)}, {network}", label, values.to_numpy())
            for metric, label in metrics.items()
            for (dataset, network, setting), values in final_values(tables, metric).items()
            if (dataset, setting, tables.objectives.get(network, "")) in balanced
        ]
        evidence = lies_below(cells, below=ALIGNED, above=ALIGNED)
        return claim.verdict(where, evidence, [FILES["metrics"]], missing=missing)
    for metric, label in metrics.items():
        for (dataset, setting, objective), value in values_at_optimum(tables, metric).items():
            if (dataset, setting, objective) in balanced:
                subject = f"{dataset}, {tables.label(setting)}, {objective}"
                certified = tables.certified(dataset, setting)
                if np.isfinite(value):
                    evidence.append(exactly(subject, label, value, value <= EXACT, EXACT - value, certified=certified))
                else:
                    evidence.append(Evidence(subject, label, None, reason="not defined at this optimum"))
    return claim.verdict(where, evidence, [FILES["optimum"]], missing=missing)
