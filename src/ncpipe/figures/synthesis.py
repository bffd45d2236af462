"""How prototypes of two labels follow from those of one: residuals of the hypotheses, and the fitted exponent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from ncpipe.experiment.setting import Setting
from ncpipe.figures.style import (
    REFERENCE,
    Look,
    house_style,
    legend,
    log_axis,
    looks,
    note,
    panels,
    present,
    save,
    setting_handles,
)
from ncpipe.results.tables import over_seeds, select

BASES = {"raw": "raw", "unit": "unit length", "centred": "centred", "classifier": "classifier rows"}
HYPOTHESES = {
    "free": "free", "shared": "shared", "fitted": "fitted γ", "uniform": "uniform (γ = 0)",
    "proportional": "proportional (γ = 1)", "inverse": "inverse (γ = −1)", "permuted": "permuted counts",
}  # fmt: skip
FREQUENCIES = {"multiplicity_one": "n at multiplicity one", "total": "n in all"}
_MULTIPLICITY = 2
_FLOOR = 1e-4  # residuals below it are rounding, not fit: drawn on the lower edge, as the caption says


def residuals(
    synthesis: pd.DataFrame, settings: Mapping[str, Setting], *, network: str, output_stem: Path
) -> pd.DataFrame:
    """Draw the relative residual of every hypothesis in every basis, networks beside the certified optimum.

    Parameters
    ----------
    synthesis : DataFrame
        ``synthesis.csv``; drawn are multiplicity two and the frequency at multiplicity one.
    settings : mapping of str to Setting
    network : str
    output_stem : Path

    Returns
    -------
    DataFrame
        The numbers drawn: dataset, setting, network ("optimum" included), basis, hypothesis, value (geometric mean),
        low, high, seeds.

    Raises
    ------
    InputError
        If the table has no residual of this network.
    """
    rows = select(
        synthesis, "synthesis residuals", network=[network, "optimum"], frequency="multiplicity_one",
        multiplicity=_MULTIPLICITY,
    )  # fmt: skip
    own = select(rows, "synthesis residuals", network=network)
    shown = present(settings, own, controls=False)
    rows = select(rows, "synthesis residuals", setting=[s.name for s in shown])
    by = ["dataset", "setting", "network", "basis", "hypothesis"]
    drawn = over_seeds(rows, by, value="residual", log=True)
    styles = looks(settings)
    datasets = list(dict.fromkeys(own["dataset"]))
    steps = np.linspace(-0.3, 0.3, len(shown)) if len(shown) > 1 else np.zeros(1)
    with house_style():
        figure, axes = panels(len(datasets), len(BASES), width=2.6, height=2.2, sharex=True, sharey="row")
        for i, dataset in enumerate(datasets):
            for axis, (basis, title) in zip(axes[i], BASES.items(), strict=True):
                for setting, step in zip(shown, steps, strict=True):
                    for x, hypothesis in enumerate(HYPOTHESES):
                        here = _rows(drawn, dataset=dataset, setting=setting.name, basis=basis, hypothesis=hypothesis)
                        here = here.assign(**here[["value", "low", "high"]].clip(lower=_FLOOR))
                        for point in here.to_dict("records"):
                            _point(axis, x + step, point, styles[setting.name], optimum=point["network"] == "optimum")
                log_axis(axis, _rows(drawn, dataset=dataset, basis=basis)["value"])
                axis.set_xticks(
                    range(len(HYPOTHESES)), HYPOTHESES.values(), rotation=40, ha="right", rotation_mode="anchor"
                )
                axis.tick_params(axis="x", length=0)
                axis.grid(visible=False, axis="x")
                for x in np.arange(len(HYPOTHESES) - 1) + 0.5:
                    axis.axvline(x, color="#efefef", lw=0.7, zorder=0)
                if i == 0:
                    axis.set_title(title)
            axes[i, 0].set_ylabel(f"{dataset}\nrelative residual")
        legend(figure, [*setting_handles(shown, styles), *_kinds(network)])
        save(figure, output_stem, drawn)
    return drawn


def exponents(
    synthesis: pd.DataFrame, settings: Mapping[str, Setting], *, network: str, output_stem: Path
) -> pd.DataFrame:
    """Draw the fitted exponent γ with its interval, in every basis and for both frequencies.

    Intervals of the network are Student-t over seeds, those of the optimum a bootstrap over label sets. Settings where
    γ is not identified have no mark. The shaded side, γ > 0.1, is where weights grow with frequency (claim 1b).

    Parameters
    ----------
    synthesis : DataFrame
        ``synthesis.csv``; drawn is multiplicity two.
    settings : mapping of str to Setting
    network : str
    output_stem : Path

    Returns
    -------
    DataFrame
        The numbers drawn: dataset, setting, network, basis, frequency, value, low, high, seeds.

    Raises
    ------
    InputError
        If the table has no fit of this network. That γ is not identified anywhere is a result, and is drawn as one.
    """
    rows = select(synthesis, "fitted exponents", hypothesis="fitted", multiplicity=_MULTIPLICITY)
    own = select(rows, "fitted exponents", network=network)
    own = own[own["identified"]]
    shown = present(settings, own, controls=False)
    by = ["dataset", "setting", "network", "basis", "frequency"]
    certified = rows[rows["identified"] & (rows["network"] == "optimum")].assign(seeds=0)
    certified = certified.rename(columns={"gamma": "value", "gamma_low": "low", "gamma_high": "high"})
    drawn = pd.concat([over_seeds(own, by, value="gamma"), certified[[*by, "value", "low", "high", "seeds"]]])
    drawn = drawn[drawn["setting"].isin([s.name for s in shown])].reset_index(drop=True)
    if drawn.empty:
        return _nothing_identified(rows[rows["network"] == network], drawn, output_stem)
    styles = looks(settings)
    datasets = list(dict.fromkeys(own["dataset"]))
    places = [(s, f) for s in shown for f in FREQUENCIES]
    with house_style():
        figure, axes = panels(
            len(datasets), len(BASES), width=2.5, height=0.7 + 0.26 * len(places), sharex=True, sharey=True
        )
        for i, dataset in enumerate(datasets):
            for axis, (basis, title) in zip(axes[i], BASES.items(), strict=True):
                for y, (setting, frequency) in enumerate(places):
                    here = _rows(drawn, dataset=dataset, setting=setting.name, basis=basis, frequency=frequency)
                    for point in here.to_dict("records"):
                        optimum = point["network"] == "optimum"
                        _point(
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
        legend(figure, _kinds(network))
        save(figure, output_stem, drawn)
    return drawn


_GROWTH = 0.1


def _nothing_identified(rows: pd.DataFrame, drawn: pd.DataFrame, output_stem: Path) -> pd.DataFrame:
    reasons = ", ".join(dict.fromkeys(reason for reason in rows["reason"] if reason))
    with house_style():
        figure, axes = panels(1, 1, width=5.0, height=1.2)
        note(axes[0, 0], f"γ is not identified in any setting: {reasons}")
        axes[0, 0].set_axis_off()
        save(figure, output_stem, drawn)
    return drawn


def _rows(frame: pd.DataFrame, **wanted: str) -> pd.DataFrame:
    rows = np.ones(len(frame), dtype=bool)
    for column, value in wanted.items():
        rows &= (frame[column] == value).to_numpy()
    return frame[rows]


def _point(axis: object, place: float, point: Mapping, look: Look, *, optimum: bool, flat: bool = False) -> None:
    """One estimate with its interval: filled for a network, hollow for the optimum; `flat` lays it on its side."""
    ends, middle = [point["low"], point["high"]], point["value"]
    line, mark = ([ends, [place] * 2], [middle, place]) if flat else ([[place] * 2, ends], [place, middle])
    axis.plot(*line, color=look.colour, lw=1.2, alpha=0.75)  # type: ignore[attr-defined]
    face = "white" if optimum else look.colour
    axis.plot(  # type: ignore[attr-defined]
        *mark, ls="", marker="D" if optimum else look.marker, ms=3.6, mfc=face, mec=look.colour, mew=1.0
    )


def _kinds(network: str) -> list:
    from matplotlib.lines import Line2D

    hollow = {"marker": "D", "mfc": "white", "mec": REFERENCE, "ls": "", "ms": 4}
    filled = {"marker": "o", "mfc": REFERENCE, "mec": REFERENCE, "ls": "", "ms": 4}
    return [Line2D([], [], label=network, **filled), Line2D([], [], label="certified optimum", **hollow)]  # type: ignore[arg-type]
