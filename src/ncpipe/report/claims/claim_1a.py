"""Claim 1a: synthesis weights are not uniform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ncpipe.report.claims.claim import Claim
from ncpipe.report.claims.synthesis import NO_DESIGN, synthesis_groups, synthesis_rows
from ncpipe.report.claims.tables import FILES, Tables
from ncpipe.report.evidence import Cell, Evidence, Verdict, Where, exactly, judge, weigh
from ncpipe.statistics import mean_interval

REDUCTION = 0.2  # by how much the fitted weights must beat uniform ones
_CONTROL_FAILS = "permuted counts do as well: the control fails"


def decide(tables: Tables, where: Where) -> Verdict:
    """Not uniform: the reduction 1 - fitted / uniform of the leave-one-label-set-out residual, against a control."""
    rows = synthesis_rows(tables, where, ("fitted", "uniform", "permuted"))
    if rows.empty:
        return CLAIM.missing(where, NO_DESIGN, [FILES["synthesis"]])
    statistic = "reduction of the residual"
    cells: list[Cell] = []
    controls: list[np.ndarray] = []
    for subject, group, obstacle in synthesis_groups(tables, rows):
        residuals = group.pivot_table(index="seed", columns="hypothesis", values="loo_residual", dropna=False)
        if where == "optimum":
            residuals = group.set_index("hypothesis")[["loo_residual"]].T
        lacking = [h for h in ("fitted", "uniform", "permuted") if h not in residuals.columns]
        missing = obstacle or (f"the table lacks the hypothesis {', '.join(lacking)}" if lacking else "")
        if missing:
            # As many seeds as there are, so that a network with too few of them does not decide.
            nothing = np.full(len(residuals), np.nan)
            cells.append(Cell(subject, statistic, nothing, missing))
            controls.append(nothing)
            continue
        uniform = residuals["uniform"].where(residuals["uniform"] > 0)
        cells.append(Cell(subject, statistic, (1 - residuals["fitted"] / uniform).to_numpy()))
        controls.append(((residuals["permuted"] - residuals["fitted"]) / uniform).to_numpy())
    if where == "optimum":
        evidence = [_reduction_at_optimum(c, d) for c, d in zip(cells, controls, strict=True)]
    else:
        evidence = _reduction_in_networks(cells, controls)
    return CLAIM.verdict(where, evidence, [FILES["synthesis"]])


def _reduction_at_optimum(cell: Cell, control: np.ndarray) -> Evidence:
    if cell.missing or not np.isfinite(cell.samples).all():
        return Evidence(cell.subject, cell.statistic, None, reason=cell.missing or "not defined")
    value = float(cell.samples[0])
    found = exactly(cell.subject, cell.statistic, value, value >= REDUCTION, value - REDUCTION)
    if value >= REDUCTION and not control[0] > 0:
        return replace(found, verdict="undecided", slack=0.0, reason=_CONTROL_FAILS)
    return found


def _reduction_in_networks(cells: Sequence[Cell], controls: Sequence[np.ndarray]) -> list[Evidence]:
    evidence = weigh(
        cells,
        lambda samples, k: reduction_outcome(samples, comparisons=k),
        lambda low, high: low,
    )
    checked = []
    for entry, control in zip(evidence, controls, strict=True):
        if entry.verdict == "supported" and not mean_interval(control).low > 0:
            checked.append(replace(entry, verdict="undecided", slack=0.0, reason=_CONTROL_FAILS))
        else:
            checked.append(entry)
    return checked


def reduction_outcome(samples: np.ndarray, *, comparisons: int = 1) -> int:
    """Rule of claim 1a on reductions over seeds, shape (seeds,): +1, 0 or -1."""
    if judge(samples, above=np.inf, below=REDUCTION, comparisons=comparisons) < 0:
        return -1
    return int(mean_interval(samples).low > 0 and samples.mean() >= REDUCTION)


CLAIM = Claim(
    name="1a",
    statement="Synthesis weights of higher-multiplicity prototypes are not uniform",
    rule=(
        "Exponential profile, centred basis, leave-one-label-set-out: supported if fitted weights leave a "
        f"residual at least {100 * REDUCTION:g} % below that of uniform weights with an interval above 0, and "
        "beat the same fit to permuted counts; contradicted if the reduction's interval lies below "
        f"{100 * REDUCTION:g} %."
    ),
    meaning="Whether the prototype of a label set leans towards some of its classes, or is their plain average.",
    decide=decide,
)
