"""Synthetic labels, from independent to strongly correlated."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import pandas as pd

from ncpipe.figures.study_marks import check_rows
from ncpipe.figures.style import BALANCED, IMBALANCED, MARKERS, REFERENCE, legend, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def study_synthetic(study: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw spectra, optima and bounds of synthetic labels, from independent to strongly correlated.

    Parameters
    ----------
    study : DataFrame
        ``theory/studies/synthetic.csv``.

    Returns
    -------
    Figure
    DataFrame
        The numbers drawn: the columns of the study that are drawn.

    Raises
    ------
    InputError
        If the study is empty.
    """
    check_rows(study, "synthetic")
    drawn = study.drop(columns=["kappa_1", "optimum", "bound", "relative_gap", "certified"])
    ratios = sorted(drawn["ratio"].unique(), reverse=True)
    lambdas = sorted(drawn["lambda"].unique())
    from matplotlib.lines import Line2D

    figure, axes = panels(2, 3, width=2.75, height=2.05)
    for (i, ratio), (j, lam) in product(enumerate(ratios), enumerate(lambdas)):
        here = drawn[(drawn["ratio"] == ratio) & (drawn["lambda"] == lam)]
        look = {
            "color": IMBALANCED[j % len(IMBALANCED)],
            "marker": MARKERS[i % len(MARKERS)],
            "mfc": IMBALANCED[j % len(IMBALANCED)] if i == 0 else "white",
        }
        _band(axes[0, 1], here, "rank", look)
        _band(axes[0, 2], here, "sigma_min_logits", look)
        _band(axes[1, 0], here, "bound_ratio", look)
        for axis, value, below in (
            (axes[1, 1], "sigma_min_predictions", "law"),
            (axes[1, 2], "geometry_sigma", "geometry_bound"),
        ):
            axis.plot(here[value], here[below], **{**look, "ls": ""}, ms=3.2, mew=0.7, alpha=0.9)
        if j == 0:
            spectra = {"color": BALANCED, "marker": look["marker"], "mfc": BALANCED if i == 0 else "white"}
            _band(axes[0, 0], here, "kappa_pool", spectra)
    plain = drawn[(drawn["ratio"] == ratios[0]) & (drawn["lambda"] == lambdas[0])]
    _band(axes[0, 0], plain, "kappa_2", {"color": IMBALANCED[3], "marker": "D", "mfc": IMBALANCED[3]})
    for axis, title in zip(
        axes.flat,
        (
            "label spectrum",
            "rank of the optimum",
            "weakest direction of the logits",
            "spectral bound (10)",
            "law of the predictions (20)",
            "geometry bound (13), pairs",
        ),
        strict=True,
    ):
        axis.set_title(title)
    for axis in (*axes[0], axes[1, 0]):
        axis.set_xlabel("strength of the correlations")
    axes[0, 0].set_ylabel("κ")
    axes[0, 0].set_ylim(bottom=0)
    axes[0, 1].set_ylim(bottom=0)
    axes[0, 1].set_ylabel("rank")
    axes[0, 2].set_ylabel("smallest singular value")
    axes[1, 0].set_ylabel("bound / optimum")
    axes[1, 0].set_ylim(0, 1.04)
    for axis in axes[1, 1:]:
        low, high = min(axis.get_xlim()[0], axis.get_ylim()[0]), max(axis.get_xlim()[1], axis.get_ylim()[1])
        axis.plot([low, high], [low, high], color=REFERENCE, lw=0.9, zorder=1)
        axis.set_xlabel("value at the optimum")
        axis.set_ylabel("lower bound")
    handles = [
        Line2D([], [], color=IMBALANCED[j % len(IMBALANCED)], label=f"λ = {lam:.3g}") for j, lam in enumerate(lambdas)
    ]
    handles += [
        Line2D(
            [],
            [],
            color=BALANCED,
            ls="",
            marker=MARKERS[i % len(MARKERS)],
            mfc=BALANCED if i == 0 else "white",
            label=f"r = {ratio:g}",
        )
        for i, ratio in enumerate(ratios)
    ]
    handles.append(Line2D([], [], color=BALANCED, label="κ, pooled"))
    handles.append(Line2D([], [], color=IMBALANCED[3], marker="D", label="κ of pairs"))
    legend(figure, handles, columns=7)
    return figure, drawn


def _band(axis: Axes, rows: pd.DataFrame, column: str, look: dict[str, Any]) -> None:
    """Mean over draws against the strength, and the range of the draws."""
    summary = rows.groupby("strength")[column].agg(["mean", "min", "max"])
    axis.fill_between(summary.index, summary["min"], summary["max"], color=look["color"], alpha=0.14, lw=0)
    axis.plot(summary.index, summary["mean"], ms=3.4, lw=1.2, mew=0.8, **look)
