"""The fitted exponent of class frequency in the synthesis of two-label prototypes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from ncpipe.experiment.setting import Setting
from ncpipe.figures.style import ONLY_CONTROLS, REFERENCE, legend, looks, nothing_to_draw, panels, present
from ncpipe.figures.synthesis_marks import BASES, MULTIPLICITY, NO_PAIRS, draw_estimate, kind_handles, rows_of
from ncpipe.results.tables import over_seeds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FREQUENCIES = {"multiplicity_one": "n at multiplicity one", "total": "n in all"}

_GROWTH = 0.1


def exponents(synthesis: pd.DataFrame, settings: Mapping[str, Setting], *, network: str) -> tuple[Figure, pd.DataFrame]:
    """Draw the fitted exponent γ with its interval, in every basis and for both frequencies.

    Intervals of the network are Student-t over seeds, those of the optimum a bootstrap over label sets. Settings where
    γ is not identified have no mark. The shaded side, γ > 0.1, is where weights grow with frequency (claim 1b).

    Parameters
    ----------
    synthesis : DataFrame
        ``synthesis.csv``; drawn is multiplicity two.
    settings : mapping of str to Setting
    network : str

    Returns
    -------
    Figure
    DataFrame
        The numbers drawn: dataset, setting, network, basis, frequency, value, low, high, seeds.
    """
    rows = rows_of(synthesis, hypothesis="fitted", multiplicity=MULTIPLICITY)
    fitted = rows[rows["network"] == network]
    own = fitted[fitted["identified"]]
    shown = present(settings, own, controls=False)
    by = ["dataset", "setting", "network", "basis", "frequency"]
    certified = rows[rows["identified"] & (rows["network"] == "optimum")].assign(seeds=0)
    certified = certified.rename(columns={"gamma": "value", "gamma_low": "low", "gamma_high": "high"})
    drawn = pd.concat([over_seeds(own, by, value="gamma"), certified[[*by, "value", "low", "high", "seeds"]]])
    drawn = drawn[drawn["setting"].isin([s.name for s in shown])].reset_index(drop=True)
    if drawn.empty:
        return nothing_to_draw(_why_nothing(fitted), drawn)
    styles = looks(settings)
    datasets = list(dict.fromkeys(own["dataset"]))
    places = [(s, f) for s in shown for f in FREQUENCIES]
    figure, axes = panels(
        len(datasets), len(BASES), width=2.5, height=0.7 + 0.26 * len(places), sharex=True, sharey=True
    )
    for i, dataset in enumerate(datasets):
        for axis, (basis, title) in zip(axes[i], BASES.items(), strict=True):
            for y, (setting, frequency) in enumerate(places):
                here = rows_of(drawn, dataset=dataset, setting=setting.name, basis=basis, frequency=frequency)
                for point in here.to_dict("records"):
                    optimum = point["network"] == "optimum"
                    draw_estimate(
                        axis,
                        y + (0.17 if optimum else -0.17),
                        point,
                        styles[setting.name],
                        optimum=optimum,
                        flat=True,
                    )
            axis.axvline(0, color=REFERENCE, lw=0.8)
            axis.set_yticks(
                range(len(places)),
                [f"{setting.label}\n{FREQUENCIES[frequency]}" for setting, frequency in places],
            )
            axis.tick_params(axis="y", length=0, labelsize=6.5)
            axis.grid(visible=False, axis="y")
            if i == 0:
                axis.set_title(title)
            if i == len(datasets) - 1:
                axis.set_xlabel("exponent γ")
        axes[i, 0].set_ylabel(dataset)
    axes[0, 0].invert_yaxis()
    # The threshold is always in sight, and the shade does not stretch the axis any further.
    left, right = axes[0, 0].get_xlim()
    right = max(right, 1.5 * _GROWTH)
    for axis in axes.flat:
        axis.axvspan(_GROWTH, right, color="#f3efe2", zorder=0, lw=0)
    axes[0, 0].set_xlim(left, right)
    legend(figure, kind_handles(network))
    return figure, drawn


def _why_nothing(fitted: pd.DataFrame) -> str:
    """Why a network has no exponent to draw."""
    if fitted.empty:
        return NO_PAIRS
    if fitted["identified"].any():
        return ONLY_CONTROLS
    reasons = ", ".join(dict.fromkeys(reason for reason in fitted["reason"] if reason))
    return f"γ is not identified in any setting: {reasons}"
