"""The studies of label distributions: what holds at certified optima, from labels alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ncpipe.errors import InputError
from ncpipe.figures.style import (
    BALANCED,
    IMBALANCED,
    MARKERS,
    PROFILES,
    REFERENCE,
    house_style,
    legend,
    note,
    panels,
    ratio_axis,
    save,
)
from ncpipe.statistics import spearman_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

_ALARM = "#c0392b"
_EXACT = 1e-3  # residual that counts as exact, as in claim 4
_RESPONSES = {
    "sigma_min_predictions": "weakest direction\nof the predictions",
    "sigma_min_logits": "weakest direction\nof the logits",
    "margin": "smallest margin",
    "lambda_critical": "λ at which\nrank is lost",
}
_LINES: dict[str, tuple[str, dict[str, Any]]] = {
    "lambda_minority": ("minority classes collapse (11a)", {"color": "#000000", "lw": 1.4}),
    "lambda_zero": ("everything collapses (11b)", {"color": "#000000", "lw": 1.4, "ls": (0, (2.5, 1.5))}),
    "lambda_objective": ("λ of the objective", {"color": _ALARM, "lw": 1.2, "ls": (0, (6, 1.5, 1, 1.5))}),
}
_BASES = {"raw": "raw", "unit": "unit length", "centred": "centred", "classifier": "classifier rows"}
_FAMILIES = {"F1": "equal class counts", "F2": "step in class counts", "F2b": "graphs relabelled"}


def _nonempty(study: pd.DataFrame, name: str) -> None:
    if study.empty:
        raise InputError(f"study {name}: the table has no row")


def _edges(values: np.ndarray, *, log: bool) -> np.ndarray:
    """Edges of cells around ascending values, halfway between them (of their logarithms)."""
    if len(values) == 1:
        return values[0] * np.array([0.8, 1.25]) if log else values[0] + np.array([-0.5, 0.5])
    places = np.log(values) if log else values
    middle = (places[1:] + places[:-1]) / 2
    edges = np.concatenate([[2 * places[0] - middle[0]], middle, [2 * places[-1] - middle[-1]]])
    return np.exp(edges) if log else np.clip(edges, values.min(), values.max())


def _shades(count: int) -> list[Any]:
    """As many shades, from pale to dark, in which black lines stay visible."""
    import matplotlib as mpl

    colormap: Colormap = mpl.colormaps["YlGnBu"]
    return [colormap(x) for x in np.linspace(0.04, 0.62, count)] if count > 1 else [colormap(0.3)]


def phase_diagram(study: pd.DataFrame, *, output_stem: Path) -> pd.DataFrame:
    """Draw the rank of the certified optimum over (r, λ), a panel for each n_2, and the closed forms of (11) over it.

    Parameters
    ----------
    study : DataFrame
        ``theory/studies/phase.csv``.
    output_stem : Path

    Returns
    -------
    DataFrame
        The numbers drawn: the columns of the study, as far as they are drawn.

    Raises
    ------
    InputError
        If the study is empty.
    """
    _nonempty(study, "phase")
    drawn = study.drop(columns=["root_kappa_pool", "relative_gap"])
    ranks = sorted(drawn["rank"].dropna().unique())
    samples = sorted(drawn["samples_per_pair"].unique())
    with house_style():
        from matplotlib.colors import BoundaryNorm, ListedColormap
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        shades = _shades(len(ranks))
        colormap = ListedColormap(shades)
        norm = BoundaryNorm(np.arange(len(ranks) + 1) - 0.5, len(ranks)) if ranks else None
        figure, axes = panels(1, len(samples), width=2.35, height=2.6, sharey=True)
        for axis, count in zip(axes[0], samples, strict=True):
            here = drawn[drawn["samples_per_pair"] == count]
            grid = here.pivot_table(index="lambda", columns="ratio", values="rank", dropna=False)
            place = np.searchsorted(ranks, grid.to_numpy())
            cells = np.ma.masked_where(grid.isna().to_numpy(), place)
            edges = [_edges(np.asarray(v, float), log=True) for v in (grid.columns, grid.index)]
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
            axis.set_title(_per_pair(count), pad=15)
            axis.text(
                0.5, 1.015, f"(11a) right at {int(agree.sum())} of {len(here)} points", transform=axis.transAxes,
                ha="center", va="bottom", fontsize=6.8, color=REFERENCE,
            )  # fmt: skip
            axis.set_xlabel("r of the step profile")
        axes[0, 0].set_ylabel("λ")
        _plain_log_ticks(axes[0, 0])
        handles: list[Any] = [
            Patch(facecolor=shade, edgecolor="#8a8a8a", lw=0.4, label=f"rank {rank:g}")
            for shade, rank in reversed(list(zip(shades, ranks, strict=True)))
        ]
        handles += [Line2D([], [], label=label, **look) for label, look in _LINES.values()]
        legend(figure, handles, columns=4)
        save(figure, output_stem, drawn)
    return drawn


def _per_pair(count: float) -> str:
    if count == 0:
        return "no pairs"
    return "1 sample per pair" if count == 1 else f"{count:g} samples per pair"


def _plain_log_ticks(axis: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def critical_lambda(study: pd.DataFrame, *, output_stem: Path) -> pd.DataFrame:
    """Draw λ_crit over r for the three profiles beside √κ_pool and (11a), and its ratio to √κ_pool below.

    Parameters
    ----------
    study : DataFrame
        ``theory/studies/critical.csv``.
    output_stem : Path

    Returns
    -------
    DataFrame
        The numbers drawn: profile, samples_per_pair, ratio, lambda_low, lambda_high, root_kappa_pool,
        lambda_minority, heuristic (λ_crit / √κ_pool).

    Raises
    ------
    InputError
        If the study is empty.
    """
    _nonempty(study, "critical")
    drawn = study.drop(columns=["rank_above", "relative_gap", "certified"])
    middle = (drawn["lambda_low"] + drawn["lambda_high"]) / 2
    drawn["heuristic"] = (middle / drawn["root_kappa_pool"]).where(drawn["root_kappa_pool"] > 0)
    samples = sorted(drawn["samples_per_pair"].unique())
    with house_style():
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
            axes[0, j].set_title(_per_pair(count))
            axes[0, j].set_ylim(bottom=0)
            axes[1, j].set_xlabel("r")
        axes[0, 0].set_ylabel("λ at which\nfull rank is lost")
        axes[1, 0].set_ylabel("the same,\nover √κ of the pooled spectrum")
        handles = [
            Line2D(
                [], [], color=colour, marker=MARKERS[i], mec="white", mew=0.5, ls="", label=f"{profile}: by bisection"
            )
            for i, (profile, colour) in enumerate(PROFILES.items())
        ]
        handles.append(Line2D([], [], color=REFERENCE, lw=1.1, label="√κ of the pooled spectrum"))
        handles.append(Line2D([], [], color="#000000", lw=1.1, ls=(0, (2, 2)), label="step: closed form (11a)"))
        legend(figure, handles, columns=3)
        save(figure, output_stem, drawn)
    return drawn


def imbalance_ratios(study: pd.DataFrame, *, output_stem: Path) -> pd.DataFrame:
    """Draw optimum, spectral bound and ReLU optimum over r, and below the exponent γ̂ in each basis, by profile.

    Parameters
    ----------
    study : DataFrame
        ``theory/studies/ratios.csv``.
    output_stem : Path

    Returns
    -------
    DataFrame
        The numbers drawn: the rows of the study with frequencies of multiplicity one.

    Raises
    ------
    InputError
        If the study is empty.
    """
    _nonempty(study, "ratios")
    shown = study["quantity"].isin(["optimum", "relu", "bound", "gamma"]) & (study["frequency"] != "total")
    drawn = study[shown].drop(columns=["relative_gap", "reference", "variant"]).reset_index(drop=True)
    values: dict[str, tuple[str, dict[str, Any]]] = {
        "relu": ("optimum with features ≥ 0", {"color": IMBALANCED[1], "marker": "s"}),
        "optimum": ("optimum", {"color": BALANCED, "marker": "o"}),
        "bound": ("spectral bound (10)", {"color": IMBALANCED[0], "marker": "^", "ls": "--"}),
    }
    with house_style():
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
            for i, basis in enumerate(_BASES):
                rows = fitted[fitted["basis"] == basis]
                axes[1, j].errorbar(
                    rows["ratio"], rows["value"], yerr=[rows["value"] - rows["low"], rows["high"] - rows["value"]],
                    color=IMBALANCED[(i + 2) % len(IMBALANCED)], marker=MARKERS[i], ms=3.6, lw=1.2, elinewidth=0.9,
                    capsize=1.8,
                )  # fmt: skip
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
            for i, label in enumerate(_BASES.values())
        ]
        legend(figure, handles, columns=4)
        save(figure, output_stem, drawn)
    return drawn


def spectrum_families(study: pd.DataFrame, *, output_stem: Path) -> pd.DataFrame:
    """Draw the optimum's weakest directions against κ_pool in each family (claim 2).

    Families whose names differ after a hyphen only, such as F2b-1 and F2b-2, share a column.

    Parameters
    ----------
    study : DataFrame
        ``theory/studies/spectrum.csv``.
    output_stem : Path

    Returns
    -------
    DataFrame
        The numbers drawn: family, member, response, kappa_pool, value, and of each family ρ with its interval.

    Raises
    ------
    InputError
        If the study is empty.
    """
    _nonempty(study, "spectrum")
    columns: dict[str, list[str]] = {}
    for family in dict.fromkeys(study["family"]):
        columns.setdefault(family.partition("-")[0], []).append(family)
    records = []
    with house_style():
        from matplotlib.ticker import MaxNLocator

        figure, axes = panels(len(_RESPONSES), len(columns), width=2.6, height=1.5, sharex="col")
        for j, (title, families) in enumerate(columns.items()):
            for axis, response in zip(axes[:, j], _RESPONSES, strict=True):
                found = []
                for i, family in enumerate(families):
                    pairs = study.loc[study["family"] == family, ["member", "kappa_pool", response]].dropna()
                    rho, low, high = map(float, spearman_interval(*pairs[["kappa_pool", response]].to_numpy().T))
                    colour = IMBALANCED[(i if len(families) > 1 else j) % len(IMBALANCED)]
                    axis.plot(
                        pairs["kappa_pool"], pairs[response], ls="", marker=MARKERS[i % len(MARKERS)], ms=3.0,
                        mfc=colour, mec="white", mew=0.3, alpha=0.85,
                    )  # fmt: skip
                    found.append((rho, low, high))
                    records += [
                        (family, member, response, kappa, value, rho, low, high)
                        for member, kappa, value in pairs.itertuples(index=False, name=None)
                    ]
                axis.margins(y=0.16)
                axis.text(0.03, 0.97, _correlations(found), transform=axis.transAxes, va="top", fontsize=7)
                if j == 0:
                    axis.set_ylabel(_RESPONSES[response])
            said = _FAMILIES.get(title, "")
            graphs = f"{len(families)} " if len(families) > 1 else ""
            axes[0, j].set_title(f"{title}: {graphs}{said}" if said else title)
            axes[-1, j].xaxis.set_major_locator(MaxNLocator(5))
            axes[-1, j].set_xlabel("κ of the pooled spectrum")
        names = ["family", "member", "response", "kappa_pool", "value", "rho", "rho_low", "rho_high"]
        drawn = pd.DataFrame(records, columns=names)
        save(figure, output_stem, drawn)
    return drawn


def _correlations(found: Sequence[tuple[float, float, float]]) -> str:
    """ρ with its interval, or the range of ρ over several families."""
    known = [entry for entry in found if np.isfinite(entry[0])]
    if not known:
        return "ρ not defined"
    if len(found) == 1:
        rho, low, high = known[0]
        return f"ρ = {rho:.2f}" + (f"  [{low:.2f}, {high:.2f}]" if np.isfinite(low) else "")
    ends = [f"{end([rho for rho, _, _ in known]):.2f}" for end in (min, max)]
    return f"ρ = {ends[0]} in all" if ends[0] == ends[1] else f"ρ = {ends[0]} to {ends[1]}"


def tagwise_grid(study: pd.DataFrame, *, output_stem: Path) -> pd.DataFrame:
    """Draw the residual of tag-wise averaging over the anisotropies of multiplicity one and two (claim 4).

    Parameters
    ----------
    study : DataFrame
        ``theory/studies/tagwise.csv``.
    output_stem : Path

    Returns
    -------
    DataFrame
        The numbers drawn: the columns of the study.

    Raises
    ------
    InputError
        If the study is empty.
    """
    _nonempty(study, "tagwise")
    drawn = study.sort_values(["graph", "ratio", "share"], ascending=[False, False, True], ignore_index=True)
    graphs = list(dict.fromkeys(drawn["graph"]))
    top = max(float(drawn["residual"].max()), 0.02)
    levels = np.concatenate([[0.0, _EXACT], np.linspace(0, np.ceil(top * 50) / 50, 9)[1:]])
    with house_style():
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import BoundaryNorm, ListedColormap
        from matplotlib.lines import Line2D

        colormap = ListedColormap(["#ffffff", *_shades(len(levels) - 2)])
        norm = BoundaryNorm(levels, colormap.N)
        figure, axes = panels(1, len(graphs) + 1, width=2.75, height=2.45)
        plain = drawn[drawn["share"] == 0]  # no edge of any graph: in the picture of each
        for axis, graph in zip(axes[0], graphs, strict=False):
            here = pd.concat([plain[plain["graph"] != graph], drawn[drawn["graph"] == graph]])
            grid = here.assign(delta_1=here["delta_1"].round(9), delta_2=here["delta_2"].round(9)).pivot_table(
                index="delta_2", columns="delta_1", values="residual", dropna=False
            )
            edges = [_edges(np.asarray(v, float), log=False) for v in (grid.columns, grid.index)]
            axis.pcolormesh(*edges, np.ma.masked_invalid(grid.to_numpy()), cmap=colormap, norm=norm)
            axis.plot(here["delta_1"], here["delta_2"], ls="", marker=".", ms=1.6, color="#555555", clip_on=False)
            exact = here[here["residual"] < _EXACT]
            axis.plot(
                exact["delta_1"], exact["delta_2"], ls="", marker="o", ms=9, mfc="none", mec=_ALARM, mew=1.4,
                clip_on=False,
            )  # fmt: skip
            axis.set_xlabel("anisotropy δ of multiplicity one")
            axis.set_ylabel("anisotropy δ of multiplicity two")
            axis.set_title(f"pairs on a {'perfect ' * (graph == 'matching')}{graph}{' graph' * (graph != 'matching')}")
            axis.grid(visible=False)
        last = axes[0, -1]
        first = drawn[(drawn["graph"] == graphs[0])]
        handles = [Line2D([], [], ls="", marker="o", ms=8, mfc="none", mec=_ALARM, mew=1.3, label="exact")]
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
        save(figure, output_stem, drawn)
    return drawn


def _thinned(values: Sequence[float], most: int = 4) -> list[float]:
    """At most so many of the values, evenly spread, the ends among them."""
    places = np.unique(np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int))
    return [values[i] for i in places]


def synthetic_labels(study: pd.DataFrame, *, output_stem: Path) -> pd.DataFrame:
    """Draw spectra, optima and bounds of synthetic labels, from independent to strongly correlated.

    Parameters
    ----------
    study : DataFrame
        ``theory/studies/synthetic.csv``.
    output_stem : Path

    Returns
    -------
    DataFrame
        The numbers drawn: the columns of the study that are drawn.

    Raises
    ------
    InputError
        If the study is empty.
    """
    _nonempty(study, "synthetic")
    drawn = study.drop(columns=["kappa_1", "optimum", "bound", "relative_gap", "certified"])
    ratios = sorted(drawn["ratio"].unique(), reverse=True)
    lambdas = sorted(drawn["lambda"].unique())
    with house_style():
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
                "label spectrum", "rank of the optimum", "weakest direction of the logits", "spectral bound (10)",
                "law of the predictions (20)", "geometry bound (13), pairs",
            ),
            strict=True,
        ):  # fmt: skip
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
            Line2D([], [], color=IMBALANCED[j % len(IMBALANCED)], label=f"λ = {lam:.3g}")
            for j, lam in enumerate(lambdas)
        ]
        handles += [
            Line2D(
                [], [], color=BALANCED, ls="", marker=MARKERS[i % len(MARKERS)], mfc=BALANCED if i == 0 else "white",
                label=f"r = {ratio:g}",
            )
            for i, ratio in enumerate(ratios)
        ]  # fmt: skip
        handles.append(Line2D([], [], color=BALANCED, label="κ, pooled"))
        handles.append(Line2D([], [], color=IMBALANCED[3], marker="D", label="κ of pairs"))
        legend(figure, handles, columns=7)
        save(figure, output_stem, drawn)
    return drawn


def _band(axis: Axes, rows: pd.DataFrame, column: str, look: dict[str, Any]) -> None:
    """Mean over draws against the strength, and the range of the draws."""
    summary = rows.groupby("strength")[column].agg(["mean", "min", "max"])
    axis.fill_between(summary.index, summary["min"], summary["max"], color=look["color"], alpha=0.14, lw=0)
    axis.plot(summary.index, summary["mean"], ms=3.4, lw=1.2, mew=0.8, **look)
