"""When tag-wise averaging is exact (claim 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ncpipe.figures.study_marks import ALARM, cell_edges, check_rows, shades
from ncpipe.figures.style import BALANCED, IMBALANCED, MARKERS, legend, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_EXACT = 1e-3  # residual that counts as exact, as in claim 4


def study_tagwise(study: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw the residual of tag-wise averaging over the anisotropies of multiplicity one and two (claim 4).

    Parameters
    ----------
    study : DataFrame
        ``theory/studies/tagwise.csv``.

    Returns
    -------
    Figure
    DataFrame
        The numbers drawn: the columns of the study.

    Raises
    ------
    InputError
        If the study is empty.
    """
    check_rows(study, "tagwise")
    drawn = study.sort_values(["graph", "ratio", "share"], ascending=[False, False, True], ignore_index=True)
    graphs = list(dict.fromkeys(drawn["graph"]))
    top = max(float(drawn["residual"].max()), 0.02)
    levels = np.concatenate([[0.0, _EXACT], np.linspace(0, np.ceil(top * 50) / 50, 9)[1:]])
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap
    from matplotlib.lines import Line2D

    colormap = ListedColormap(["#ffffff", *shades(len(levels) - 2)])
    norm = BoundaryNorm(levels, colormap.N)
    figure, axes = panels(1, len(graphs) + 1, width=2.75, height=2.45)
    plain = drawn[drawn["share"] == 0]  # no edge of any graph: in the picture of each
    for axis, graph in zip(axes[0], graphs, strict=False):
        here = pd.concat([plain[plain["graph"] != graph], drawn[drawn["graph"] == graph]])
        grid = here.assign(delta_1=here["delta_1"].round(9), delta_2=here["delta_2"].round(9)).pivot_table(
            index="delta_2", columns="delta_1", values="residual", dropna=False
        )
        edges = [cell_edges(np.asarray(v, float), log=False) for v in (grid.columns, grid.index)]
        axis.pcolormesh(*edges, np.ma.masked_invalid(grid.to_numpy()), cmap=colormap, norm=norm)
        axis.plot(here["delta_1"], here["delta_2"], ls="", marker=".", ms=1.6, color="#555555", clip_on=False)
        exact = here[here["residual"] < _EXACT]
        axis.plot(
            exact["delta_1"],
            exact["delta_2"],
            ls="",
            marker="o",
            ms=9,
            mfc="none",
            mec=ALARM,
            mew=1.4,
            clip_on=False,
        )
        axis.set_xlabel("anisotropy δ of multiplicity one")
        axis.set_ylabel("anisotropy δ of multiplicity two")
        axis.set_title(f"pairs on a {'perfect ' * (graph == 'matching')}{graph}{' graph' * (graph != 'matching')}")
        axis.grid(visible=False)
    last = axes[0, -1]
    first = drawn[(drawn["graph"] == graphs[0])]
    handles = [Line2D([], [], ls="", marker="o", ms=8, mfc="none", mec=ALARM, mew=1.3, label="exact")]
    ratios = _thinned(sorted(first["ratio"].unique(), reverse=True))
    for i, ratio in enumerate(ratios):
        colour = BALANCED if ratio == 1 else IMBALANCED[(i - 1) % len(IMBALANCED)]
        rows = first[first["ratio"] == ratio]
        last.plot(rows["delta_2"], rows["residual"], color=colour, marker=MARKERS[i], ms=3.4, clip_on=False)
        handles.append(Line2D([], [], color=colour, marker=MARKERS[i], label=f"step r = {ratio:g}"))
    last.set_ylim(bottom=0)
    last.set_xlabel("anisotropy δ of multiplicity two")
    last.set_ylabel("residual")
    last.set_title(f"along the {graphs[0]}")
    bar = figure.colorbar(ScalarMappable(norm, colormap), ax=list(axes[0, :-1]), ticks=levels, pad=0.02, aspect=25)
    bar.ax.set_yticklabels([f"{level:g}" for level in levels])
    bar.set_label("relative residual of tag-wise averaging")
    legend(figure, handles)
    return figure, drawn


def _thinned(values: Sequence[float], most: int = 4) -> list[float]:
    """At most so many of the values, evenly spread, the ends among them."""
    places = np.unique(np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int))
    return [values[i] for i in places]
