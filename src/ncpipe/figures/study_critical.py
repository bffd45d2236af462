"""The λ at which full rank is lost, over r."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from ncpipe.figures.study_marks import check_rows, per_pair
from ncpipe.figures.style import MARKERS, PROFILES, REFERENCE, legend, panels, ratio_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def study_critical(study: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw λ_crit over r for the three profiles beside √κ_pool and (11a), and its ratio to √κ_pool below.

    Parameters
    ----------
    study : DataFrame
        ``theory/studies/critical.csv``.

    Returns
    -------
    Figure
    DataFrame
        The numbers drawn: profile, samples_per_pair, ratio, lambda_low, lambda_high, root_kappa_pool,
        lambda_minority, heuristic (λ_crit / √κ_pool).

    Raises
    ------
    InputError
        If the study is empty.
    """
    check_rows(study, "critical")
    drawn = study.drop(columns=["rank_above", "relative_gap", "certified"])
    middle = (drawn["lambda_low"] + drawn["lambda_high"]) / 2
    drawn["heuristic"] = (middle / drawn["root_kappa_pool"]).where(drawn["root_kappa_pool"] > 0)
    samples = sorted(drawn["samples_per_pair"].unique())
    from matplotlib.lines import Line2D

    figure, axes = panels(2, len(samples), width=3.1, height=1.9, sharex="col", sharey="row")
    for j, count in enumerate(samples):
        here = drawn[drawn["samples_per_pair"] == count]
        for i, (profile, colour) in enumerate(PROFILES.items()):
            rows = here[here["profile"] == profile].sort_values("ratio")
            marks = {
                "color": colour,
                "ls": "",
                "marker": MARKERS[i],
                "ms": 6.4 - 1.2 * i,
                "mec": "white",
                "mew": 0.5,
            }
            axes[0, j].plot(rows["ratio"], rows["root_kappa_pool"], color=colour, lw=1.1)
            axes[0, j].plot(rows["ratio"], (rows["lambda_low"] + rows["lambda_high"]) / 2, **marks, clip_on=False)
            axes[1, j].plot(rows["ratio"], rows["heuristic"], **{**marks, "ls": "-"}, lw=1.1, clip_on=False)
        step = here[here["profile"] == "step"].sort_values("ratio")
        axes[0, j].plot(step["ratio"], step["lambda_minority"], color="#000000", lw=1.1, ls=(0, (2, 2)))
        axes[1, j].axhline(1.0, color=REFERENCE, lw=0.8, zorder=1)
        ratio_axis(axes[1, j], here["ratio"])
        axes[0, j].set_title(per_pair(count))
        axes[0, j].set_ylim(bottom=0)
        axes[1, j].set_xlabel("r")
    axes[0, 0].set_ylabel("λ at which\nfull rank is lost")
    axes[1, 0].set_ylabel("the same,\nover √κ of the pooled spectrum")
    handles = [
        Line2D([], [], color=colour, marker=MARKERS[i], mec="white", mew=0.5, ls="", label=f"{profile}: by bisection")
        for i, (profile, colour) in enumerate(PROFILES.items())
    ]
    handles.append(Line2D([], [], color=REFERENCE, lw=1.1, label="√κ of the pooled spectrum"))
    handles.append(Line2D([], [], color="#000000", lw=1.1, ls=(0, (2, 2)), label="step: closed form (11a)"))
    legend(figure, handles, columns=3)
    return figure, drawn
