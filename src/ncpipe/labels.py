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
from ncpipe.naming import LabelSet, label_set_name

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
        if classes < 2:
            raise InputError(f"classes: found {classes}; a label distribution needs at least 2 classes")
        names = tuple(str(k) for k in range(classes)) if class_names is None else tuple(map(str, class_names))
        if len(names) != classes:
            raise InputError(f"class names: found {len(names)} for {classes} classes")
        merged: dict[LabelSet, float] = {}
        for label_set, count in counts.items():
            key = tuple(sorted({int(k) for k in label_set}))
            if key and (key[0] < 0 or key[-1] >= classes):
                raise InputError(f"label set {key}: classes must lie in 0..{classes - 1}")
            if not np.isfinite(count) or count < 0:
                raise InputError(f"label set {label_set_name(key)}: found count {count}; allowed are numbers >= 0")
            if not key:
                unlabelled += int(count)
            elif count > 0:
                merged[key] = merged.get(key, 0.0) + float(count)
        if not merged:
            raise InputError("no labelled sample: every label set is empty or has count 0")
        ordered = sorted(merged, key=lambda s: (len(s), s))
        indptr = np.concatenate([[0], np.cumsum([len(s) for s in ordered])])
        indices = np.fromiter((k for s in ordered for k in s), dtype=np.int64, count=int(indptr[-1]))
        indicator = sparse.csr_array((np.ones(len(indices)), indices, indptr), shape=(len(ordered), classes))
        return cls(indicator, np.array([merged[s] for s in ordered]), names, unlabelled)

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
        matrix = sparse.csr_array(labels, dtype=np.float64)
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        if matrix.nnz and not np.all(matrix.data == 1.0):
            raise InputError(f"label matrix: found {matrix.data[matrix.data != 1.0][0]}; allowed are 0 and 1")
        matrix.sort_indices()
        tally: dict[LabelSet, int] = {}
        indices, indptr = matrix.indices.tolist(), matrix.indptr.tolist()
        for start, stop in pairwise(indptr):
            key = tuple(indices[start:stop])
            tally[key] = tally.get(key, 0) + 1
        return cls.from_counts(tally, matrix.shape[1], class_names=class_names)

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


def select_samples(index: np.ndarray, label_sets: np.ndarray, counts: Mapping[str, int]) -> np.ndarray:
    """Positions of a setting's samples in a balanced data set: the first n_S of each label set, in store order.

    Parameters
    ----------
    index : ndarray of int, shape (N,)
        Label set of each stored sample.
    label_sets : ndarray, shape (S, K)
        Multi-hot label sets.
    counts : mapping of str to int
        ``{label set name: samples}``, names as `label_set_name` writes them.

    Returns
    -------
    ndarray of int64, ascending
        Smaller counts give subsets of larger ones, so settings are nested.

    Raises
    ------
    InputError
        If the data set has no such label set, or too few samples of it.
    """
    chosen = []
    names = {label_set_name(np.flatnonzero(row)): position for position, row in enumerate(label_sets)}
    for name, count in counts.items():
        stored = np.flatnonzero(index == names[name]) if name in names else np.empty(0, np.int64)
        if len(stored) < count:
            raise InputError(f"label set {name}: {count} samples asked for, the data set has {len(stored)}")
        chosen.append(stored[:count])
    return np.sort(np.concatenate(chosen))
