"""Intervals and tests that the verdicts rest on: each a pure function over the last axis of its samples."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """An estimate and the ends of its interval (arrays of one shape, () for one estimate).

    The ends are NaN where the samples do not determine them.
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def mean_interval(samples: np.ndarray, *, confidence: float = CONFIDENCE) -> Interval:
    """Student-t interval of the mean over the last axis.

    Parameters
    ----------
    samples : ndarray, shape (..., n)
        Independent samples (seeds).
    confidence : float
        Two-sided, in (0, 1).

    Returns
    -------
    Interval
        Arrays of shape (...). With n = 1 the ends are NaN: one sample says nothing about the spread.

    Raises
    ------
    ValueError
        If n = 0 or the confidence lies outside (0, 1).
    """
    samples = np.asarray(samples, dtype=float)
    _check_confidence(confidence)
    n = samples.shape[-1] if samples.ndim else 0
    if n == 0:
        raise ValueError("an interval of the mean needs at least one sample")
    mean = samples.mean(axis=-1)
    if n == 1:
        return Interval(mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan))
    half = stats.t.ppf((1 + confidence) / 2, n - 1) * samples.std(axis=-1, ddof=1) / np.sqrt(n)
    return Interval(mean, mean - half, mean + half)


def log_ratios(treated: np.ndarray, control: np.ndarray) -> np.ndarray:
    """Paired log-ratios ln(treated / control), same shape; NaN where either value is not positive.

    Raises
    ------
    ValueError
        If the shapes differ: unpaired values have no ratio.
    """
    treated, control = np.asarray(treated, dtype=float), np.asarray(control, dtype=float)
    if treated.shape != control.shape:
        raise ValueError(f"paired samples need equal shapes, found {treated.shape} and {control.shape}")
    positive = (treated > 0) & (control > 0)
    return np.log(np.where(positive, treated, np.nan)) - np.log(np.where(positive, control, np.nan))


def spearman_interval(x: np.ndarray, y: np.ndarray, *, confidence: float = CONFIDENCE) -> Interval:
    """Spearman's rank correlation with a Fisher-type interval (Bonett and Wright, Psychometrika 2000).

    The standard error of artanh(ρ) is sqrt((1 + ρ²/2) / (n - 3)). At |ρ| = 1, where that interval would have no
    width, the inner end is the one of the next correlation that n ranks allow, 1 - 12 / (n (n² - 1)).

    Parameters
    ----------
    x, y : ndarray, shape (n,)
    confidence : float
        Two-sided, in (0, 1).

    Returns
    -------
    Interval
        All NaN if x or y is constant; NaN ends below four pairs.

    Raises
    ------
    ValueError
        If the shapes differ or are not one-dimensional.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    _check_confidence(confidence)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"a rank correlation needs two vectors of equal length, found {x.shape} and {y.shape}")
    nothing = np.array(np.nan)
    n = len(x)
    if n < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Interval(nothing, nothing, nothing)
    rho = np.clip(np.array(np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1]), -1, 1)
    if n < 4:
        return Interval(rho, nothing, nothing)
    step = 12 / (n * (n**2 - 1))
    inner = np.sign(rho) * min(abs(rho), 1 - step)
    half = stats.norm.ppf((1 + confidence) / 2) * np.sqrt((1 + inner**2 / 2) / (n - 3))
    low, high = np.tanh(np.arctanh(inner) - half), np.tanh(np.arctanh(inner) + half)
    return Interval(rho, np.minimum(low, rho), np.maximum(high, rho))


def equivalence_p(samples: np.ndarray, margin: float) -> np.ndarray:
    """Two one-sided t-tests (TOST) that the mean over the last axis lies within ±margin: the larger p-value.

    Parameters
    ----------
    samples : ndarray, shape (..., n), n >= 2
    margin : float
        > 0. The mean is equivalent to 0 at level α where the p-value is below α, that is where the interval of
        confidence 1 - 2α lies inside (-margin, margin).

    Raises
    ------
    ValueError
        If n < 2 or the margin is not positive.
    """
    samples = np.asarray(samples, dtype=float)
    if margin <= 0:
        raise ValueError(f"the margin of an equivalence test must be > 0, found {margin}")
    if samples.ndim == 0 or samples.shape[-1] < 2:
        raise ValueError("an equivalence test needs at least two samples")
    n = samples.shape[-1]
    mean = samples.mean(axis=-1)
    error = samples.std(axis=-1, ddof=1) / np.sqrt(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Without spread (error 0) the statistic is infinite with the sign of the distance, or 0 / 0 on the margin.
        t = np.nan_to_num((margin - np.abs(mean)) / error, nan=0.0, posinf=np.inf, neginf=-np.inf)
    return stats.t.sf(t, n - 1)


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence must lie between 0 and 1, found {confidence}")
