"""Studies of label distributions: designed, solved and certified, without any image or training.

Each study is one tidy table. Every row keeps the certificate of what it says: the relative gap that the solver
reached, and whether that is the one it was asked for. What is read off an optimum (its rank, its geometry) is left
empty where that is not certified. A new study is a module, an entry of `STUDIES`, and its columns in
`ncpipe.results.tables`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ncpipe.labels.design import Scale
from ncpipe.objective.settings import Objective
from ncpipe.results.tables import write_table
from ncpipe.theory.studies.critical import critical_study
from ncpipe.theory.studies.phase import phase_study
from ncpipe.theory.studies.ratios import ratios_study
from ncpipe.theory.studies.spectrum import spectrum_study
from ncpipe.theory.studies.synthetic import synthetic_study
from ncpipe.theory.studies.tagwise import tagwise_study

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
