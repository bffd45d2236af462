"""Sampling weights over label sets, and what they do to the weakest contrast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from ncpipe.errors import InputError, check_choice
from ncpipe.labels.distribution import LabelDistribution, Target
from ncpipe.labels.rebalance import Scheme, frequency_weights, rebalance
from ncpipe.labels.spectrum import pooled_spectrum


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
    InputError
        If the method or the target is unknown, ``max_kappa`` has no cap, or another method has one.
    """
    check_choice("method", method, get_args(Method))
    if (cap is None) == (method == "max_kappa"):
        raise InputError(f"cap: found {cap} with method {method}; max_kappa needs one, the others have none")
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
