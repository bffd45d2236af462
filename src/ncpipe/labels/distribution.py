"""Label sets, their counts, and the label distributions that everything else is computed from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
from scipy import sparse

from ncpipe.errors import InputError
from ncpipe.labels.names import LabelSet, label_set_name

Target = Literal["normalised", "raw"]

_NAMED = 0.5  # of the largest weight on its side: what a class needs to be named in a contrast


def contrast_basis(classes: int) -> np.ndarray:
    """Orthonormal basis of the contrast space 1^⊥ (Helmert), shape (K, K-1), theory.md §1."""
    index = np.arange(1, classes)
    basis = np.triu(np.ones((classes, classes - 1)))
    basis[index, index - 1] = -index
    return basis / np.sqrt(index * (index + 1.0))


def contrast_classes(contrast: np.ndarray, class_names: Sequence[str]) -> list[list[str]]:
    """Names of the classes on the two sides of a contrast, ``[[+], [-]]``: on each, those of half its peak or more."""
    sides = (contrast, -contrast)
    return [[class_names[int(k)] for k in np.flatnonzero(side >= _NAMED * side.max())] for side in sides]


def _class_names(names: Sequence[str] | None, classes: int) -> tuple[str, ...]:
    if classes < 2:
        raise InputError(f"classes: found {classes}; a label distribution needs at least 2 classes")
    if names is None:
        return tuple(map(str, range(classes)))
    if len(names) != classes:
        raise InputError(f"class names: found {len(names)} for {classes} classes")
    return tuple(map(str, names))


def _merge_rows(matrix: sparse.csr_array, weights: np.ndarray) -> tuple[sparse.csr_array, np.ndarray]:
    """Distinct rows of a multi-hot matrix in canonical order, empty ones left out, and the weight of each, summed.

    Parameters
    ----------
    matrix : csr_array, shape (N, K)
        Ones, indices sorted within rows.
    weights : ndarray, shape (N,)
    """
    multiplicity = np.diff(matrix.indptr)
    order = np.argsort(multiplicity, kind="stable")
    edges = np.flatnonzero(np.diff(multiplicity[order], prepend=0))  # where each multiplicity >= 1 begins
    kept, totals = [], []
    for rows in np.split(order, edges)[1:]:
        members = matrix.indices[matrix.indptr[rows][:, None] + np.arange(multiplicity[rows[0]])]  # (n, m)
        first, inverse = _lexicographic(members, matrix.shape[1])
        kept.append(rows[first])
        totals.append(np.bincount(inverse, weights[rows]))
    if not kept:
        raise InputError("no labelled sample: every label set is empty or has count 0")
    return matrix[np.concatenate(kept)], np.concatenate(totals)


def _lexicographic(rows: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Index of the first of each distinct row, in lexicographic order, and the position of each row among them.

    Parameters
    ----------
    rows : ndarray of int, shape (n, m)
        Entries in 0..limit-1, packed as many to an integer as fit: exact, and faster than comparing rows.
    """
    count, width = rows.shape
    rank, first = np.zeros(count, np.int64), np.zeros(1, np.int64)
    bits = max(1, (limit - 1).bit_length())
    step = max(1, (62 - count.bit_length()) // bits)
    for start in range(0, width, step):
        packed = rank
        for column in rows[:, start : start + step].T:
            packed = packed << bits | column
        _, first, rank = np.unique(packed, return_index=True, return_inverse=True)
        if len(first) == count:
            break  # all rows differ: what follows changes neither their order nor their equality
    return first, rank


@dataclass(frozen=True, eq=False)
class LabelDistribution:
    """Distinct label sets and how many samples carry each (theory.md §1). Immutable.

    Build one with `from_counts` or `from_matrix`: they validate, merge equal label sets and put them in the
    canonical order (multiplicity first, then classes lexicographically).

    Parameters
    ----------
    indicator : scipy.sparse.csr_array, shape (S, K)
        Multi-hot rows, float64 ones.
    counts : ndarray, shape (S,)
        Samples of each label set, > 0 (float64; weights need not be whole).
    class_names : tuple of str, length K
    unlabelled : int
        Samples without a label: counted, never part of the distribution.
    """

    indicator: sparse.csr_array
    counts: np.ndarray
    class_names: tuple[str, ...]
    unlabelled: int = 0

    @classmethod
    def from_counts(
        cls,
        counts: Mapping[LabelSet, float],
        classes: int,
        *,
        class_names: Sequence[str] | None = None,
        unlabelled: int = 0,
    ) -> LabelDistribution:
        """Build from ``{label set: samples}``; label sets with zero samples are dropped, order and repeats ignored.

        Raises
        ------
        InputError
            If a class lies outside 0..K-1, a count is negative or not finite, K < 2, or nothing is labelled.
        """
        names = _class_names(class_names, classes)
        rows: list[LabelSet] = []
        weights: list[float] = []
        for label_set, count in counts.items():
            key = tuple(sorted({int(k) for k in label_set}))
            if key and (key[0] < 0 or key[-1] >= classes):
                raise InputError(f"label set {key}: classes must lie in 0..{classes - 1}")
            if not np.isfinite(count) or count < 0:
                raise InputError(f"label set {label_set_name(key)}: found count {count}; allowed are numbers >= 0")
            if not key:
                unlabelled += int(count)
            elif count > 0:
                rows.append(key)
                weights.append(float(count))
        indptr = np.concatenate([[0], np.cumsum([len(key) for key in rows], dtype=np.int64)])
        indices = np.fromiter((k for key in rows for k in key), dtype=np.int64, count=int(indptr[-1]))
        matrix = sparse.csr_array((np.ones(len(indices)), indices, indptr), shape=(len(rows), classes))
        return cls(*_merge_rows(matrix, np.array(weights)), names, unlabelled)

    @classmethod
    def from_matrix(
        cls, labels: np.ndarray | sparse.sparray, *, class_names: Sequence[str] | None = None
    ) -> LabelDistribution:
        """Build from a 0/1 matrix, one row per sample, shape (N, K), dense or sparse.

        Raises
        ------
        InputError
            If an entry is neither 0 nor 1 (NaN included), the shape is not (N >= 1, K >= 2), or no row has a label.
        """
        if not sparse.issparse(labels):
            dense = np.asarray(labels)
            if dense.ndim != 2:
                raise InputError(f"label matrix: found {dense.ndim} dimensions; allowed are 2 (samples x classes)")
            bad = ~((dense == 0) | (dense == 1))
            if bad.any():
                row, column = np.argwhere(bad)[0]
                found = dense[row, column]
                raise InputError(f"label matrix: found {found} at row {row}, column {column}; allowed are 0 and 1")
            labels = sparse.csr_array(dense.astype(np.float64))
        matrix = sparse.csr_array(labels, dtype=np.float64, copy=True)  # what follows works in place
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        if matrix.nnz and not np.all(matrix.data == 1.0):
            raise InputError(f"label matrix: found {matrix.data[matrix.data != 1.0][0]}; allowed are 0 and 1")
        matrix.sort_indices()
        names = _class_names(class_names, matrix.shape[1])
        unlabelled = int(np.count_nonzero(np.diff(matrix.indptr) == 0))
        return cls(*_merge_rows(matrix, np.ones(matrix.shape[0])), names, unlabelled)

    @property
    def classes(self) -> int:
        """K."""
        return int(self.indicator.shape[1])

    @cached_property
    def samples(self) -> float:
        """N, labelled samples only."""
        return float(self.counts.sum())

    @cached_property
    def weights(self) -> np.ndarray:
        """w_S = n_S / N, shape (S,)."""
        return self.counts / self.samples

    @cached_property
    def multiplicity(self) -> np.ndarray:
        """|S| of each label set, shape (S,), int64."""
        return np.diff(self.indicator.indptr).astype(np.int64)

    @cached_property
    def label_sets(self) -> tuple[LabelSet, ...]:
        """The label sets as sorted tuples of class indices, in canonical order."""
        indices, indptr = self.indicator.indices.tolist(), self.indicator.indptr.tolist()
        return tuple(tuple(indices[a:b]) for a, b in pairwise(indptr))

    @cached_property
    def multiplicities(self) -> tuple[int, ...]:
        """The multiplicities that occur, ascending."""
        return tuple(np.unique(self.multiplicity).tolist())

    def multi_hot(self) -> np.ndarray:
        """Dense y_S, shape (S, K), float64."""
        return self.indicator.toarray()

    def tau(self, target: Target) -> np.ndarray:
        """Sum of the target of each label set, shape (S,): 1 (normalised) or m (raw)."""
        return np.ones(len(self.counts)) if target == "normalised" else self.multiplicity.astype(float)

    def targets(self, target: Target) -> np.ndarray:
        """Dense t_S, shape (S, K): y_S / m (normalised) or y_S (raw)."""
        scale = self.tau(target) / self.multiplicity
        return self.multi_hot() * scale[:, None]

    def class_counts(self, multiplicity: int | None = None) -> np.ndarray:
        """Samples that carry each class, shape (K,); only those of one multiplicity where it is given."""
        counts = self.counts if multiplicity is None else np.where(self.multiplicity == multiplicity, self.counts, 0.0)
        return self.indicator.T @ counts

    def restrict(self, multiplicity: int) -> LabelDistribution:
        """The conditional distribution of one multiplicity that occurs."""
        rows = np.flatnonzero(self.multiplicity == multiplicity)
        return LabelDistribution(self.indicator[rows], self.counts[rows], self.class_names)

    def as_counts(self) -> dict[LabelSet, float]:
        """Return ``{label set: samples}``, the inverse of `from_counts`."""
        return dict(zip(self.label_sets, self.counts.tolist(), strict=True))
