"""The collapse metrics over training, and at its end beside the optimum (figures 1 and 3 of the paper)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from ncpipe.errors import InputError
from ncpipe.experiment.setting import Setting
from ncpipe.figures.style import (
    OPTIMUM_LABELS,
    OPTIMUM_MARKERS,
    epoch_axis,
    house_style,
    legend,
    log_axis,
    looks,
    note,
    panels,
    present,
    save,
    setting_handles,
)
from ncpipe.results.tables import COLLAPSE_METRICS, METRIC_LABELS, last_epoch, metric_rows, over_seeds, select


def _five_metrics(metrics: pd.DataFrame, network: str, variant: str, what: str) -> pd.DataFrame:
    """Rows of the five metrics of one network; a metric may be undefined (no value), its rows must be there."""
    rows = select(metrics, what, network=network)
    parts = [metric_rows(rows, metric, variant=variant) for metric in COLLAPSE_METRICS]
    lacking = [metric for metric, part in zip(COLLAPSE_METRICS, parts, strict=True) if part.empty]
    if lacking:
        raise InputError(f"{what}: the table has no row of {', '.join(lacking)} ({variant}) for network {network}")
    return pd.concat(parts)


def dynamics(
    metrics: pd.DataFrame, settings: Mapping[str, Setting], *, network: str, variant: str, output_stem: Path
) -> pd.DataFrame:
    """Draw the five metrics over epochs: a row for each data set, a curve for each setting, a band over seeds.

    Vertical distances on the logarithmic axis are the log-ratios of claim 6. Controls are left out: their epochs are
    not comparable.

    Parameters
    ----------
    metrics : DataFrame
        ``metrics.csv``.
    settings : mapping of str to Setting
        All settings of the configuration, in its order: they fix colours and labels.
    network : str
    variant : {"definition", "li2024"}
    output_stem : Path
        ``.svg``, ``.png`` and ``.csv`` are put behind it.

    Returns
    -------
    DataFrame
        The numbers drawn: dataset, setting, metric, epoch, value (geometric mean), low, high, seeds.

    Raises
    ------
    InputError
        If the table has no row of a metric for this network.
    """
    rows = _five_metrics(metrics, network, variant, "dynamics")
    shown = present(settings, rows, controls=False)
    rows = select(rows, "dynamics", setting=[s.name for s in shown])
    drawn = over_seeds(rows, ["dataset", "setting", "metric", "epoch"], log=True).sort_values(
        ["dataset", "setting", "metric", "epoch"], kind="stable", ignore_index=True
    )
    styles = looks(settings)
    datasets = list(dict.fromkeys(rows["dataset"]))
    with house_style():
        figure, axes = panels(len(datasets), 5, width=2.05, height=1.75, sharex=True)
        for i, dataset in enumerate(datasets):
            for axis, metric in zip(axes[i], COLLAPSE_METRICS, strict=True):
                here = drawn[(drawn["dataset"] == dataset) & (drawn["metric"] == metric)]
                for setting in shown:
                    curve = here[here["setting"] == setting.name]
                    look = styles[setting.name]
                    axis.fill_between(curve["epoch"], curve["low"], curve["high"], color=look.colour, alpha=0.18, lw=0)
                    axis.plot(
                        curve["epoch"], curve["value"], color=look.colour, marker=look.marker, ms=2.6, clip_on=False
                    )
                log_axis(axis, here["value"])
                epoch_axis(axis, float(rows["epoch"].max()))
                if i == 0:
                    axis.set_title(METRIC_LABELS[metric])
                if i == len(datasets) - 1:
                    axis.set_xlabel("epoch")
            axes[i, 0].set_ylabel(dataset)
        figure.align_ylabels(axes[:, 0])
        legend(figure, setting_handles(shown, styles))
        save(figure, output_stem, drawn)
    return drawn


def final_bars(
    metrics: pd.DataFrame,
    optimum: pd.DataFrame,
    settings: Mapping[str, Setting],
    *,
    network: str,
    objective: str,
    variant: str,
    output_stem: Path,
) -> pd.DataFrame:
    """Draw the five metrics at the last epoch as bars with intervals over seeds; marks show the certified optimum.

    Parameters
    ----------
    metrics, optimum : DataFrame
        ``metrics.csv`` and ``optimum.csv``.
    settings : mapping of str to Setting
    network, objective : str
        The network, and the objective that it trains.
    variant : {"definition", "li2024"}
    output_stem : Path

    Returns
    -------
    DataFrame
        The numbers drawn: dataset, setting, metric, value, low, high, seeds, optimum_convex, optimum_relu.

    Raises
    ------
    InputError
        If the table has no row of a metric for this network.
    """
    rows = last_epoch(_five_metrics(metrics, network, variant, "final bars"))
    shown = present(settings, rows, controls=True)
    drawn = over_seeds(rows, ["dataset", "setting", "metric"])
    marks = pd.concat(metric_rows(optimum, metric, variant=variant) for metric in COLLAPSE_METRICS)
    marks = marks[marks["objective"] == objective].pivot_table(
        index=["dataset", "setting", "metric"], columns="reference", values="value"
    )
    for reference in ("convex", "relu"):
        column = marks[reference] if reference in marks else pd.Series(dtype=float)
        keys = pd.MultiIndex.from_frame(drawn[["dataset", "setting", "metric"]])
        drawn[f"optimum_{reference}"] = column.reindex(keys).to_numpy() if len(column) else np.nan
    styles = looks(settings)
    datasets = list(dict.fromkeys(rows["dataset"]))
    with house_style():
        from matplotlib.lines import Line2D

        figure, axes = panels(len(datasets), 5, width=1.95, height=1.65)
        for i, dataset in enumerate(datasets):
            for axis, metric in zip(axes[i], COLLAPSE_METRICS, strict=True):
                here = drawn[(drawn["dataset"] == dataset) & (drawn["metric"] == metric)].set_index("setting")
                for x, setting in enumerate(shown):
                    if setting.name not in here.index:
                        continue
                    bar, look = here.loc[setting.name], styles[setting.name]
                    axis.bar(x, bar["value"], width=0.78, color=look.colour, hatch=look.hatch, edgecolor="white", lw=0)
                    if np.isfinite(bar["low"]):
                        axis.plot([x, x], [bar["low"], bar["high"]], color="white", lw=2.6, solid_capstyle="butt")
                        axis.plot([x, x], [bar["low"], bar["high"]], color="#333333", lw=1.1, solid_capstyle="butt")
                    for reference, marker in OPTIMUM_MARKERS.items():
                        axis.plot(x, bar[f"optimum_{reference}"], ls="", zorder=4, clip_on=False, **marker)
                axis.set_xticks([])
                axis.grid(visible=False, axis="x")
                axis.set_xlim(-0.7, len(shown) - 0.3)
                axis.set_ylim(bottom=0)
                if here["value"].isna().all():
                    note(axis, "not defined in this run")
                if i == 0:
                    axis.set_title(METRIC_LABELS[metric])
            axes[i, 0].set_ylabel(dataset)
        figure.align_ylabels(axes[:, 0])
        marks_shown = [
            Line2D([], [], ls="", label=OPTIMUM_LABELS[name], **look) for name, look in OPTIMUM_MARKERS.items()
        ]
        legend(figure, [*setting_handles(shown, styles, line=False), *marks_shown], columns=5)
        save(figure, output_stem, drawn)
    return drawn
