"""Studies of label distributions: designed, solved and certified, without any image or training.

Each study is one tidy table. Every row keeps the certificate of what it says: the relative gap that the solver
reached, and whether that is the one it was asked for. What is read off an optimum (its rank, its geometry) is left
empty where that is not certified.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from ncpipe.geometry.metrics import VARIANTS, UndefinedMetric, angle_metric, collapsed, nc2_h, nc2_w, nc3
from ncpipe.geometry.synthesis import fit_synthesis, geometry_bound, tagwise_residuals
from ncpipe.labels.design import (
    REFERENCE,
    Scale,
    bipartite_pairs,
    complete_pairs,
    correlation_family,
    family,
    matching_pairs,
    mixture,
    singles_and_pairs,
    step_counts,
)
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.labels.spectrum import multiplicity_spectrum, pooled_spectrum
from ncpipe.objective.settings import Objective
from ncpipe.optimum.bound import spectral_bound
from ncpipe.optimum.critical import CriticalLambda, lambda_critical
from ncpipe.optimum.laws import margin_laws, prediction_sigma
from ncpipe.optimum.optimum import Optimum, solve
from ncpipe.optimum.relu import solve_relu
from ncpipe.optimum.thresholds import minority_collapse, zero_threshold
from ncpipe.results.tables import (
    CRITICAL_STUDY,
    PHASE_STUDY,
    RATIOS_STUDY,
    SPECTRUM_STUDY,
    SYNTHETIC_STUDY,
    TAGWISE_STUDY,
    write_table,
)

Profile = Literal["step", "exponential", "uniform"]
Graph = Literal["matching", "bipartite"]

_GRAPHS: dict[Graph, Callable[[int, float], np.ndarray]] = {"matching": matching_pairs, "bipartite": bipartite_pairs}
_RANK_GAP = 1e-12  # relative gap of the optima that a rank is read from, as in `lambda_critical`
_COINCIDE = 1e-6  # of the largest weight: closer rows of the classifier count as one
_BRACKET = 1e-4  # relative width of the bracket of λ_crit
_FAMILY_BRACKET = 1e-3  # the same within a family, where λ_crit spreads some hundred times wider
_KAPPA_DIGITS = 12
_REPLICATES = 200  # of the bootstrap of γ


# --- distributions and certificates ---------------------------------------------------------------------------------


def profile_distribution(profile: Profile, ratio: float, scale: Scale) -> LabelDistribution:
    """Single classes thinned as a profile says (config key ``profile``), and all pairs alike."""
    classes, most = scale.classes, scale.alone
    alone = {
        "step": step_counts(classes, most, ratio),
        "exponential": most * ratio ** (np.arange(classes) / (classes - 1)),
        "uniform": np.full(classes, most * ratio),
    }[profile]
    return singles_and_pairs(alone, complete_pairs(classes, scale.pairs))


def step_with_graph(ratio: float, share: float, graph: Graph, scale: Scale) -> LabelDistribution:
    """A step of `ratio` in n_k; `share` of the pairs' samples on the edges of a graph, the rest on all pairs alike."""
    edges = singles_and_pairs(
        step_counts(scale.classes, scale.alone, ratio), _GRAPHS[graph](scale.classes, scale.pairs)
    )
    return mixture(profile_distribution("step", ratio, scale), edges, share)


def _at(objective: Objective, lam: float) -> Objective:
    """The objective with another λ (its two penalties enter the optimal logits through λ only)."""
    return replace(objective, lambda_w=lam, lambda_h=lam)


def _kept(optimum: Optimum, value: float | None) -> float:
    """A value of an optimum; NaN where that is not certified, or the value not defined."""
    return float("nan") if value is None or not optimum.certified else float(value)


def _certificate(*optima: Optimum) -> tuple[float, bool]:
    """The largest relative gap, and whether all optima are certified."""
    return max(o.relative_gap for o in optima), all(o.certified for o in optima)


def _critical(
    distribution: LabelDistribution, objective: Objective, rtol: float
) -> tuple[CriticalLambda | None, float, bool]:
    """The bracket of λ_crit, with a certificate of the ranks at both its ends; None where they do not show it."""
    found = lambda_critical(distribution, objective, rtol=rtol)
    if found.low == 0.0:
        return None, float("nan"), False
    ends = [solve(distribution, _at(objective, lam), rtol=_RANK_GAP) for lam in (found.low, found.high)]
    gap, certified = _certificate(*ends)
    full = distribution.classes - 1
    certified = certified and ends[0].rank == full and ends[1].rank == found.rank < full
    return (found if certified else None), gap, certified


def _kappas(distribution: LabelDistribution, objective: Objective) -> tuple[float, float, float]:
    """κ_1, κ_2 and κ_pool, without their rounding: what is constant in a family is one number there."""
    kappas = (
        multiplicity_spectrum(distribution, 1).kappa,
        multiplicity_spectrum(distribution, 2).kappa,
        pooled_spectrum(distribution, objective.target).kappa,
    )
    first, second, pooled = (round(kappa, _KAPPA_DIGITS) for kappa in kappas)
    return first, second, pooled


# --- the studies ----------------------------------------------------------------------------------------------------


def phase_study(
    objective: Objective,
    *,
    scale: Scale = REFERENCE,
    ratios: Sequence[float],
    lambdas: Sequence[float],
    per_pair: Sequence[float],
) -> pd.DataFrame:
    """Rank of the certified optimum over (r, λ, n_2) for the step profile, beside the closed forms of (11).

    Parameters
    ----------
    objective : Objective
        Its λ is not used, but kept beside the diagram.
    scale : Scale
    ratios, lambdas : sequence of float
        r and λ.
    per_pair : sequence of float
        n_2, samples of each pair; 0: no pairs.

    Returns
    -------
    DataFrame
        Columns `PHASE_STUDY`. ``minority_collapsed`` is read off the classifier: whether the rows and biases of the
        minority classes are one. ``lambda_minority`` (11a) and ``lambda_zero`` (11b) are where theory expects collapse,
        ``root_kappa_pool`` is the heuristic for full rank.
    """
    rows = []
    for samples, ratio in product(per_pair, ratios):
        distribution = profile_distribution("step", ratio, replace(scale, per_pair=samples))
        minority = np.arange(scale.classes // 2, scale.classes)
        lines = {
            "lambda_minority": minority_collapse(distribution, objective).threshold,
            "lambda_zero": zero_threshold(distribution, objective).threshold,
            "root_kappa_pool": pooled_spectrum(distribution, objective.target).kappa,
        }
        roots = {name: float(np.sqrt(value)) for name, value in lines.items() if value is not None}
        for lam in lambdas:
            optimum = solve(distribution, _at(objective, lam), rtol=_RANK_GAP)
            gap, certified = _certificate(optimum)
            rows.append({
                "samples_per_pair": samples,
                "ratio": ratio,
                "lambda": lam,
                "lambda_objective": objective.lam,
                "rank": _kept(optimum, optimum.rank),
                "minority_collapsed": _kept(optimum, _coincide(optimum, minority)),
                **roots,
                "relative_gap": gap,
                "certified": certified,
            })  # fmt: skip
    return pd.DataFrame(rows, columns=list(PHASE_STUDY))


def _coincide(optimum: Optimum, classes: np.ndarray) -> bool:
    """Whether the rows and biases of the classifier of these classes are equal."""
    rows = np.column_stack([optimum.weight, optimum.bias])[classes]
    return bool(np.ptp(rows, axis=0).max() <= _COINCIDE * max(float(np.abs(optimum.weight).max()), _COINCIDE))


def critical_study(
    objective: Objective, *, scale: Scale = REFERENCE, ratios: Sequence[float], per_pair: Sequence[float]
) -> pd.DataFrame:
    """λ_crit, at which the optimum loses its full rank, over r for the three profiles.

    Parameters
    ----------
    objective : Objective
        Its λ is not used.
    scale : Scale
    ratios : sequence of float
        r.
    per_pair : sequence of float
        n_2, samples of each pair.

    Returns
    -------
    DataFrame
        Columns `CRITICAL_STUDY`: the bracket [lambda_low, lambda_high] by bisection, its ends certified, with the rank
        above it; the heuristic ``root_kappa_pool``; and ``lambda_minority`` (11a), empty where it does not apply.
    """
    rows = []
    for samples, profile, ratio in product(per_pair, get_args(Profile), ratios):
        distribution = profile_distribution(profile, ratio, replace(scale, per_pair=samples))
        found, gap, certified = _critical(distribution, objective, _BRACKET)
        threshold = minority_collapse(distribution, objective).threshold
        rows.append({
            "profile": profile,
            "samples_per_pair": samples,
            "ratio": ratio,
            "lambda_low": None if found is None else found.low,
            "lambda_high": None if found is None else found.high,
            "rank_above": None if found is None else found.rank,
            "root_kappa_pool": np.sqrt(pooled_spectrum(distribution, objective.target).kappa),
            "lambda_minority": None if threshold is None else np.sqrt(threshold),
            "relative_gap": gap,
            "certified": certified,
        })  # fmt: skip
    return pd.DataFrame(rows, columns=list(CRITICAL_STUDY))


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
        gap, certified = _certificate(optimum)
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
    gap, certified = _certificate(optimum)
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


def spectrum_study(
    objective: Objective,
    *,
    scale: Scale = REFERENCE,
    ratio: float,
    members: int,
    graphs: int,
    critical_members: int,
    seed: int,
) -> pd.DataFrame:
    """Claim 2: label spectra against the weakest directions of the optimum, in families with fixed class counts.

    Parameters
    ----------
    objective : Objective
    scale : Scale
    ratio : float
        Step of the families F2 and F2b.
    members : int
        Distributions in each family.
    graphs : int
        Graphs that F2b relabels, one after the other, each a family of its own: in one family all but κ_pool is
        constant, and how well κ_pool orders it depends on the graph.
    critical_members : int
        The first of each family, whose λ_crit is found too.
    seed : int

    Returns
    -------
    DataFrame
        Columns `SPECTRUM_STUDY`, then sigma_min_predictions (of (20)), relative_gap, certified. ``sigma_min_logits`` is
        σ_{K−1}(Z D^{1/2}), ``margin`` the smallest z_a − z_b over label sets, a ∈ S, b ∉ S.
    """
    families = [(name, family(name, members, seed=seed, scale=scale, ratio=ratio)) for name in ("F1", "F2")]
    families += [
        (f"F2b-{graph + 1}", family("F2b", members, seed=seed + graph, scale=scale, ratio=ratio))
        for graph in range(graphs)
    ]
    rows = []
    for name, distributions in families:
        for index, distribution in enumerate(distributions):
            optimum = solve(distribution, objective)
            gap, certified = _certificate(optimum)
            margins, _ = margin_laws(distribution, objective, logits=optimum.logits, radius=objective.lam)
            critical = None
            if index < critical_members:
                critical, _, _ = _critical(distribution, objective, _FAMILY_BRACKET)
            kappa_1, kappa_2, kappa_pool = _kappas(distribution, objective)
            rows.append({
                "family": name,
                "member": f"{name}-{index}",
                "kappa_1": kappa_1,
                "kappa_2": kappa_2,
                "kappa_pool": kappa_pool,
                "sigma_min_logits": _kept(optimum, optimum.singular_values[scale.classes - 2]),
                "margin": _kept(optimum, margins.min()),
                "lambda_critical": None if critical is None else 0.5 * (critical.low + critical.high),
                "sigma_min_predictions": _kept(
                    optimum, prediction_sigma(distribution, objective, probabilities=optimum.probabilities)[-1]
                ),
                "relative_gap": gap,
                "certified": certified,
            })  # fmt: skip
    return pd.DataFrame(rows, columns=[*SPECTRUM_STUDY, "sigma_min_predictions", "relative_gap", "certified"])


def tagwise_study(
    objective: Objective, *, scale: Scale = REFERENCE, ratios: Sequence[float], shares: Sequence[float]
) -> pd.DataFrame:
    """Claim 4: the residual of tag-wise averaging at the optimum, over the anisotropies of multiplicity one and two.

    Parameters
    ----------
    objective : Objective
    scale : Scale
    ratios : sequence of float
        Step in n_k, which moves δ_1 alone.
    shares : sequence of float
        Share of the samples of pairs on a perfect matching, or on a complete bipartite graph, which moves δ_2 alone.

    Returns
    -------
    DataFrame
        Columns `TAGWISE_STUDY`, then certified.
    """
    rows = []
    for graph, ratio, share in product(get_args(Graph), ratios, shares):
        if share == 0 and graph != get_args(Graph)[0]:
            continue  # no edge of the graph is used: the same distribution again
        distribution = step_with_graph(ratio, share, graph, scale)
        optimum = solve(distribution, objective)
        gap, certified = _certificate(optimum)
        rows.append({
            "delta_1": multiplicity_spectrum(distribution, 1).anisotropy,
            "delta_2": multiplicity_spectrum(distribution, 2).anisotropy,
            "ratio": ratio,
            "graph": graph,
            "share": share,
            "residual": tagwise_residuals(optimum.prototypes, distribution, 2).residual,
            "certified_gap": gap,
            "certified": certified,
        })  # fmt: skip
    return pd.DataFrame(rows, columns=[*TAGWISE_STUDY, "certified"])


def synthetic_study(
    objective: Objective,
    *,
    scale: Scale = REFERENCE,
    ratios: Sequence[float],
    strengths: Sequence[float],
    lambdas: Sequence[float],
    draws: int,
    seed: int,
) -> pd.DataFrame:
    """Synthetic labels from independent to strongly correlated: spectra, the bounds from them, and what they bound.

    Parameters
    ----------
    objective : Objective
        Its λ is not used.
    scale : Scale
    ratios : sequence of float
        Step in n_k.
    strengths : sequence of float
        Of the couplings between classes: pair weights are exp(strength · normal), scaled to equal class frequencies.
    lambdas : sequence of float
        λ.
    draws : int
        Draws of the couplings; each is followed over all strengths.
    seed : int

    Returns
    -------
    DataFrame
        Columns `SYNTHETIC_STUDY`: (10) as ``bound`` and its ratio to the optimum; (20) as ``law``, √κ_pool − λ, below
        ``sigma_min_predictions``; (13) at multiplicity two as ``geometry_bound`` below ``geometry_sigma``.
    """
    rows = []
    for ratio, draw in product(ratios, range(draws)):
        members = correlation_family(strengths, seed=seed + draw, scale=scale, ratio=ratio)
        for (strength, distribution), lam in product(zip(strengths, members, strict=True), lambdas):
            own = _at(objective, lam)
            optimum, bound = solve(distribution, own, rtol=_RANK_GAP), spectral_bound(distribution, own)
            geometry = geometry_bound(optimum.prototypes, distribution, 2)
            kappa_1, kappa_2, kappa_pool = _kappas(distribution, own)
            gap, certified = _certificate(optimum)
            rows.append({
                "ratio": ratio,
                "strength": strength,
                "draw": draw,
                "lambda": lam,
                "kappa_1": kappa_1,
                "kappa_2": kappa_2,
                "kappa_pool": kappa_pool,
                "optimum": optimum.objective,
                "bound": bound.value,
                "bound_ratio": None if bound.value is None else bound.value / optimum.objective,
                "rank": _kept(optimum, optimum.rank),
                "sigma_min_logits": _kept(optimum, optimum.singular_values[scale.classes - 2]),
                "sigma_min_predictions": _kept(
                    optimum, prediction_sigma(distribution, own, probabilities=optimum.probabilities)[-1]
                ),
                "law": np.sqrt(kappa_pool) - lam,
                "geometry_sigma": None if geometry is None else _kept(optimum, geometry.sigma),
                "geometry_bound": None if geometry is None else _kept(optimum, geometry.bound),
                "relative_gap": gap,
                "certified": certified,
            })  # fmt: skip
    return pd.DataFrame(rows, columns=list(SYNTHETIC_STUDY))


STUDIES: dict[str, Callable[..., pd.DataFrame]] = {
    "phase": phase_study,
    "critical": critical_study,
    "ratios": ratios_study,
    "spectrum": spectrum_study,
    "tagwise": tagwise_study,
    "synthetic": synthetic_study,
}


def write_study(name: str, settings: Mapping[str, Any], path: Path) -> pd.DataFrame:
    """Compute a study and write its table.

    Parameters
    ----------
    name : str
        A key of `STUDIES`.
    settings : mapping
        ``objective``: an entry of ``objectives``; ``labels``: classes and, for each single class and each pair, the
        samples; ``parameters``: those of the study, a grid as low, high and points.
    path : Path

    Returns
    -------
    DataFrame
        The table.
    """
    labels = settings["labels"]
    alone, per_pair = labels["counts"]
    scale = Scale(classes=labels["classes"], alone=float(alone), per_pair=float(per_pair))
    parameters = {key: _expand(value) for key, value in settings["parameters"].items()}
    table = STUDIES[name](Objective.from_config(dict(settings["objective"])), scale=scale, **parameters)
    write_table(path, table)
    return table


def _expand(value: Any) -> Any:
    """A grid {low, high, points} as its geometric sequence; anything else as it is."""
    if isinstance(value, Mapping):
        return np.geomspace(value["low"], value["high"], value["points"]).tolist()
    return value
