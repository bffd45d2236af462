"""Claim 3: the bound from label statistics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ncpipe.report.claims.claim import ROUNDING, Claim
from ncpipe.report.claims.tables import FILES, Tables, final_values, paired, theory_path
from ncpipe.report.evidence import Cell, Evidence, Verdict, Where, exactly, lies_above, number
from ncpipe.results.theory_file import Theory

INFORMATIVE = 0.8  # bound / value


def decide(tables: Tables, where: Where) -> Verdict:
    """The bound (10) and the spectral law (20): no violation, and bound / value at least 0.8."""
    if not tables.theory:
        return CLAIM.missing(where, "the theory stage was not run")
    if where == "optimum":
        evidence = []
        for key, theory in tables.theory.items():
            subject = f"{key[0]}, {tables.label(key[1])}, {key[2]}"
            evidence += _bound_at_optimum(subject, theory)
        return CLAIM.verdict(where, evidence, map(theory_path, tables.theory))
    return CLAIM.verdict(
        where,
        _bound_in_networks(tables),
        [FILES["metrics"], *map(theory_path, tables.theory)],
        missing="no network was trained",
    )


def _bound_at_optimum(subject: str, theory: Theory) -> list[Evidence]:
    bound, objective = theory.bound, theory.references["convex"].objective
    statistic = "bound (10) / optimum"
    if bound.value is None or bound.ratio is None:
        reason = bound.reason or "the bound is not available"
        evidence = [Evidence(subject, statistic, None, decides=_plain(theory), reason=reason)]
    else:
        ratio = bound.ratio
        # Above the value it bounds it would be wrong, far below it says nothing: the nearer of the two is its room.
        holds = bound.value <= objective * (1 + ROUNDING)
        slack = ratio - INFORMATIVE if holds else 1 - ratio
        evidence = [exactly(subject, statistic, ratio, holds and ratio >= INFORMATIVE, slack)]
    for law in theory.spectral_laws:
        left, right = law.left, law.right
        where = "pooled" if law.multiplicity is None else f"multiplicity {law.multiplicity}"
        if right <= 0:
            evidence.append(
                Evidence(
                    f"{subject}, {where}",
                    "spectral law (20), right / left",
                    None,
                    decides=False,
                    reason="vacuous: the right side is not positive",
                )
            )
            continue
        slack = 1 - right / left if left > 0 else -np.inf
        evidence.append(
            exactly(
                f"{subject}, {where}",
                "spectral law (20), right / left",
                right / left if left > 0 else None,
                right <= left + ROUNDING,
                slack,
            )
        )
    return evidence


def _plain(theory: Theory) -> bool:
    """Whether the objective is the one that (10) is stated for; what it says of others decides nothing."""
    return not theory.objective.variant


def _bound_in_networks(tables: Tables) -> list[Evidence]:
    ratios, laws, others = [], [], set()
    left, right = final_values(tables, "prediction_sigma"), final_values(tables, "prediction_sigma_bound")
    for (dataset, network, setting), objective in final_values(tables, "objective").items():
        subject = f"{dataset}, {tables.label(setting)}, {network}"
        theory = tables.theory.get((dataset, setting, tables.objectives.get(network, "")))
        if theory is not None and not _plain(theory):
            others.add(subject)
        if theory is None or theory.bound.value is None:
            missing = "no theory for its objective" if theory is None else "the bound is not available"
            ratios.append(Cell(subject, "bound (10) / objective", np.empty(0), missing))
        else:
            samples = theory.bound.value / objective.to_numpy()
            ratios.append(Cell(subject, "bound (10) / objective", samples))
        key = (dataset, network, setting)
        if key in left and key in right:
            samples = paired(left[key], right[key], np.subtract)
            laws.append(Cell(subject, "spectral law (20), left - right", samples))
        else:
            missing = "the table lacks σ_{K-1} of the predictions"
            laws.append(Cell(subject, "spectral law (20), left - right", np.empty(0), missing))
    informative = lies_above(ratios, above=INFORMATIVE, below=INFORMATIVE)
    evidence = [
        *(_unless_violated(e, 1 - c.samples) for e, c in zip(informative, ratios, strict=True)),
        *(
            _unless_violated(e, c.samples)
            for e, c in zip(lies_above(laws, above=-np.inf, below=-np.inf), laws, strict=True)
        ),
    ]
    return [replace(e, decides=False) if e.subject in others and e.verdict == "undecided" else e for e in evidence]


def _unless_violated(entry: Evidence, slack: np.ndarray) -> Evidence:
    """A proven inequality that fails in a single run is contradicted, whatever the mean over runs says."""
    if np.isfinite(slack).any() and np.nanmin(slack) < -ROUNDING:
        worst = number(np.nanmin(slack))
        return replace(entry, verdict="contradicted", slack=worst, decides=True, reason="violated in a run")
    return entry


CLAIM = Claim(
    name="3",
    statement="The bound from label statistics holds and is informative",
    rule=(
        f"Holds if there is no violation at all; informative if the bound is at least {INFORMATIVE:g} of the "
        "value it bounds."
    ),
    meaning="Whether a number computed from labels in milliseconds says where training must end.",
    decide=decide,
)
