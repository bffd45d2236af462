"""What the figures of studies share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ncpipe.errors import InputError

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

ALARM = "#c0392b"


def check_rows(study: pd.DataFrame, name: str) -> None:
    """Refuse a study without rows (InputError)."""
    if study.empty:
        raise InputError(f"study {name}: the table has no row")


def cell_edges(values: np.ndarray, *, log: bool) -> np.ndarray:
    """Edges of cells around ascending values, halfway between them (of their logarithms)."""
    if len(values) == 1:
        return values[0] * np.array([0.8, 1.25]) if log else values[0] + np.array([-0.5, 0.5])
    places = np.log(values) if log else values
    middle = (places[1:] + places[:-1]) / 2
    edges = np.concatenate([[2 * places[0] - middle[0]], middle, [2 * places[-1] - middle[-1]]])
    return np.exp(edges) if log else np.clip(edges, values.min(), values.max())


def shades(count: int) -> list[Any]:
    """As many shades, from pale to dark, in which black lines stay visible."""
    import matplotlib as mpl

    colormap: Colormap = mpl.colormaps["YlGnBu"]
    return [colormap(x) for x in np.linspace(0.04, 0.62, count)] if count > 1 else [colormap(0.3)]


def per_pair(count: float) -> str:
    """Title of a panel: how many samples each pair of classes has."""
    if count == 0:
        return "no pairs"
    return "1 sample per pair" if count == 1 else f"{count:g} samples per pair"
