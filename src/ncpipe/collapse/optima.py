"""The collapse metrics of certified optima."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ncpipe.geometry.measure import (
    Predictions,
    classifier_metrics,
    geometry_metrics,
    optimality_metrics,
    spectral_metrics,
)
from ncpipe.geometry.metrics import collapsed
from ncpipe.geometry.record import QUANTITIES, Record
from ncpipe.jobs import one_thread
from ncpipe.objective.losses import predictions
from ncpipe.objective.terms import collapsed_terms
from ncpipe.results.layout import theory_names
from ncpipe.results.theory_file import REFERENCES, ReferenceName, Theory, read_theory


@one_thread
def analyse_optimum(theory_path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Compute the same metrics at the certified optima, whose features have collapsed onto the prototypes.

    Parameters
    ----------
    theory_path : Path
        ``.../{dataset}/{setting}/{objective}.json``: the rows' names are taken from it.

    Returns
    -------
    metrics, synthesis : list of dict
        Rows of optimum.csv (both references) and of synthesis.csv (network ``optimum``, as the theory file has them).
    """
    theory = read_theory(theory_path)
    dataset, setting, objective = theory_names(theory_path)
    rows = []
    for reference in (name for name in REFERENCES if name in theory.references):
        record = Record()
        _analyse_reference(record, theory, reference)
        about = {"dataset": dataset, "setting": setting, "objective": objective, "reference": reference}
        for metric, known in record.known.items():
            for key, value in known.items():
                place = dict(zip(QUANTITIES[metric].dims, key, strict=True))
                kept = {name: place.get(name, "") for name in ("variant", "multiplicity")}
                rows.append({**about, "metric": metric, **kept, "value": value})
    about = {"dataset": dataset, "setting": setting, "network": "optimum", "seed": ""}
    return rows, [{**about, **entry} for entry in theory.synthesis]


def _analyse_reference(record: Record, theory: Theory, name: ReferenceName) -> None:
    optimum, distribution = theory.references[name], theory.distribution
    place = {"epoch": "", "split": ""}
    everyone = np.arange(len(distribution.counts))
    classifier_metrics(record, place, optimum.weight)
    geometry_metrics(record, place, collapsed(optimum.prototypes, theory.natural), optimum.weight, optimum.bias)
    terms = collapsed_terms(
        distribution,
        theory.objective,
        weight=optimum.weight,
        bias=optimum.bias,
        prototypes=optimum.prototypes,
    )
    probabilities = predictions(optimum.prototypes @ optimum.weight.T + optimum.bias, theory.objective.loss)
    each = probabilities if theory.objective.facts.one_distribution else None
    optimality_metrics(record, place, terms, Predictions(each, everyone), theory, name)
    spectral_metrics(record, place, probabilities, terms.total, theory, name)
