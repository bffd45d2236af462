"""What the claims of Li et al. share: their rule, at settings that are balanced within each multiplicity."""

from __future__ import annotations

from collections.abc import Mapping
from math import comb
from typing import Any

from ncpipe.report.claims.claim import EXACT, Claim
from ncpipe.report.claims.tables import FILES, Tables, final_values, values_at_optimum
from ncpipe.report.evidence import Cell, Evidence, Verdict, Where, exactly, lies_below

ALIGNED = 0.1  # a Frobenius distance of unit matrices of 0.1 is an angle of 5.7 degrees


def balanced_within(payload: Mapping[str, Any]) -> bool:
    """Whether every label set of each multiplicity that occurs has the same number of samples."""
    distribution = payload["distribution"]
    counts: dict[int, list[float]] = {}
    for label_set, count in zip(distribution["label_sets"], distribution["counts"], strict=True):
        counts.setdefault(len(label_set), []).append(count)
    classes = distribution["classes"]
    return all(len(c) == comb(classes, m) and min(c) == max(c) for m, c in counts.items())


def decide_balanced(tables: Tables, where: Where, claim: Claim, metrics: Mapping[str, str]) -> Verdict:
    """Rule of Li's claims: each metric, at settings balanced within each multiplicity, against a margin."""
    balanced = {key for key, payload in tables.theory.items() if balanced_within(payload)}
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
                evidence.append(exactly(subject, label, value, value <= EXACT, EXACT - value, certified=certified))
    return claim.verdict(where, evidence, [FILES["optimum"]], missing=missing)
