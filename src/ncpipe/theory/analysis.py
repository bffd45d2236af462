"""The theory stage's one result: everything that label sets, counts and an objective say, before any training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ncpipe.errors import InputError
from ncpipe.geometry.synthesis import fit_synthesis, tagwise_residuals
from ncpipe.labels.distribution import LabelDistribution, contrast_classes
from ncpipe.labels.names import parse_label_counts
from ncpipe.labels.spectrum import Spectrum, kappa_covariance, multiplicity_spectrum, pooled_spectrum
from ncpipe.objective.settings import Objective
from ncpipe.optimum.bound import spectral_bound
from ncpipe.optimum.laws import laws
from ncpipe.optimum.optimum import Optimum, solve
from ncpipe.optimum.relu import solve_relu
from ncpipe.optimum.thresholds import thresholds
from ncpipe.results.sampling_file import check_sampling, read_sampling
from ncpipe.stores.files import write_result


def analyse(
    distribution: LabelDistribution,
    objective: Objective,
    *,
    natural: LabelDistribution | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute the theory file of one label distribution under one objective, as plain builtins.

    Parameters
    ----------
    distribution : LabelDistribution
        What training sees: with sampling weights q, the label sets with q_S N samples each.
    objective : Objective
    natural : LabelDistribution, optional
        With sampling weights, the same label sets with the samples that carry them. What describes features by
        frequencies or averages over samples (synthesis, tagwise) is about these, as it is for networks.
    seed : int
        Seeds the search for the optimum with h >= 0, and bootstrap and permutations of the synthesis.

    Returns
    -------
    dict
        Keys distribution, objective, spectrum (1)-(6), optimum (7)-(9), relu (9a), bound (10), thresholds (11), laws
        (20)-(22), synthesis (12) and tagwise; distribution has ``natural_counts`` where `natural` is given. Undefined
        numbers are None, with a reason where the objective is one that a result does not hold for. Equal input gives
        equal output.
    """
    described = {**distribution.to_json(), "samples": distribution.samples}
    described |= {} if natural is None else {"natural_counts": natural.counts}
    carried = distribution if natural is None else natural
    optimum = solve(distribution, objective)
    bound = dataclasses.asdict(spectral_bound(distribution, objective))
    bound["ratio"] = None if bound["value"] is None else _ratio(bound["value"], optimum.objective)
    return _plain({
        "distribution": described,
        "objective": {**objective.as_entry(), "lam": objective.lam},
        "spectrum": _spectra(distribution, objective),
        "optimum": optimum.to_json(),
        "relu": solve_relu(distribution, objective, seed=seed).to_json(),
        "bound": bound,
        "thresholds": thresholds(distribution, objective),
        "laws": laws(distribution, objective, optimum=optimum),
        "synthesis": fit_synthesis(optimum.prototypes, optimum.weight, carried, seed=seed),
        "tagwise": _tagwise(carried, optimum),
    })  # fmt: skip


def write_theory(
    counts: Mapping[str, float],
    classes: int,
    class_names: Sequence[str],
    objective_entry: Mapping[str, Any],
    path: Path,
    *,
    sampling: Path | None = None,
    seed: int = 0,
) -> None:
    """Analyse ``{"0": 140, ..., "8+9": 20}`` under an entry of ``objectives`` and write the theory file.

    Parameters
    ----------
    sampling : Path, optional
        Sampling weights of these label sets; without them each sample weighs the same.

    Raises
    ------
    InputError
        If the counts are not a label distribution, or the sampling weights are for others or for another target; if
        class weights are not one number for each class.
    StoreError
        If the file of the weights is missing or damaged.
    """
    natural = LabelDistribution.from_counts(parse_label_counts(counts), classes, class_names=class_names)
    objective = Objective.from_config(dict(objective_entry))
    if objective.class_weights is not None and len(objective.class_weights) != classes:
        raise InputError(f"class weights: found {len(objective.class_weights)}; allowed: one for each of {classes}")
    if sampling is None:
        theory = analyse(natural, objective, seed=seed)
    else:
        weights = read_sampling(sampling)
        check_sampling(sampling, weights, natural.as_counts(), objective.target)
        theory = analyse(weights.distribution, objective, natural=natural, seed=seed)
    write_result(path, theory)


def _spectra(distribution: LabelDistribution, objective: Objective) -> dict[str, Any]:
    names, multiplicity = distribution.class_names, distribution.multiplicity
    multiplicities = []
    for m in distribution.multiplicities:
        samples = float(distribution.counts[multiplicity == m].sum())
        multiplicities.append({
            "m": m,
            "samples": samples,
            "share": samples / distribution.samples,
            **_spectrum(multiplicity_spectrum(distribution, m), names),
            "kappa_covariance": kappa_covariance(distribution, m),
        })  # fmt: skip
    return {
        "multiplicities": multiplicities,
        "pooled": _spectrum(pooled_spectrum(distribution, objective.target), names),
    }


def _spectrum(spectrum: Spectrum, class_names: Sequence[str]) -> dict[str, Any]:
    return {
        "kappa": spectrum.kappa,
        "kappa_max": spectrum.kappa_max,
        "anisotropy": spectrum.anisotropy,
        "eigenvalues": spectrum.eigenvalues,
        "weakest": {
            "contrast": spectrum.weakest,
            "classes": contrast_classes(spectrum.weakest, class_names),
        },
    }


def _tagwise(distribution: LabelDistribution, optimum: Optimum) -> list[dict[str, Any]]:
    return [
        {"multiplicity": m, **tagwise_residuals(optimum.prototypes, distribution, m)._asdict()}
        for m in distribution.multiplicities
        if m >= 2
    ]


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def _plain(value: Any) -> Any:
    """Builtins that JSON holds, all the way down: arrays as lists, numbers that are not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
