"""The theory stage's one result: everything that label sets, counts and an objective say, before any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ncpipe.errors import InputError
from ncpipe.geometry.synthesis import fit_synthesis, tagwise_residuals
from ncpipe.jobs import one_thread
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.labels.names import parse_label_counts
from ncpipe.labels.spectrum import kappa_covariance, multiplicity_spectrum, pooled_spectrum
from ncpipe.objective.settings import Objective
from ncpipe.optimum.bound import spectral_bound
from ncpipe.optimum.laws import laws
from ncpipe.optimum.optimum import solve
from ncpipe.optimum.relu import solve_relu
from ncpipe.optimum.thresholds import thresholds
from ncpipe.results.sampling_file import check_sampling, read_sampling
from ncpipe.results.theory_file import TheoryResults, write_theory_file


@one_thread
def analyse(
    distribution: LabelDistribution,
    objective: Objective,
    *,
    natural: LabelDistribution | None = None,
    seed: int = 0,
) -> TheoryResults:
    """Compute all that the theory file of one label distribution under one objective says.

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
    TheoryResults
        Spectra (1)-(6), optimum (7)-(9), relu (9a), bound (10), thresholds (11), laws (20)-(22), synthesis (12) and
        tag-wise residuals. Equal input gives equal output.
    """
    carried = distribution if natural is None else natural
    optimum = solve(distribution, objective)
    return TheoryResults(
        distribution=distribution,
        natural=natural,
        objective=objective,
        spectra={
            m: (multiplicity_spectrum(distribution, m), kappa_covariance(distribution, m))
            for m in distribution.multiplicities
        },
        pooled=pooled_spectrum(distribution, objective.target),
        optimum=optimum,
        relu=solve_relu(distribution, objective, seed=seed),
        bound=spectral_bound(distribution, objective),
        thresholds=thresholds(distribution, objective),
        laws=laws(distribution, objective, optimum=optimum),
        synthesis=fit_synthesis(optimum.prototypes, optimum.weight, carried, seed=seed),
        tagwise=[
            {"multiplicity": m, **tagwise_residuals(optimum.prototypes, carried, m)._asdict()}
            for m in carried.multiplicities
            if m >= 2
        ],
    )


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
        results = analyse(natural, objective, seed=seed)
    else:
        weights = read_sampling(sampling)
        check_sampling(sampling, weights, natural.as_counts(), objective.target)
        results = analyse(weights.distribution, objective, natural=natural, seed=seed)
    write_theory_file(path, results)
