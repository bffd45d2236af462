"""Sampling weights over label sets as the theory stage writes them and the other stages use them: theory.md (19).

Label set S is sampled with probability q_S instead of its share w_S: the loss and the feature penalty of each of its
samples are multiplied by ω_S = q_S / w_S, whose mean over samples is 1, and training minimises (7) with q_S for w_S.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ncpipe.errors import InputError, StoreError
from ncpipe.labels.distribution import LabelDistribution, Target
from ncpipe.labels.names import LabelSet, label_set_name
from ncpipe.labels.sampling import Sampling
from ncpipe.stores.files import read_json, write_result


def write_sampling(path: Path, sampling: Sampling) -> None:
    """Write the weights; equal input gives equal bytes."""
    content = {
        **sampling.natural.to_json(),
        "method": sampling.method,
        "target": sampling.target,
        "cap": sampling.cap,
        "kappa": dict(sampling.kappa),
        "upper_bound": sampling.upper_bound,
        "weights": sampling.weights.tolist(),
    }
    del content["unlabelled"]
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
        natural = LabelDistribution.from_json(content)
        weights = np.asarray(content["weights"], dtype=np.float64)
        if weights.shape != natural.counts.shape or not (weights > 0).all():
            raise StoreError(f"{path}: damaged, it needs a weight > 0 for each of {len(natural.counts)} label sets")
        keys = ("method", "target", "cap", "kappa", "upper_bound")
        return Sampling(natural, weights, **{key: content[key] for key in keys})
    except KeyError as error:
        raise StoreError(f"{path}: damaged, it lacks {error}") from error
    except InputError as error:
        raise StoreError(f"{path}: damaged, {error}") from error


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
