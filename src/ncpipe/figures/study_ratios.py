"""Optimum, bound and synthesis over r."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from ncpipe.figures.study_marks import check_rows
from ncpipe.figures.style import BALANCED, IMBALANCED, MARKERS, PROFILES, REFERENCE, legend, note, panels, ratio_axis
from ncpipe.figures.synthesis_marks import BASES

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def study_ratios(study: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw optimum, spectral bound and ReLU optimum over r, and below the exponent γ̂ in each basis, by profile.

    Parameters
    ----------
    study : DataFrame
        ``theory/studies/ratios.csv``.

    Returns
    -------
    Figure
    DataFrame
        The numbers drawn: the rows of the study with frequencies of multiplicity one.

    Raises
    ------
    InputError
        If the study is empty.
    """
    check_rows(study, "ratios")
    shown = study["quantity"].isin(["optimum", "relu", "bound", "gamma"]) & (study["frequency"] != "total")
    drawn = study[shown].drop(columns=["relative_gap", "reference", "variant"]).reset_index(drop=True)
    values: dict[str, tuple[str, dict[str, Any]]] = {
        "relu": ("optimum with features ≥ 0", {"color": IMBALANCED[1], "marker": "s"}),
        "optimum": ("optimum", {"color": BALANCED, "marker": "o"}),
        "bound": ("spectral bound (10)", {"color": IMBALANCED[0], "marker": "^", "ls": "--"}),
    }
    from matplotlib.lines import Line2D

    figure, axes = panels(2, len(PROFILES), width=2.6, height=2.0, sharex=True, sharey="row")
    for j, profile in enumerate(PROFILES):
        here = drawn[drawn["profile"] == profile].sort_values("ratio")
        for quantity, (_, look) in values.items():
            rows = here[here["quantity"] == quantity]
            axes[0, j].plot(rows["ratio"], rows["value"], ms=3.6, lw=1.2, **look)
            open_ones = rows[~rows["certified"]]
            axes[0, j].plot(open_ones["ratio"], open_ones["value"], ms=3.6, **{**look, "ls": "", "mfc": "white"})
        fitted = here[here["quantity"] == "gamma"].dropna(subset=["value"])
        for i, basis in enumerate(BASES):
            rows = fitted[fitted["basis"] == basis]
            axes[1, j].errorbar(
                rows["ratio"],
                rows["value"],
                yerr=[rows["value"] - rows["low"], rows["high"] - rows["value"]],
                color=IMBALANCED[(i + 2) % len(IMBALANCED)],
                marker=MARKERS[i],
                ms=3.6,
                lw=1.2,
                elinewidth=0.9,
                capsize=1.8,
            )
        axes[1, j].axhline(0.0, color=REFERENCE, lw=0.9, zorder=1)
        if fitted.empty:
            note(axes[1, j], "not identified:\nclasses are equally frequent")
        ratio_axis(axes[1, j], here["ratio"])
        axes[0, j].set_title(f"profile {profile}")
        axes[1, j].set_xlabel("r")
    axes[0, 0].set_ylabel("terminal objective")
    axes[1, 0].set_ylabel("exponent γ of frequency\nin synthesis weights")
    handles = [Line2D([], [], label=label, ms=4, **look) for label, look in values.values()]
    handles += [
        Line2D([], [], color=IMBALANCED[(i + 2) % len(IMBALANCED)], marker=MARKERS[i], ms=4, label=f"γ, {label}")
        for i, label in enumerate(BASES.values())
    ]
    legend(figure, handles, columns=4)
    return figure, drawn
