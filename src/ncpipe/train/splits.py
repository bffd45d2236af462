"""One split of a data set on the device: images as they are stored, targets, labels, sampling weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ncpipe.errors import InputError
from ncpipe.labels.names import LabelSet, parse_label_counts
from ncpipe.results.datasets import DataSplit, open_dataset, select
from ncpipe.results.sampling_file import check_sampling, read_sampling


class Split:
    """One split on the device: images uint8 (N, H, W, C), targets (N, K), labels bool (N, K), sampling weights (N,)."""

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        target: str,
        device: torch.device,
        weights: np.ndarray | None = None,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        self.images = torch.from_numpy(images).to(device)
        self.labels = torch.from_numpy(labels.astype(bool)).to(device)
        targets = labels / labels.sum(1, keepdims=True) if target == "normalised" else labels
        targets = targets if class_weights is None else targets * np.array(class_weights)
        self.targets = torch.from_numpy(targets.astype(np.float32)).to(device)
        self.weights = None if weights is None else torch.from_numpy(weights).to(device)

    def __len__(self) -> int:
        return len(self.labels)


def pixels(images: Tensor) -> Tensor:
    """Turn uint8 images (B, H, W, C) into float32 in [0, 1], (B, C, H, W) in the memory layout channels_last."""
    # By a tensor on the device: CUDA multiplies by the reciprocal of a plain number, and loses a bit of the quotient.
    return torch.div(images, torch.full((), 255.0, device=images.device)).permute(0, 3, 1, 2)


def load_split(
    folder: Path,
    split: Literal["train", "test"],
    settings: Mapping[str, Any],
    device: torch.device,
    factors: Mapping[LabelSet, float] | None = None,
) -> tuple[Split, DataSplit]:
    """Load one split of a data set, as it is stored and on the device.

    The training split is the setting's selection, weighted with the `factors` of its label sets where there are some;
    the test split is whole.
    """
    data = open_dataset(folder, split)
    if split == "train":
        counts = parse_label_counts(settings["counts"])
        chosen = select(data.label_set, data.label_sets, counts)
        data = replace(data, images=data.images[chosen], label_set=data.label_set[chosen])
    labels = data.label_sets[data.label_set]
    weights = None if factors is None else label_set_weight(data.label_sets, factors)[data.label_set]
    objective = settings["objective"]
    return Split(data.images, labels, objective["target"], device, weights, objective.get("class_weights")), data


def label_set_weight(label_sets: np.ndarray, factors: Mapping[LabelSet, float]) -> np.ndarray:
    """ω_S of each multi-hot row, shape (S,); NaN where the setting has no sample of it."""
    return np.array([factors.get(tuple(np.flatnonzero(row).tolist()), np.nan) for row in label_sets])


def read_factors(path: Path | None, settings: Mapping[str, Any]) -> dict[LabelSet, float] | None:
    """Read the factors ω_S of a setting with sampling weights; None for one without.

    Raises
    ------
    InputError
        If the weights are missing, or not the ones that the settings ask for.
    """
    wanted = settings.get("sampling")
    if wanted is None:
        return None
    if path is None:
        raise InputError(f"sampling {wanted['method']}: its weights are missing; make them with `snakemake theory`")
    found = read_sampling(path)
    counts = parse_label_counts(settings["counts"])
    check_sampling(path, found, counts, settings["objective"]["target"])
    if found.method != wanted["method"] or wanted["cap"] not in (None, found.cap):
        raise InputError(
            f"{path}: found weights by {found.method} with cap {found.cap:g}; the setting asks for {wanted['method']}"
            + ("" if wanted["cap"] is None else f" with cap {wanted['cap']:g}")
        )
    return dict(zip(found.natural.label_sets, found.factors.tolist(), strict=True))
