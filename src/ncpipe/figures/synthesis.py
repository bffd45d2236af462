"""How prototypes of two labels follow from those of one: residuals of the hypotheses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ncpipe.experiment.setting import Setting
from ncpipe.figures.style import (
    ONLY_CONTROLS,
    legend,
    log_axis,
    looks,
    nothing_to_draw,
    panels,
    present,
    setting_handles,
)
from ncpipe.figures.synthesis_marks import BASES, MULTIPLICITY, NO_PAIRS, draw_estimate, kind_handles, rows_of
from ncpipe.results.tables import over_seeds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HYPOTHESES = {
    "free": "free",
    "shared": "shared",
    "fitted": "fitted γ",
    "uniform": "uniform (γ = 0)",
    "proportional": "proportional (γ = 1)",
    "inverse": "inverse (γ = −1)",
    "permuted": "permuted counts",
}

_FLOOR = 1e-4  # residuals below it are rounding, not fit: drawn on the lower edge, as the caption says


def synthesis(synthesis: pd.DataFrame, settings: Mapping[str, Setting], *, network: str) -> tuple[Figure, pd.DataFrame]:
    """Draw the relative residual of every hypothesis in every basis, networks beside the certified optimum.

    Parameters
    ----------
    synthesis : DataFrame
        ``synthesis.csv``; drawn are multiplicity two and the frequency at multiplicity one.
    settings : mapping of str to Setting
    network : str

    Returns
    -------
    Figure
    DataFrame
        The numbers drawn: dataset, setting, network ("optimum" included), basis, hypothesis, value (geometric mean),
        low, high, seeds.
    """
    rows = rows_of(synthesis, frequency="multiplicity_one", multiplicity=MULTIPLICITY)
    rows = rows[rows["network"].isin([network, "optimum"])]
    own = rows[rows["network"] == network]
    shown = present(settings, own, controls=False)
    rows = rows[rows["setting"].isin([s.name for s in shown])]
    by = ["dataset", "setting", "network", "basis", "hypothesis"]
    drawn = over_seeds(rows, by, value="residual", log=True)
    if drawn.empty:
        return nothing_to_draw(ONLY_CONTROLS if len(own) else NO_PAIRS, drawn)
    styles = looks(settings)
    datasets = list(dict.fromkeys(own["dataset"]))
    steps = np.linspace(-0.3, 0.3, len(shown)) if len(shown) > 1 else np.zeros(1)
    figure, axes = panels(len(datasets), len(BASES), width=2.6, height=2.2, sharex=True, sharey="row")
    for i, dataset in enumerate(datasets):
        for axis, (basis, title) in zip(axes[i], BASES.items(), strict=True):
            for setting, step in zip(shown, steps, strict=True):
                for x, hypothesis in enumerate(HYPOTHESES):
                    here = rows_of(drawn, dataset=dataset, setting=setting.name, basis=basis, hypothesis=hypothesis)
                    here = here.assign(**here[["value", "low", "high"]].clip(lower=_FLOOR))
                    for point in here.to_dict("records"):
                        draw_estimate(
                            axis, x + step, point, styles[setting.name], optimum=point["network"] == "optimum"
                        )
            log_axis(axis, rows_of(drawn, dataset=dataset, basis=basis)["value"])
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
    legend(figure, [*setting_handles(shown, styles), *kind_handles(network)])
    return figure, drawn
