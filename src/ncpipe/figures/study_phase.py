"""Rank of the certified optimum over r and λ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ncpipe.figures.study_marks import ALARM, cell_edges, check_rows, per_pair, shades
from ncpipe.figures.style import REFERENCE, legend, panels, ratio_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINES: dict[str, tuple[str, dict[str, Any]]] = {
    "lambda_minority": ("minority classes collapse (11a)", {"color": "#000000", "lw": 1.4}),
    "lambda_zero": ("everything collapses (11b)", {"color": "#000000", "lw": 1.4, "ls": (0, (2.5, 1.5))}),
    "lambda_objective": ("λ of the objective", {"color": ALARM, "lw": 1.2, "ls": (0, (6, 1.5, 1, 1.5))}),
}


def study_phase(study: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw the rank of the certified optimum over (r, λ), a panel for each n_2, and the closed forms of (11) over it.

    Parameters
    ----------
    study : DataFrame
        ``theory/studies/phase.csv``.

    Returns
    -------
    Figure
    DataFrame
        The numbers drawn: the columns of the study, as far as they are drawn.

    Raises
    ------
    InputError
        If the study is empty.
    """
    check_rows(study, "phase")
    drawn = study.drop(columns=["root_kappa_pool", "relative_gap"])
    ranks = sorted(drawn["rank"].dropna().unique())
    samples = sorted(drawn["samples_per_pair"].unique())
    from matplotlib.colors import BoundaryNorm, ListedColormap
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    colours = shades(len(ranks))
    colormap = ListedColormap(colours)
    norm = BoundaryNorm(np.arange(len(ranks) + 1) - 0.5, len(ranks)) if ranks else None
    figure, axes = panels(1, len(samples), width=2.35, height=2.6, sharey=True)
    for axis, count in zip(axes[0], samples, strict=True):
        here = drawn[drawn["samples_per_pair"] == count]
        grid = here.pivot_table(index="lambda", columns="ratio", values="rank", dropna=False)
        place = np.searchsorted(ranks, grid.to_numpy())
        cells = np.ma.masked_where(grid.isna().to_numpy(), place)
        edges = [cell_edges(np.asarray(v, float), log=True) for v in (grid.columns, grid.index)]
        axis.pcolormesh(*edges, cells, cmap=colormap, norm=norm, edgecolors="white", linewidth=0.25)
        curves = here.drop_duplicates("ratio").sort_values("ratio")
        for name, (_, look) in _LINES.items():
            axis.plot(curves["ratio"], curves[name], **look)
        axis.set_yscale("log")
        ratio_axis(axis, here["ratio"])
        axis.set_xlim(edges[0][-1], edges[0][0])
        axis.set_ylim(edges[1][0], edges[1][-1])
        axis.grid(visible=False)
        certified = here.dropna(subset=["minority_collapsed"])
        agree = (certified["lambda"] >= certified["lambda_minority"]) == (certified["minority_collapsed"] > 0.5)
        axis.set_title(per_pair(count), pad=15)
        axis.text(
            0.5,
            1.015,
            f"(11a) right at {int(agree.sum())} of {len(here)} points",
            transform=axis.transAxes,
            ha="center",
            va="bottom",
            fontsize=6.8,
            color=REFERENCE,
        )
        axis.set_xlabel("r of the step profile")
    axes[0, 0].set_ylabel("λ")
    _plain_log_ticks(axes[0, 0])
    handles: list[Any] = [
        Patch(facecolor=shade, edgecolor="#8a8a8a", lw=0.4, label=f"rank {rank:g}")
        for shade, rank in reversed(list(zip(colours, ranks, strict=True)))
    ]
    handles += [Line2D([], [], label=label, **look) for label, look in _LINES.values()]
    legend(figure, handles, columns=4)
    return figure, drawn


def _plain_log_ticks(axis: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
