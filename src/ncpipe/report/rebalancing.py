"""Rebalancing before training: what the labels promised, and what the networks' weakest contrasts made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ncpipe.experiment.architectures import ARCHITECTURES
from ncpipe.experiment.setting import Setting, settings_from_config
from ncpipe.labels.sampling import Sampling
from ncpipe.report.evidence import Cell, number
from ncpipe.results.layout import sampling_names
from ncpipe.results.sampling_file import read_sampling
from ncpipe.results.tables import METRICS, OPTIMUM, last_epoch, read_table, write_table
from ncpipe.statistics import mean_interval
from ncpipe.stores.files import write_result


@dataclass(frozen=True)
class Statistic:
    """A metric that rebalancing may change, and which way is better."""

    metric: str
    split: str
    label: str
    better: int = 1


STATISTICS = (
    Statistic("weakest_contrast_prototypes", "train", "weakest contrast of the class means"),
    Statistic("weakest_contrast_classifier", "train", "weakest contrast of the classifier"),
    Statistic("prediction_sigma", "train", "σ_{K-1} of the predictions, as training weighs them"),
    Statistic("sigma_min_logits", "train", "σ_{K-1} of the logits"),
    Statistic("error", "test", "test error", better=-1),
)
COLUMNS = (
    "dataset",
    "network",
    "setting",
    "natural",
    "metric",
    "split",
    "before",
    "after",
    "change",
    "low",
    "high",
    "seeds",
    "says",
    "reason",
    "optimum_before",
    "optimum_after",
)


def natural_twin(setting: Setting, settings: Iterable[Setting]) -> Setting | None:
    """The setting that differs from one with sampling weights in these alone, if the configuration has it."""
    same = (setting.labels, setting.budget)
    return next((s for s in settings if s.sampling == "natural" and (s.labels, s.budget) == same), None)


def compare(
    metrics: pd.DataFrame,
    optimum: pd.DataFrame,
    settings: Mapping[str, Setting],
    networks: Mapping[str, Mapping[str, str]],
) -> pd.DataFrame:
    """Compare every run with sampling weights with the run of equal seed without, at their last epochs.

    Parameters
    ----------
    metrics, optimum : DataFrame
        Tables of the collapse stage.
    settings : mapping
    networks : mapping
        Of the names of networks to their ``architecture`` and ``objective``.

    Returns
    -------
    DataFrame
        Columns `COLUMNS`: means before and after, the paired change with its Student-t interval and what it says
        ("better", "worse", "undecided"), and the same metric at the two certified optima that fit the features.
    """
    records = []
    weighted = [s for s in settings.values() if s.sampling != "natural"]
    pairs = [(twin, s) for s in weighted if (twin := natural_twin(s, settings.values())) is not None]
    for twin, setting in pairs:
        for statistic in STATISTICS:
            values = _last_values(metrics, statistic)
            for (dataset, network, name), after in values.items():
                before = values.get((dataset, network, twin.name))
                if name != setting.name or before is None:
                    continue
                seeds = before.index.intersection(after.index)
                at_optimum = {
                    key: _at_optimum(optimum, dataset, s.name, networks[network], statistic.metric)
                    for key, s in (("optimum_before", twin), ("optimum_after", setting))
                }
                records.append(
                    {
                        "dataset": dataset,
                        "network": network,
                        "setting": setting.name,
                        "natural": twin.name,
                        "metric": statistic.metric,
                        "split": statistic.split,
                        "before": _mean(before[seeds]),
                        "after": _mean(after[seeds]),
                        **_judge((after[seeds] - before[seeds]).to_numpy(), statistic.better),
                        **at_optimum,
                    }
                )
    return pd.DataFrame(records, columns=list(COLUMNS))


def _last_values(metrics: pd.DataFrame, statistic: Statistic) -> dict[tuple[str, str, str], pd.Series]:
    """Values by seed at the last epoch, for each data set, network and setting that has any."""
    rows = metrics.loc[(metrics["metric"] == statistic.metric) & (metrics["split"] == statistic.split)]
    rows = rows.loc[rows["value"].notna()]
    groups = last_epoch(rows).groupby(["dataset", "network", "setting"], sort=False) if len(rows) else ()
    return {(str(d), str(n), str(s)): group.set_index("seed")["value"] for (d, n, s), group in groups}


def _judge(change: np.ndarray, better: int) -> dict[str, Any]:
    """The mean change over seeds with its interval, and what it says of the rebalanced runs."""
    known = change[np.isfinite(change)]
    value, low, high = mean_interval(known) if len(known) else (np.nan, np.nan, np.nan)
    reason = Cell("", "", change).obstacle() if len(change) else "no seed was trained both with and without weights"
    direction = 0 if reason else better * (int(low > 0) - int(high < 0))
    return {
        "change": number(value),
        "low": number(low),
        "high": number(high),
        "seeds": len(known),
        "says": {1: "better", 0: "undecided", -1: "worse"}[direction],
        "reason": reason,
    }


def _mean(values: pd.Series) -> float | None:
    return number(values.mean()) if len(values) else None


def _at_optimum(
    optimum: pd.DataFrame, dataset: str, setting: str, network: Mapping[str, str], metric: str
) -> float | None:
    """The metric at the certified optimum that fits the network's features; None where it has none."""
    reference = "convex" if ARCHITECTURES[network["architecture"]].signed else "relu"
    wanted = {
        "dataset": dataset,
        "setting": setting,
        "objective": network["objective"],
        "reference": reference,
        "metric": metric,
    }
    rows = optimum.loc[np.logical_and.reduce([optimum[column] == value for column, value in wanted.items()])]
    return number(rows["value"].iloc[0]) if len(rows) else None


def weakest_contrasts(
    weights: Iterable[tuple[str, str, Sampling]], settings: Mapping[str, Setting]
) -> list[dict[str, Any]]:
    """What labels alone say of each data set, setting and its weights: κ_pool before, after, and the most possible."""
    records = []
    for dataset, name, sampling in weights:
        setting, twin = settings[name], natural_twin(settings[name], settings.values())
        records.append(
            {
                "dataset": dataset,
                "setting": name,
                "label": setting.label,
                "natural": None if twin is None else twin.name,
                "natural_label": None if twin is None else twin.label,
                "method": sampling.method,
                "target": sampling.target,
                "cap": sampling.cap,
                "kappa": {**sampling.kappa, "sampled": sampling.kappa[sampling.method]},
                "upper_bound": sampling.upper_bound,
                "factors": [float(sampling.factors.min()), float(sampling.factors.max())],
            }
        )
    return records


def write_rebalancing(
    json_path: Path,
    csv_path: Path,
    *,
    metrics: Path,
    optimum: Path,
    weights: Sequence[Path],
    settings: Mapping[str, Mapping[str, Any]],
    networks: Mapping[str, Mapping[str, str]],
) -> None:
    """Write ``rebalancing.json``, with what the labels say, and ``rebalancing.csv``, with the comparisons alone.

    Parameters
    ----------
    json_path, csv_path : Path
    metrics, optimum : Path
        Tables of the collapse stage.
    weights : sequence of Path
        ``theory/{dataset}/{setting}/sampling/{target}.json``, of every setting that has them; the names are taken
        from the path.
    settings, networks : mapping
        Sections of the configuration; of networks ``architecture`` and ``objective``.
    """
    entries = settings_from_config(settings)
    found = compare(read_table(metrics, METRICS), read_table(optimum, OPTIMUM), entries, networks)
    named = [(*sampling_names(path)[:2], read_sampling(path)) for path in weights]
    comparisons = found.astype(object).where(found.notna(), None).to_dict(orient="records")
    labels = {statistic.metric: statistic.label for statistic in STATISTICS}
    write_result(
        json_path,
        {
            "settings": weakest_contrasts(named, entries),
            "comparisons": [{**row, "statistic": labels[row["metric"]]} for row in comparisons],
        },
    )
    write_table(csv_path, found)
