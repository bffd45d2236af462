"""Study ``ratios``: optima, bounds, exponents and collapse metrics over imbalance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any, get_args

import pandas as pd

from ncpipe.geometry.metrics import VARIANTS, UndefinedMetric, angle_metric, collapsed, nc2_h, nc2_w, nc3
from ncpipe.geometry.synthesis import fit_synthesis
from ncpipe.labels.design import REFERENCE, Scale
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.settings import Objective
from ncpipe.optimum.bound import spectral_bound
from ncpipe.optimum.optimum import Optimum, solve
from ncpipe.optimum.relu import solve_relu
from ncpipe.results.tables import RATIOS_STUDY
from ncpipe.theory.studies.designs import Profile, certificate, profile_distribution

_REPLICATES = 200  # of the bootstrap of γ


def ratios_study(objective: Objective, *, scale: Scale = REFERENCE, ratios: Sequence[float]) -> pd.DataFrame:
    """Optimum (8), bound (10), optimum over h >= 0, exponents γ̂ of (12) and collapse metrics, over r by profile.

    Parameters
    ----------
    objective : Objective
    scale : Scale
    ratios : sequence of float
        r.

    Returns
    -------
    DataFrame
        Columns `RATIOS_STUDY`, one row for each profile, r and quantity: "optimum" and "relu" (between low and high,
        both proven), "bound", "gamma" for each basis and frequency (with its bootstrap interval over label sets), and
        at both optima (reference "convex" or "relu") the metrics (16) to (18): "nc2_w", "nc2_h", "nc3", "angle", by
        variant where these differ. NC1 is 0 at every optimum. "share_single" is the share of multiplicity one, the
        factor by which Li's global mean is short; "nc3_of_balanced" is Li's NC3 of the *balanced* optimum, its samples
        counted as at r: what that centre does to it while no feature moves.
    """
    solved: dict[bytes, tuple[Optimum, Optimum]] = {}

    def optima(distribution: LabelDistribution) -> tuple[Optimum, Optimum]:
        key = distribution.counts.tobytes()  # all profiles are one at r = 1
        if key not in solved:
            solved[key] = solve(distribution, objective), solve_relu(distribution, objective)
        return solved[key]

    balanced = optima(profile_distribution("uniform", 1.0, scale))
    rows: list[dict[str, Any]] = []
    for profile, ratio in product(get_args(Profile), ratios):
        distribution = profile_distribution(profile, ratio, scale)
        optimum, relu = optima(distribution)
        bound = spectral_bound(distribution, objective)
        gap, certified = certificate(optimum)
        found: list[dict[str, Any]] = [
            {
                "quantity": "optimum",
                "value": optimum.objective, "low": optimum.lower_bound, "high": optimum.objective,
                "relative_gap": gap, "certified": certified,
            },
            {
                "quantity": "relu", "value": relu.objective, "low": relu.lower_bound, "high": relu.objective,
                "relative_gap": relu.relative_gap, "certified": relu.certified,
            },
            {"quantity": "bound", "value": bound.value, "certified": bound.value is not None, "reason": bound.reason},
            *_exponents(distribution, optimum),
            {
                "quantity": "share_single", "certified": True,
                "value": float(distribution.class_counts(1).sum() / distribution.samples),
            },
            *_collapse_metrics(distribution, {"convex": optimum, "relu": relu}),
            *_recounted(distribution, dict(zip(("convex", "relu"), balanced, strict=True))),
        ]  # fmt: skip
        rows += [{"profile": profile, "ratio": ratio, **entry} for entry in found]
    table = pd.DataFrame(rows, columns=list(RATIOS_STUDY))
    text = ["basis", "frequency", "reason", "reference", "variant"]
    return table.assign(**table[text].fillna(""))


def _collapse_metrics(distribution: LabelDistribution, references: Mapping[str, Optimum]) -> Iterator[dict[str, Any]]:
    """NC2-W, NC2-H, NC3 and the angle metric of pairs at each optimum."""
    for reference, found in references.items():
        condensed = collapsed(found.prototypes, distribution)
        yield _metric("nc2_w", reference, "", found, partial(nc2_w, found.weight))
        for variant in VARIANTS:
            yield _metric("nc2_h", reference, variant, found, partial(nc2_h, condensed, variant))
            yield _metric("nc3", reference, variant, found, partial(nc3, found.weight, condensed, variant))
        yield _metric("angle", reference, "", found, partial(angle_metric, condensed, 2))


def _recounted(distribution: LabelDistribution, balanced: Mapping[str, Optimum]) -> Iterator[dict[str, Any]]:
    """Li's NC3 of the balanced optima, with the samples of each label set counted as `distribution` has them."""
    for reference, found in balanced.items():
        condensed = collapsed(found.prototypes, distribution)
        yield _metric("nc3_of_balanced", reference, "li2024", found, partial(nc3, found.weight, condensed, "li2024"))


def _metric(
    quantity: str, reference: str, variant: str, found: Optimum, compute: Callable[[], float]
) -> dict[str, Any]:
    """One metric of an optimum; without a value where that is not certified, or the metric not defined."""
    value, reason = None, ""
    if found.certified:
        try:
            value = compute()
        except UndefinedMetric as error:
            reason = str(error)
    return {
        "quantity": quantity,
        "value": value,
        "relative_gap": found.relative_gap,
        "certified": found.certified,
        "reason": reason,
        "reference": reference,
        "variant": variant,
    }


def _exponents(distribution: LabelDistribution, optimum: Optimum) -> Iterator[dict[str, Any]]:
    records = fit_synthesis(optimum.prototypes, optimum.weight, distribution, replicates=_REPLICATES, permutations=0)
    gap, certified = certificate(optimum)
    for record in records:
        if record["hypothesis"] == "fitted":
            known = record["identified"] and certified
            yield {
                "quantity": "gamma",
                "basis": record["basis"],
                "frequency": record["frequency"],
                "value": record["gamma"] if known else None,
                "low": record["gamma_low"] if known else None,
                "high": record["gamma_high"] if known else None,
                "relative_gap": gap,
                "certified": certified,
                "reason": record["reason"],
            }
