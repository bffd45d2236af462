"""The moments of a split's features that the collapse metrics are made from: label-set means, scatter within classes.

Training computes them where a recipe keeps no features, collapse where it does: the same function on the same float32
features, hence the same bits. Two passes over the features, O(N d K), and no d × d matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ncpipe.errors import check_array, check_positions

# Rows summed in the precision of the features before float64 takes over: so few that the sum's rounding stays below
# that of the float32 features themselves.
_SUM_ROWS = 32
PREDICTION_STEPS = 65535  # of a prediction in 16 bits
_SCATTER_ROWS = 256  # so few that a block of deviations stays in the cache


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of a split's features, float64.

    Parameters
    ----------
    prototypes : ndarray, shape (S, d)
        Mean feature h̄_S of each label set; NaN where it has no sample.
    basis : ndarray, shape (d, r)
        Orthonormal basis of the span of the class means over multiplicity one, r <= K.
    scatter : ndarray, shape (r, r)
        The within-class covariance Σ_W of the multiplicity-one samples on it, theory.md (15).
    """

    prototypes: np.ndarray
    basis: np.ndarray
    scatter: np.ndarray


def groups(label_set: np.ndarray, label_sets: int) -> list[slice | np.ndarray]:
    """Rows of each label set: slices where samples lie in order of their label set (as stores do), else positions.

    Parameters
    ----------
    label_set : ndarray of int, shape (N,)
    label_sets : int
        S; a label set without samples gets an empty selection.
    """
    ordered = bool(np.all(label_set[1:] >= label_set[:-1]))
    order = None if ordered else np.argsort(label_set, kind="stable")
    edges = np.searchsorted(label_set if order is None else label_set[order], np.arange(label_sets + 1))
    spans = [slice(int(a), int(b)) for a, b in pairwise(edges)]
    return list(spans) if order is None else [order[span] for span in spans]


def _sum_rows(rows: np.ndarray) -> np.ndarray:
    """Sum of the rows, (n, d) -> (d,), float64 without a float64 copy of the rows."""
    whole = len(rows) // _SUM_ROWS * _SUM_ROWS
    blocks = rows[:whole].reshape(-1, _SUM_ROWS, rows.shape[1])  # (n / 32, 32, d)
    partial = np.matmul(np.ones((1, _SUM_ROWS), rows.dtype), blocks)[:, 0]  # (n / 32, d)
    return partial.sum(axis=0, dtype=np.float64) + rows[whole:].sum(axis=0, dtype=np.float64)


def group_means(rows: np.ndarray, members: Sequence[slice | np.ndarray]) -> np.ndarray:
    """Mean row of each group, shape (S, d), float64; NaN for an empty group.

    Parameters
    ----------
    rows : ndarray, shape (N, d), float32 or float64
        One for each sample: its feature, or its prediction.
    members : sequence of length S
        From `groups`.
    """
    means = np.full((len(members), rows.shape[1]), np.nan)
    for position, index in enumerate(members):
        chosen = rows[index]
        if len(chosen):
            means[position] = _sum_rows(chosen) / len(chosen)
    return means


def span(vectors: np.ndarray) -> np.ndarray:
    """Orthonormal basis of the span of the rows, (K, d) -> (d, r)."""
    singular, right = np.linalg.svd(vectors, full_matrices=False)[1:]
    return right[singular > 1e-12 * singular.max(initial=0.0)].T


def within_class_scatter(
    features: np.ndarray, rows: Sequence[slice | np.ndarray], means: np.ndarray, basis: np.ndarray
) -> np.ndarray:
    """Qᵀ Σ_W Q: the within-class covariance (1/N_1) Σ (h_i − h̄_k)(h_i − h̄_k)ᵀ on a subspace, O(N d r).

    Parameters
    ----------
    features : ndarray, shape (N, d)
    rows : sequence of length K
        The multiplicity-one samples of each class.
    means : ndarray, shape (K, d)
    basis : ndarray, shape (d, r)
        Q, orthonormal columns.

    Returns
    -------
    ndarray, shape (r, r)
    """
    projection = basis.astype(features.dtype)  # (d, r)
    buffer = np.empty((_SCATTER_ROWS, features.shape[1]), features.dtype)
    scatter, samples = np.zeros((basis.shape[1],) * 2), 0
    for index, mean in zip(rows, means, strict=True):
        members, centre = features[index], mean.astype(features.dtype)
        shift = np.zeros(basis.shape[1])
        for start in range(0, len(members), _SCATTER_ROWS):
            # Subtracting before projecting is exact for near-equal floats, so that float32 resolves collapsed classes;
            # what rounding the mean moved is one shift for all samples, and is taken out below.
            block = members[start : start + _SCATTER_ROWS]
            deviations = np.subtract(block, centre, out=buffer[: len(block)])
            projected = (deviations @ projection).astype(np.float64)  # (n, r)
            scatter += projected.T @ projected
            shift += projected.sum(axis=0)
        samples += len(members)
        scatter -= np.outer(shift, shift) / max(1, len(members))
    return scatter / max(1, samples)


def moments(features: np.ndarray, label_set: np.ndarray, multiplicity: np.ndarray) -> Moments:
    """Moments of the features of a split.

    Parameters
    ----------
    features : array-like, shape (N, d)
        Float32 stays float32; what is no float becomes float64. Whether values are finite is the caller's business.
    label_set : array-like of int, shape (N,)
        Position of each sample's label set. Fastest where ascending.
    multiplicity : ndarray of int, shape (S,)
        Classes of each label set.

    Raises
    ------
    InputError
        If shapes or dtypes cannot be, or a position lies outside 0..S-1.
    """
    features = check_array("features", features, ("sample", "feature"), finite=False)
    label_set = check_positions("label_set", label_set, "sample", length=len(features), limit=len(multiplicity))
    rows = groups(label_set, len(multiplicity))
    prototypes = group_means(features, rows)
    singles = np.flatnonzero((multiplicity == 1) & (np.bincount(label_set, minlength=len(multiplicity)) > 0))
    basis = span(prototypes[singles])
    scatter = within_class_scatter(features, [rows[s] for s in singles], prototypes[singles], basis)
    return Moments(prototypes, basis, scatter)


def pack_predictions(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities, shape (N, K), in 16 bits each: off by at most 1 / (2 `PREDICTION_STEPS`).

    Their total variation from anything, and its root mean square, is off by at most K / (4 `PREDICTION_STEPS`).
    """
    return np.rint(probabilities * PREDICTION_STEPS).astype(np.uint16)


def unpack_predictions(packed: np.ndarray) -> np.ndarray:
    """Probabilities, float64, of what `pack_predictions` made."""
    return packed / PREDICTION_STEPS
