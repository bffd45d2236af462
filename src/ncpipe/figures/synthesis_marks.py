"""What the figures on synthesis share: their bases, and how an estimate is drawn."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ncpipe.figures.style import REFERENCE, Look

BASES = {"raw": "raw", "unit": "unit length", "centred": "centred", "classifier": "classifier rows"}

MULTIPLICITY = 2
NO_PAIRS = "no prototype of two labels whose parts have one: nothing to synthesise"


def rows_of(frame: pd.DataFrame, **wanted: object) -> pd.DataFrame:
    """Rows whose columns equal what is wanted; may be none."""
    rows = np.ones(len(frame), dtype=bool)
    for column, value in wanted.items():
        rows &= (frame[column] == value).to_numpy()
    return frame[rows]


def draw_estimate(axis: object, place: float, point: Mapping, look: Look, *, optimum: bool, flat: bool = False) -> None:
    """One estimate with its interval: filled for a network, hollow for the optimum; `flat` lays it on its side."""
    ends, middle = [point["low"], point["high"]], point["value"]
    line, mark = ([ends, [place] * 2], [middle, place]) if flat else ([[place] * 2, ends], [place, middle])
    axis.plot(*line, color=look.colour, lw=1.2, alpha=0.75)  # type: ignore[attr-defined]
    face = "white" if optimum else look.colour
    axis.plot(  # type: ignore[attr-defined]
        *mark, ls="", marker="D" if optimum else look.marker, ms=3.6, mfc=face, mec=look.colour, mew=1.0
    )


def kind_handles(network: str) -> list:
    """Legend entries of the network and of the certified optimum."""
    from matplotlib.lines import Line2D

    hollow = {"marker": "D", "mfc": "white", "mec": REFERENCE, "ls": "", "ms": 4}
    filled = {"marker": "o", "mfc": REFERENCE, "mec": REFERENCE, "ls": "", "ms": 4}
    return [Line2D([], [], label=network, **filled), Line2D([], [], label="certified optimum", **hollow)]  # type: ignore[arg-type]
