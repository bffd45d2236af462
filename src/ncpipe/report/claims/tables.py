"""Everything that verdicts are made from, and the samples over seeds in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ncpipe.experiment.setting import Setting, baseline, settings_from_config
from ncpipe.report.evidence import Cell
from ncpipe.results.tables import (
    COLLAPSE_METRICS,
    METRIC_LABELS,
    METRICS,
    OPTIMUM,
    SPECTRUM_STUDY,
    SYNTHESIS,
    TAGWISE_STUDY,
    last_epoch,
    metric_rows,
    read_table,
)
from ncpipe.results.theory_file import Theory, TheoryKey, read_theories
from ncpipe.statistics import log_ratios

FILES = {
    "metrics": "collapse/metrics.csv",
    "synthesis": "collapse/synthesis.csv",
    "optimum": "collapse/optimum.csv",
    "spectrum_study": "theory/studies/spectrum.csv",
    "tagwise_study": "theory/studies/tagwise.csv",
}


@dataclass(frozen=True)
class Tables:
    """Everything that verdicts are made from.

    Parameters
    ----------
    metrics, synthesis, optimum : DataFrame
        The tidy tables of the collapse stage.
    theory : mapping
        Of (data set, setting, objective) to what the theory stage wrote.
    settings : mapping
        Of names to settings, in the order of the configuration.
    objectives : mapping
        Of the names of networks to the names of the objectives that they train.
    spectrum_study, tagwise_study : DataFrame or None
        The studies behind claims 2 and 4; None where they were not run.
    """

    metrics: pd.DataFrame
    synthesis: pd.DataFrame
    optimum: pd.DataFrame
    theory: Mapping[TheoryKey, Theory]
    settings: Mapping[str, Setting]
    objectives: Mapping[str, str]
    spectrum_study: pd.DataFrame | None = None
    tagwise_study: pd.DataFrame | None = None

    @classmethod
    def read(
        cls,
        *,
        metrics: Path,
        synthesis: Path,
        optimum: Path,
        theory: Iterable[Path],
        settings: Mapping[str, Mapping[str, Any]],
        objectives: Mapping[str, str],
        spectrum_study: Path | None = None,
        tagwise_study: Path | None = None,
    ) -> Tables:
        """Read the tables; a theory file's data set, setting and objective are the last three parts of its path.

        Raises
        ------
        InputError
            If a table is missing or lacks a column.
        StoreError
            If a theory file is missing or damaged.
        """
        return cls(
            metrics=read_table(metrics, METRICS),
            synthesis=read_table(synthesis, SYNTHESIS),
            optimum=read_table(optimum, OPTIMUM),
            theory=read_theories(theory),
            settings=settings_from_config(settings),
            objectives=dict(objectives),
            spectrum_study=None if spectrum_study is None else read_table(spectrum_study, SPECTRUM_STUDY),
            tagwise_study=None if tagwise_study is None else read_table(tagwise_study, TAGWISE_STUDY),
        )

    def certified(self, dataset: str, setting: str) -> bool:
        """Whether every optimum of this label distribution that was computed is certified."""
        return all(
            theory.references["convex"].certified
            for (d, s, _), theory in self.theory.items()
            if (d, s) == (dataset, setting)
        )

    def label(self, setting: str) -> str:
        """What the setting is called in a subject."""
        return self.settings[setting].label if setting in self.settings else setting


def theory_path(key: tuple[str, str, str]) -> str:
    """Where a theory file lies, relative to the results folder."""
    return f"theory/{key[0]}/{key[1]}/{key[2]}.json"


def by_seed(rows: pd.DataFrame) -> dict[tuple[str, str, str], pd.Series]:
    """Values by seed for each (data set, network, setting), in order of appearance."""
    keys = ["dataset", "network", "setting"]
    groups = rows.groupby(keys, sort=False)
    return {(str(d), str(n), str(s)): group.set_index("seed")["value"] for (d, n, s), group in groups}


def final_values(tables: Tables, metric: str, variant: str = "definition") -> dict[tuple[str, str, str], pd.Series]:
    """Values of a metric at the last epoch, by seed."""
    rows = metric_rows(tables.metrics, metric, variant=variant)
    return by_seed(last_epoch(rows)) if len(rows) else {}


def paired(
    treated: pd.Series, control: pd.Series, compare: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Compare the seeds that both have."""
    seeds = treated.index.intersection(control.index)
    return compare(treated[seeds].to_numpy(), control[seeds].to_numpy())


def groups(tables: Tables) -> list[tuple[str, str]]:
    """The pairs of data set and network that were trained."""
    frame = tables.metrics[["dataset", "network"]].drop_duplicates()
    return list(frame.itertuples(index=False, name=None))


def trained_settings(tables: Tables, dataset: str, network: str) -> set[str]:
    """Settings that a network was trained on."""
    rows = (tables.metrics["dataset"] == dataset) & (tables.metrics["network"] == network)
    return set(tables.metrics.loc[rows, "setting"])


def metric_ratios(tables: Tables, settings: Sequence[Setting], *, variant: str) -> list[Cell]:
    """Log-ratios of the five metrics at the last epoch to the balanced runs, paired by seed, one cell for each.

    Empty where there is no balanced setting; a cell that lacks its metric says so.
    """
    base = baseline(tables.settings)
    if base is None:
        return []
    values = {metric: final_values(tables, metric, variant) for metric in COLLAPSE_METRICS}
    cells = []
    for dataset, network in groups(tables):
        trained = trained_settings(tables, dataset, network)
        for setting in (s for s in settings if s.name in trained and base.name in trained):
            for metric in COLLAPSE_METRICS:
                subject = f"{dataset}, {setting.label}, {network}, {METRIC_LABELS[metric]}"
                treated = values[metric].get((dataset, network, setting.name))
                control = values[metric].get((dataset, network, base.name))
                if treated is None or control is None:
                    samples, missing = np.empty(0), "the table lacks this metric"
                else:
                    samples, missing = paired(treated, control, log_ratios), ""
                key = (dataset, network, metric)
                cells.append(Cell(subject, "log-ratio to balanced", samples, missing, key))
    return cells


def values_at_optimum(tables: Tables, metric: str, variant: str = "definition") -> dict[tuple[str, str, str], float]:
    """A metric at each certified convex optimum, by data set, setting and objective."""
    rows = metric_rows(tables.optimum, metric, variant=variant)
    rows = rows.loc[rows["reference"] == "convex"]
    keys = rows[["dataset", "setting", "objective"]].itertuples(index=False, name=None)
    return dict(zip(keys, rows["value"], strict=True))
