"""The theory stage's answer to a setting's ``sampling``: weights over its label sets, known before any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ncpipe.labels.distribution import LabelDistribution, Target
from ncpipe.labels.names import parse_label_counts
from ncpipe.labels.sampling import Method, sampling_weights
from ncpipe.results.sampling_file import write_sampling


def write_sampling_weights(
    counts: Mapping[str, float],
    class_names: Sequence[str],
    target: Target,
    path: Path,
    *,
    method: Method,
    cap: float | None,
) -> None:
    """Compute the weights of ``{"0": 140, ..., "8+9": 20}`` and write them.

    Raises
    ------
    InputError
        If the counts are not a label distribution.
    """
    distribution = LabelDistribution.from_counts(parse_label_counts(counts), len(class_names), class_names=class_names)
    write_sampling(path, sampling_weights(distribution, target, method=method, cap=cap))
