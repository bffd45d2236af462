"""What the pooled spectrum controls (claim 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ncpipe.figures.study_marks import check_rows
from ncpipe.figures.style import IMBALANCED, MARKERS, panels
from ncpipe.statistics import spearman_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_RESPONSES = {
    "sigma_min_predictions": "weakest direction\nof the predictions",
    "sigma_min_logits": "weakest direction\nof the logits",
    "margin": "smallest margin",
    "lambda_critical": "λ at which\nrank is lost",
}

_FAMILIES = {"F1": "equal class counts", "F2": "step in class counts", "F2b": "graphs relabelled"}


def study_spectrum(study: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw the optimum's weakest directions against κ_pool in each family (claim 2).

    Families whose names differ after a hyphen only, such as F2b-1 and F2b-2, share a column.

    Parameters
    ----------
    study : DataFrame
        ``theory/studies/spectrum.csv``.

    Returns
    -------
    Figure
    DataFrame
        The numbers drawn: family, member, response, kappa_pool, value, and of each family ρ with its interval.

    Raises
    ------
    InputError
        If the study is empty.
    """
    check_rows(study, "spectrum")
    columns: dict[str, list[str]] = {}
    for family in dict.fromkeys(study["family"]):
        columns.setdefault(family.partition("-")[0], []).append(family)
    records = []
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
                    pairs["kappa_pool"],
                    pairs[response],
                    ls="",
                    marker=MARKERS[i % len(MARKERS)],
                    ms=3.0,
                    mfc=colour,
                    mec="white",
                    mew=0.3,
                    alpha=0.85,
                )
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
    return figure, drawn


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
