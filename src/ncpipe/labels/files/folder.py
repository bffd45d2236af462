"""A run's or a data set's folder: the labels in its store."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ncpipe.errors import InputError, check_choice
from ncpipe.labels.distribution import LabelDistribution


def read_folder(path: Path, *, split: str = "train") -> LabelDistribution:
    """Read the labels of one split of a run (``features.zarr``) or a data set (``images.zarr``)."""
    from ncpipe.stores.zarr import Store  # zarr takes a while to import

    check_choice("split", split, ("train", "test"))
    candidates = [path, path / "features.zarr", path / "images.zarr"]
    folder = next((c for c in candidates if (c / "zarr.json").is_file()), None)
    if folder is None:
        raise InputError(f"{path}: found neither features.zarr (a run) nor images.zarr (a data set) in this folder")
    name = f"label_set_{split}"
    store = Store(folder)
    arrays = store.static(name, "label_sets")
    label_sets = arrays["label_sets"].values
    counts = np.bincount(arrays[name].values, minlength=len(label_sets))
    return LabelDistribution.from_matrix(label_sets, counts=counts, class_names=store.attrs.get("class_names"))
