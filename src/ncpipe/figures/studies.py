"""The studies behind claims 2 and 4: families of label distributions, solved and certified, without images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from ncpipe.errors import InputError
from ncpipe.figures.style import BALANCED, IMBALANCED, MARKERS, house_style, legend, panels, save
from ncpipe.statistics import spearman_interval

_COUNTEREXAMPLE: dict[str, Any] = {"ls": "", "marker": "o", "ms": 10, "mfc": "none", "mec": "#c0392b", "mew": 1.3}
_RESPONSES = {"sigma_min_logits": "smallest singular value\nof the logits", "margin": "weakest margin"}


def spectrum_families(study: pd.DataFrame, *, output_stem: Path) -> pd.DataFrame:
    """Draw the optimum's weakest direction, and its margin, against κ_pool in each family (claim 2).

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
    if study.empty:
        raise InputError("spectrum families: the study has no member")
    families = list(dict.fromkeys(study["family"]))
    records = []
    with house_style():
        figure, axes = panels(len(_RESPONSES), len(families), width=2.6, height=2.0, sharex="col", sharey="row")
        for j, family in enumerate(families):
            members = study[study["family"] == family]
            for axis, (response, label) in zip(axes[:, j], _RESPONSES.items(), strict=True):
                pairs = members[["member", "kappa_pool", response]].dropna()
                rho, low, high = map(float, spearman_interval(pairs["kappa_pool"], pairs[response]))
                axis.plot(
                    pairs["kappa_pool"], pairs[response], ls="", marker=MARKERS[j % len(MARKERS)], ms=3.4,
                    mfc=IMBALANCED[j % len(IMBALANCED)], mec="white", mew=0.4, alpha=0.85,
                )  # fmt: skip
                axis.text(
                    0.03,
                    0.97,
                    f"ρ = {rho:.2f}  [{low:.2f}, {high:.2f}]",
                    transform=axis.transAxes,
                    va="top",
                    fontsize=7,
                )
                if j == 0:
                    axis.set_ylabel(label)
                records += [
                    (family, member, response, kappa, value, rho, low, high)
                    for member, kappa, value in pairs.itertuples(index=False, name=None)
                ]
            axes[0, j].set_title(f"family {family}")
            axes[-1, j].set_xlabel("κ of the pooled spectrum")
        columns = ["family", "member", "response", "kappa_pool", "value", "rho", "rho_low", "rho_high"]
        drawn = pd.DataFrame(records, columns=columns)
        save(figure, output_stem, drawn)
    return drawn


def tagwise_grid(study: pd.DataFrame, *, output_stem: Path) -> pd.DataFrame:
    """Draw the residual of tag-wise averaging over the grid of anisotropies (claim 4).

    Parameters
    ----------
    study : DataFrame
        ``theory/studies/tagwise.csv``.
    output_stem : Path

    Returns
    -------
    DataFrame
        The numbers drawn: delta_1, delta_2, ratio, matching_share, residual, certified_gap.

    Raises
    ------
    InputError
        If the study is empty.
    """
    if study.empty:
        raise InputError("tag-wise grid: the study has no point")
    columns = ["delta_1", "delta_2", "ratio", "matching_share", "residual", "certified_gap"]
    drawn = study[columns].sort_values(["ratio", "matching_share"], ascending=[False, True], ignore_index=True)
    with house_style():
        from matplotlib.lines import Line2D

        figure, axes = panels(1, 2, width=3.4, height=2.4, sharey=True)
        handles = []
        for i, (ratio, rows) in enumerate(drawn.groupby("ratio", sort=False)):
            colour = BALANCED if ratio == 1 else IMBALANCED[(i - 1) % len(IMBALANCED)]
            marker = MARKERS[i % len(MARKERS)]
            for axis, predictor in zip(axes[0], ("matching_share", "delta_2"), strict=True):
                axis.plot(rows[predictor], rows["residual"], color=colour, marker=marker, clip_on=False)
            handles.append(Line2D([], [], color=colour, marker=marker, label=f"step r = {ratio:g}"))
        zero = drawn[(drawn["residual"] < 1e-3) & (drawn[["delta_1", "delta_2"]].max(axis=1) > 1e-9)]
        for axis, predictor in zip(axes[0], ("matching_share", "delta_2"), strict=True):
            axis.plot(
                zero[predictor],
                zero["residual"],
                ls="",
                marker="o",
                ms=11,
                mfc="none",
                mec="#c0392b",
                mew=1.3,
                clip_on=False,
            )
            axis.set_ylim(bottom=0)
        if len(zero):
            handles.append(
                Line2D([], [], ls="", marker="o", ms=9, mfc="none", mec="#c0392b", label="exact, yet anisotropic")
            )
        axes[0, 0].set_xlabel("share of a perfect matching among the pairs")
        axes[0, 1].set_xlabel("anisotropy δ of multiplicity two")
        axes[0, 0].set_ylabel("relative residual of\ntag-wise averaging")
        legend(figure, handles)
        save(figure, output_stem, drawn)
    return drawn
