"""The theory stage's answer to a setting's ``sampling``: weights over its label sets, known before any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from ncpipe.labels import LabelDistribution, Target
from ncpipe.naming import parse_label_set
from ncpipe.sampling import Sampling, resampled, write_sampling
from ncpipe.theory.rebalance import Scheme, frequency_weights, rebalance
from ncpipe.theory.spectrum import pooled_spectrum

Method = Literal["class_balanced", "effective_number", "max_kappa"]

_SCHEMES: tuple[Scheme, ...] = ("class_balanced", "effective_number")


def sampling_weights(
    distribution: LabelDistribution, target: Target, *, method: Method, cap: float | None = None
) -> Sampling:
    """Sampling weights by one method, beside what the others reach; the share of each multiplicity is always kept.

    Parameters
    ----------
    distribution : LabelDistribution
    target : {"normalised", "raw"}
    method : {"class_balanced", "effective_number", "max_kappa"}
        `frequency_weights` scaled within each multiplicity to its share, or the solution of theory.md (19).
    cap : float, optional
        ρ >= 1 of ``max_kappa``. The other methods have none: the smallest that allows their weights takes its place, so
        that they are compared with the best that changes no share by more than they do.

    Raises
    ------
    ValueError
        If ``max_kappa`` has no cap or another method has one.
    """
    if (cap is None) == (method == "max_kappa"):
        raise ValueError(f"cap: found {cap} with method {method}; max_kappa needs one, the others have none")
    schemes: dict[str, np.ndarray] = {
        s: _shares_kept(distribution, frequency_weights(distribution, s)) for s in _SCHEMES
    }
    if cap is None:
        factors = schemes[method] / distribution.weights
        cap = float(max(factors.max(), 1 / factors.min()))
    best = rebalance(distribution, target, cap=cap)
    kappa = {name: pooled_spectrum(resampled(distribution, w), target).kappa for name, w in schemes.items()}
    return Sampling(
        natural=distribution,
        weights=best.weights if method == "max_kappa" else schemes[method],
        method=method,
        target=target,
        cap=cap,
        kappa={"natural": best.kappa_before, **kappa, "max_kappa": best.kappa},
        upper_bound=best.upper_bound,
    )


def _shares_kept(distribution: LabelDistribution, weights: np.ndarray) -> np.ndarray:
    """Scale weights so that each multiplicity keeps the share of samples that it has."""
    kept = np.empty_like(weights)
    for m in distribution.multiplicities:
        rows = distribution.multiplicity == m
        kept[rows] = weights[rows] * (distribution.weights[rows].sum() / weights[rows].sum())
    return kept


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
    distribution = LabelDistribution.from_counts(
        {parse_label_set(name): count for name, count in counts.items()}, len(class_names), class_names=class_names
    )
    write_sampling(path, sampling_weights(distribution, target, method=method, cap=cap))
