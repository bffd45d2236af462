"""Reading a finished data set, and the samples of it that a setting uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ncpipe.errors import InputError, StoreError
from ncpipe.labels.names import LabelSet, label_set_name
from ncpipe.stores.files import read_json
from ncpipe.stores.zarr import Store

Split = Literal["train", "test"]


@dataclass(frozen=True, eq=False)
class DataSplit:
    """One split of a data set, checked against its digests.

    Parameters
    ----------
    images : ndarray, shape (N, H, W, C), uint8
    label_set : ndarray, shape (N,), int32
        Row of each sample in `label_sets`.
    label_sets : ndarray, shape (S, K), uint8
        Multi-hot, canonical order.
    base_index : ndarray, shape (N, 4), int32
        See `compose.Composed`.
    class_names : tuple of str
    store_digest : str
        Of the whole data set, as in its manifest.
    """

    images: np.ndarray
    label_set: np.ndarray
    label_sets: np.ndarray
    base_index: np.ndarray
    class_names: tuple[str, ...]
    store_digest: str


def dataset_store(folder: Path) -> Store:
    """Open the image store of the data set in `folder`, having checked that it is the one its manifest describes.

    Raises
    ------
    StoreError
        If manifest or store is missing or damaged, or the one does not belong to the other.
    """
    manifest = read_json(folder / "manifest.json")
    store = Store(folder / "images.zarr")
    if manifest.get("store_digest") != store.digest():
        raise StoreError(
            f"{store.path}: found digest {store.digest()}; its manifest allows {manifest.get('store_digest')} only: "
            "make the data set again"
        )
    return store


def open_dataset(folder: Path, split: Split) -> DataSplit:
    """Read one split of the data set in `folder`.

    Raises
    ------
    StoreError
        See `dataset_store`; also if an array of the split is damaged.
    """
    store = dataset_store(folder)
    arrays = store.static(f"images_{split}", f"label_set_{split}", f"base_index_{split}", "label_sets")
    return DataSplit(
        images=arrays[f"images_{split}"].values,
        label_set=arrays[f"label_set_{split}"].values,
        label_sets=arrays["label_sets"].values,
        base_index=arrays[f"base_index_{split}"].values,
        class_names=tuple(store.attrs["class_names"]),
        store_digest=store.digest(),
    )


def select(label_set_index: np.ndarray, label_sets: np.ndarray, counts: Mapping[LabelSet, int]) -> np.ndarray:
    """Positions of the first n_S samples of each label set, in the order of `label_sets`: settings are nested.

    Parameters
    ----------
    label_set_index : ndarray, shape (N,)
        Row of each sample in `label_sets`.
    label_sets : ndarray, shape (S, K)
        Multi-hot.
    counts : mapping of tuple of int to int
        n_S; label sets that are not named get none.

    Returns
    -------
    ndarray, shape (Σ n_S,), int64

    Raises
    ------
    InputError
        If a label set has fewer samples than asked for, or a count is negative.
    """
    rows = {tuple(np.flatnonzero(row).tolist()): s for s, row in enumerate(label_sets)}
    members = [np.flatnonzero(label_set_index == s) for s in range(len(label_sets))]
    wanted = [0] * len(label_sets)
    for label_set, count in counts.items():
        key = tuple(sorted(label_set))
        stored = len(members[rows[key]]) if key in rows else 0
        if not 0 <= count <= stored:
            raise InputError(
                f"label set {label_set_name(key)}: found count {count}; allowed are 0 to {stored}, the samples stored"
            )
        if count:
            wanted[rows[key]] = count
    return np.concatenate([positions[:count] for positions, count in zip(members, wanted, strict=True)])
