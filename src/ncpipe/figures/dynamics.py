"""The collapse metrics over training (figure 1 of the paper)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from ncpipe.errors import InputError
from ncpipe.experiment.setting import Setting
from ncpipe.figures.style import (
    ONLY_CONTROLS,
    epoch_axis,
    legend,
    log_axis,
    looks,
    nothing_to_draw,
    panels,
    present,
    setting_handles,
    with_undefined,
)
from ncpipe.results.tables import COLLAPSE_METRICS, METRIC_LABELS, metric_rows, over_seeds, select

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def five_metrics(metrics: pd.DataFrame, network: str, variant: str, what: str) -> pd.DataFrame:
    """Rows of the five metrics of one network; a metric that is not defined has no value, or no row."""
    rows = select(metrics, what, network=network)
    parts = [metric_rows(rows, metric, variant=variant) for metric in COLLAPSE_METRICS]
    if all(part.empty for part in parts):
        raise InputError(f"{what}: the table has no collapse metric ({variant}) of network {network}")
    return pd.concat([part for part in parts if len(part)])


def dynamics(
    metrics: pd.DataFrame, settings: Mapping[str, Setting], *, network: str, variant: str
) -> tuple[Figure, pd.DataFrame]:
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

    Returns
    -------
    Figure
    DataFrame
        The numbers drawn: dataset, setting, metric, epoch, value (geometric mean), low, high, seeds.

    Raises
    ------
    InputError
        If the table has no metric of this network.
    """
    rows = five_metrics(metrics, network, variant, "dynamics")
    shown = present(settings, rows, controls=False)
    rows = rows[rows["setting"].isin([s.name for s in shown])]
    drawn = over_seeds(rows, ["dataset", "setting", "metric", "epoch"], log=True).sort_values(
        ["dataset", "setting", "metric", "epoch"], kind="stable", ignore_index=True
    )
    if drawn.empty:
        return nothing_to_draw(ONLY_CONTROLS, drawn)
    drawn = with_undefined(drawn)
    styles = looks(settings)
    datasets = list(dict.fromkeys(rows["dataset"]))
    figure, axes = panels(len(datasets), 5, width=2.05, height=1.75, sharex=True)
    for i, dataset in enumerate(datasets):
        for axis, metric in zip(axes[i], COLLAPSE_METRICS, strict=True):
            here = drawn[(drawn["dataset"] == dataset) & (drawn["metric"] == metric)]
            for setting in shown:
                curve = here[here["setting"] == setting.name]
                look = styles[setting.name]
                axis.fill_between(curve["epoch"], curve["low"], curve["high"], color=look.colour, alpha=0.18, lw=0)
                axis.plot(curve["epoch"], curve["value"], color=look.colour, marker=look.marker, ms=2.6, clip_on=False)
            log_axis(axis, here["value"])
            epoch_axis(axis, float(rows["epoch"].max()))
            if i == 0:
                axis.set_title(METRIC_LABELS[metric])
            if i == len(datasets) - 1:
                axis.set_xlabel("epoch")
        axes[i, 0].set_ylabel(dataset)
    figure.align_ylabels(axes[:, 0])
    legend(figure, setting_handles(shown, styles))
    return figure, drawn
