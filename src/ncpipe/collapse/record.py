"""Metrics as the collapse stage stores them: arrays over epochs, splits, variants, multiplicities; and table rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from ncpipe.geometry.metrics import VARIANTS
from ncpipe.geometry.record import QUANTITIES, SPLITS, Record
from ncpipe.stores.zarr import Array


def metric_arrays(record: Record, epochs: Sequence[int], multiplicities: Sequence[int]) -> dict[str, Array]:
    """All metrics of a run as arrays over the coordinates, NaN where there is no value."""
    along = coordinates(epochs, multiplicities)
    arrays = {}
    for name, quantity in QUANTITIES.items():
        known = record.known.get(name, {})
        flat = [known.get(key, np.nan) for key in product(*(along[d] for d in quantity.dims))]
        shape = tuple(len(along[d]) for d in quantity.dims)
        arrays[name] = Array(quantity.dims, np.array(flat).reshape(shape), quantity.long_name)
    return arrays


def coordinates(epochs: Sequence[int], multiplicities: Sequence[int]) -> dict[str, Sequence[Any]]:
    """Coordinates of every dimension that a metric can have."""
    return {"epoch": epochs, "split": SPLITS, "variant": VARIANTS, "multiplicity": multiplicities}


def flatten(
    arrays: Mapping[str, np.ndarray], epochs: Sequence[int], multiplicities: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Rows (epoch, split, metric, variant, multiplicity, value) of stored metrics.

    A metric without epochs belongs to the last one, one without splits to ``train``. Multiplicities that a metric
    does not speak of get no row; values that are not defined get one, with NaN.
    """
    along = coordinates(epochs, multiplicities)
    default = {"epoch": epochs[-1], "split": SPLITS[0], "variant": "", "multiplicity": ""}
    for name, quantity in QUANTITIES.items():
        keys = product(*(along[d] for d in quantity.dims))
        for key, value in zip(keys, np.ravel(arrays[name]).tolist(), strict=True):
            place = {**default, **dict(zip(quantity.dims, key, strict=True))}
            if place["multiplicity"] == "" or place["multiplicity"] >= quantity.smallest:
                yield {**place, "metric": name, "value": value}
