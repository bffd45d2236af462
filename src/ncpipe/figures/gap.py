"""How close training comes to the certified optimum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from ncpipe.errors import InputError
from ncpipe.experiment.setting import Setting
from ncpipe.figures.style import (
    ONLY_CONTROLS,
    REFERENCE,
    epoch_axis,
    legend,
    log_axis,
    looks,
    nothing_to_draw,
    panels,
    present,
    setting_handles,
)
from ncpipe.results.tables import metric_rows, over_seeds, select
from ncpipe.results.theory_file import REFERENCES, Theory, TheoryKey

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANELS = {
    "objective": "objective (7)",
    "gap": "gap to the convex optimum",
    "gap_reference": "gap to the reference\nthat fits the features",
    "total_variation": "distance of predictions\n(rms total variation)",
}


def gap(
    metrics: pd.DataFrame,
    theory: Mapping[TheoryKey, Theory],
    settings: Mapping[str, Setting],
    *,
    network: str,
    objective: str,
) -> tuple[Figure, pd.DataFrame]:
    """Draw the objective, the certified gaps and the distance of the predictions over epochs, with both references.

    In the first column the dotted line of each colour is the certified convex optimum, the dashed one the best known
    value with features >= 0.

    Parameters
    ----------
    metrics : DataFrame
        ``metrics.csv``.
    theory : mapping
        Of (data set, setting, objective) to the theory stage's results.
    settings : mapping of str to Setting
    network, objective : str
        The network, and the objective that it trains.

    Returns
    -------
    Figure
    DataFrame
        The numbers drawn: dataset, setting, metric, epoch, value (geometric mean), low, high, seeds; the references are
        the rows of metric "reference_convex" and "reference_relu", without epoch.

    Raises
    ------
    InputError
        If the table has no objective of this network.
    """
    rows = select(metrics, "gap", network=network)
    rows = pd.concat(metric_rows(rows, metric) for metric in _PANELS)
    if not (rows["metric"] == "objective").any():
        raise InputError(f"gap: the table has no objective of network {network}")
    shown = present(settings, rows, controls=False)
    rows = rows[rows["setting"].isin([s.name for s in shown])]
    curves = over_seeds(rows, ["dataset", "setting", "metric", "epoch"], log=True)
    if curves.empty:
        return nothing_to_draw(ONLY_CONTROLS, curves)
    datasets = list(dict.fromkeys(rows["dataset"]))
    references = [
        (dataset, setting.name, f"reference_{reference}", theory[key].references[reference].objective)
        for dataset in datasets
        for setting in shown
        for reference in REFERENCES
        if (key := (dataset, setting.name, objective)) in theory and reference in theory[key].references
    ]
    lines = pd.DataFrame(references, columns=["dataset", "setting", "metric", "value"])
    drawn = pd.concat([curves, lines], ignore_index=True)
    styles = looks(settings)
    from matplotlib.lines import Line2D

    figure, axes = panels(len(datasets), len(_PANELS), width=2.5, height=1.95)
    for i, dataset in enumerate(datasets):
        for axis, (metric, title) in zip(axes[i], _PANELS.items(), strict=True):
            for setting in shown:
                look = styles[setting.name]
                own = drawn[(drawn["dataset"] == dataset) & (drawn["setting"] == setting.name)]
                curve = own[own["metric"] == metric].sort_values("epoch")
                axis.fill_between(curve["epoch"], curve["low"], curve["high"], color=look.colour, alpha=0.18, lw=0)
                axis.plot(curve["epoch"], curve["value"], color=look.colour, marker=look.marker, ms=2.8, clip_on=False)
                for reference, dots in (("convex", ":"), ("relu", "--")) if metric == "objective" else ():
                    for value in own.loc[own["metric"] == f"reference_{reference}", "value"]:
                        axis.axhline(value, color=look.colour, ls=dots, lw=0.9)
            log_axis(axis, drawn.loc[(drawn["dataset"] == dataset) & (drawn["metric"] == metric), "value"])
            epoch_axis(axis, float(rows["epoch"].max()))
            if i == 0:
                axis.set_title(title)
            if i == len(datasets) - 1:
                axis.set_xlabel("epoch")
        axes[i, 0].set_ylabel(dataset)
    figure.align_ylabels(axes[:, 0])
    kinds = [
        Line2D([], [], color=REFERENCE, ls=":", label="certified convex optimum"),
        Line2D([], [], color=REFERENCE, ls="--", label="best known with features ≥ 0"),
    ]
    legend(figure, [*setting_handles(shown, styles), *kinds])
    return figure, drawn
