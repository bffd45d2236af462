"""The collapse metrics at the end of training beside the optimum (figure 3 of the paper)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ncpipe.experiment.setting import Setting
from ncpipe.figures.dynamics import five_metrics
from ncpipe.figures.style import (
    OPTIMUM_LABELS,
    OPTIMUM_MARKERS,
    legend,
    looks,
    note,
    panels,
    present,
    setting_handles,
    with_undefined,
)
from ncpipe.results.tables import COLLAPSE_METRICS, METRIC_LABELS, last_epoch, metric_rows, over_seeds

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def final(
    metrics: pd.DataFrame,
    optimum: pd.DataFrame,
    settings: Mapping[str, Setting],
    *,
    network: str,
    objective: str,
    variant: str,
) -> tuple[Figure, pd.DataFrame]:
    """Draw the five metrics at the last epoch as bars with intervals over seeds; marks show the certified optimum.

    Parameters
    ----------
    metrics, optimum : DataFrame
        ``metrics.csv`` and ``optimum.csv``.
    settings : mapping of str to Setting
    network, objective : str
        The network, and the objective that it trains.
    variant : {"definition", "li2024"}

    Returns
    -------
    Figure
    DataFrame
        The numbers drawn: dataset, setting, metric, value, low, high, seeds, optimum_convex, optimum_relu.

    Raises
    ------
    InputError
        If the table has no metric of this network.
    """
    rows = last_epoch(five_metrics(metrics, network, variant, "final bars"))
    shown = present(settings, rows, controls=True)
    drawn = with_undefined(over_seeds(rows, ["dataset", "setting", "metric"]))
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
    marks_shown = [Line2D([], [], ls="", label=OPTIMUM_LABELS[name], **look) for name, look in OPTIMUM_MARKERS.items()]
    legend(figure, [*setting_handles(shown, styles, line=False), *marks_shown], columns=5)
    return figure, drawn
