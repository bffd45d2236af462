"""Sampling weights over label sets as the theory stage writes them and the other stages use them: theory.md (19).

Label set S is sampled with probability q_S instead of its share w_S: the loss and the feature penalty of each of its
samples are multiplied by ω_S = q_S / w_S, whose mean over samples is 1, and training minimises (7) with q_S for w_S.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ncpipe.errors import InputError, StoreError
from ncpipe.labels import LabelDistribution, Target
from ncpipe.naming import LabelSet, label_set_name
from ncpipe.stores import read_json, write_result


@dataclass(frozen=True, eq=False)
class Sampling:
    """Weights over the label sets of a setting, and what they do to its weakest contrast.

    Parameters
    ----------
    natural : LabelDistribution
        The label sets with the samples that carry them.
    weights : ndarray, shape (S,)
        q_S > 0, summing to 1.
    method : {"class_balanced", "effective_number", "max_kappa"}
    target : {"normalised", "raw"}
        Of the contrasts.
    cap : float
        ρ: every q_S lies between w_S / ρ and ρ w_S.
    kappa : mapping of str to float
        κ_pool of ``natural`` shares and under each method: ``class_balanced``, ``effective_number``, ``max_kappa`` (the
        best within the cap).
    upper_bound : float
        No weights within the cap, with the share of each multiplicity kept, have a larger κ_pool.
    """

    natural: LabelDistribution
    weights: np.ndarray
    method: str
    target: Target
    cap: float
    kappa: Mapping[str, float]
    upper_bound: float

    @property
    def factors(self) -> np.ndarray:
        """ω_S = q_S / w_S, shape (S,)."""
        return self.weights / self.natural.weights

    @property
    def distribution(self) -> LabelDistribution:
        """The distribution of as many samples whose shares are q_S: what theory is about."""
        return resampled(self.natural, self.weights)


def resampled(distribution: LabelDistribution, weights: np.ndarray) -> LabelDistribution:
    """The distribution of the same number of samples with other weights over its label sets."""
    return LabelDistribution(
        distribution.indicator,
        weights * (distribution.samples / weights.sum()),
        distribution.class_names,
        distribution.unlabelled,
    )


def write_sampling(path: Path, sampling: Sampling) -> None:
    """Write the weights; equal input gives equal bytes."""
    natural = sampling.natural
    content = {
        "method": sampling.method,
        "target": sampling.target,
        "cap": sampling.cap,
        "kappa": dict(sampling.kappa),
        "upper_bound": sampling.upper_bound,
        "classes": natural.classes,
        "class_names": list(natural.class_names),
        "label_sets": [list(s) for s in natural.label_sets],
        "counts": natural.counts.tolist(),
        "weights": sampling.weights.tolist(),
    }
    write_result(path, content)


def read_sampling(path: Path) -> Sampling:
    """Read what `write_sampling` wrote.

    Raises
    ------
    StoreError
        If the file is missing, damaged, or lacks something.
    """
    content: dict[str, Any] = read_json(path)
    try:
        counts = {tuple(s): n for s, n in zip(content["label_sets"], content["counts"], strict=True)}
        natural = LabelDistribution.from_counts(counts, content["classes"], class_names=content["class_names"])
        weights = np.asarray(content["weights"], dtype=np.float64)
        if weights.shape != natural.counts.shape or not (weights > 0).all():
            raise StoreError(f"{path}: damaged, it needs a weight > 0 for each of {len(natural.counts)} label sets")
        return Sampling(
            natural, weights, content["method"], content["target"], content["cap"], content["kappa"],
            content["upper_bound"],
        )  # fmt: skip
    except KeyError as error:
        raise StoreError(f"{path}: damaged, it lacks {error}") from error


def check_sampling(path: Path, sampling: Sampling, counts: Mapping[LabelSet, float], target: Target) -> None:
    """Raise InputError unless the weights at `path` are those of label sets with these counts, and of this target."""
    theirs = sampling.natural.as_counts()
    odd = sorted(s for s in {*theirs, *counts} if theirs.get(s, 0) != counts.get(s, 0))
    if odd:
        raise InputError(
            f"{path}: is about other labels: label set {label_set_name(odd[0], sampling.natural.class_names)} has "
            f"{theirs.get(odd[0], 0):g} samples there and {counts.get(odd[0], 0):g} here"
        )
    if sampling.target != target:
        raise InputError(f"{path}: is about {sampling.target} targets; the objective has {target} ones")
