"""Label sets, their counts, and the label distributions that everything else is computed from."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, Literal, NoReturn

import numpy as np
from scipy import sparse

from ncpipe.errors import InputError, check_array, check_choice, check_number
from ncpipe.labels.names import LabelSet, label_set_name

Target = Literal["normalised", "raw"]
TARGETS: tuple[Target, ...] = ("normalised", "raw")

MOST_CLASSES = 1_000_000  # beyond this the input is taken to be something else than labels

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
    if isinstance(classes, bool) or not isinstance(classes, Integral) or not 2 <= classes <= MOST_CLASSES:
        raise InputError(
            f"classes: found {classes}; a label distribution needs at least 2 classes, and at most {MOST_CLASSES:,}"
        )
    if names is None:
        return tuple(map(str, range(classes)))
    if isinstance(names, str) or len(names) != classes:
        shown = repr(names) if isinstance(names, str) else len(names)
        raise InputError(f"class names: found {shown} for {classes} classes")
    return tuple(map(str, names))


def _merge_rows(matrix: sparse.csr_array, weights: np.ndarray) -> tuple[sparse.csr_array, np.ndarray, np.ndarray]:
    """Distinct rows of a multi-hot matrix in canonical order, the weight of each, summed, and where each row went.

    Parameters
    ----------
    matrix : csr_array, shape (N, K)
        Ones, indices sorted within rows.
    weights : ndarray, shape (N,)
        Rows without a label and rows of weight 0 are left out.

    Returns
    -------
    indicator : csr_array, shape (S, K)
    totals : ndarray, shape (S,)
    position : ndarray of int, shape (N,)
        Row of `indicator`, -1 for those left out.
    """
    multiplicity = np.where(weights > 0, np.diff(matrix.indptr), 0)
    order = np.argsort(multiplicity, kind="stable")
    edges = np.flatnonzero(np.diff(multiplicity[order], prepend=0))  # where each multiplicity >= 1 begins
    firsts, totals, position, merged = [], [], np.full(len(weights), -1), 0
    for rows in np.split(order, edges)[1:]:
        members = matrix.indices[matrix.indptr[rows][:, None] + np.arange(multiplicity[rows[0]])]  # (n, m)
        first, inverse = _lexicographic(members, matrix.shape[1])
        firsts.append(rows[first])
        totals.append(np.bincount(inverse, weights[rows]))
        position[rows] = merged + inverse
        merged += len(first)
    if not firsts:
        raise InputError("no labelled sample: every label set is empty or has count 0")
    return matrix[np.concatenate(firsts)], np.concatenate(totals), position


def _label_set(label_set: object) -> LabelSet:
    """Classes, ascending, each once."""
    try:
        return tuple(sorted({operator.index(k) for k in label_set}))  # type: ignore[attr-defined]
    except TypeError as error:
        raise InputError(f"label set {label_set!r}: allowed are whole class numbers, such as (0, 7)") from error


def _rows(label_sets: Iterable[Iterable[int]], classes: int) -> sparse.csr_array:
    """Multi-hot rows of label sets, shape (N, K)."""
    keys = [_label_set(label_set) for label_set in label_sets]
    for key in keys:
        if key and (key[0] < 0 or key[-1] >= classes):
            raise InputError(f"label set {key}: classes must lie in 0..{classes - 1}")
    indptr = np.concatenate([[0], np.cumsum([len(key) for key in keys], dtype=np.int64)])
    indices = np.fromiter((k for key in keys for k in key), dtype=np.int64, count=int(indptr[-1]))
    return sparse.csr_array((np.ones(len(indices)), indices, indptr), shape=(len(keys), classes))


def _binary(labels: Any) -> sparse.csr_array:
    """A 0/1 matrix, whatever holds it, as float64 ones with sorted indices; a copy."""
    if hasattr(labels, "detach"):  # torch
        labels = labels.detach().cpu()
        labels = labels.to_dense() if str(labels.layout) != "torch.strided" else labels
        labels = (labels.float() if str(labels.dtype) == "torch.bfloat16" else labels).numpy()
    if not sparse.issparse(labels):
        dense = check_array("label matrix", labels, ("sample", "class"), finite=False)
        bad = ~((dense == 0) | (dense == 1))
        if bad.any():
            row, column = np.argwhere(bad)[0]
            entry = dense[row, column]
            raise InputError(f"label matrix: found {entry:g} at row {row}, column {column}; allowed are 0 and 1")
        labels = sparse.csr_array(dense.astype(np.float64))
    if labels.ndim != 2 or labels.dtype.kind not in "biuf":
        raise InputError(
            f"label matrix: found shape {labels.shape} of {labels.dtype}; allowed: numbers, sample x class"
        )
    matrix = sparse.csr_array(labels, dtype=np.float64, copy=True)  # what follows works in place
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    if matrix.nnz and not np.all(matrix.data == 1.0):
        raise InputError(f"label matrix: found {matrix.data[matrix.data != 1.0][0]:g}; allowed are 0 and 1")
    matrix.sort_indices()
    return matrix


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53


def _is_count(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1 << 53


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

    Build one with `from_matrix`, `from_label_sets` or `from_counts`: they validate, merge equal label sets and put them
    in the canonical order (multiplicity first, then classes lexicographically).

    Parameters
    ----------
    indicator : scipy.sparse.csr_array, shape (S, K)
        Multi-hot rows, float64 ones.
    counts : ndarray, shape (S,)
        Samples of each label set, > 0 (float64; weights need not be whole).
    class_names : tuple of str, length K
    unlabelled : int
        Samples without a label: counted, never part of the distribution.

    Examples
    --------
    >>> labels = LabelDistribution.from_counts({(0,): 3, (1,): 2, (0, 1): 1}, classes=2)
    >>> labels.samples, labels.multiplicities, labels.class_counts().tolist()
    (6.0, (1, 2), [4.0, 3.0])
    """

    indicator: sparse.csr_array
    counts: np.ndarray
    class_names: tuple[str, ...]
    unlabelled: int = 0

    def __post_init__(self) -> None:
        if not (sparse.issparse(self.indicator) and self.indicator.format == "csr" and self.indicator.ndim == 2):
            raise InputError(
                f"indicator: found {type(self.indicator).__name__}; allowed: a scipy csr_array, label set x class "
                "(`from_matrix`, `from_label_sets` and `from_counts` build one)"
            )
        counts = check_array("counts", self.counts, ("label set",))
        sets, classes = self.indicator.shape
        if counts.shape != (sets,) or sets == 0 or not (counts > 0).all():
            raise InputError(
                f"counts: found {counts.shape}; allowed: a number > 0 for each of {sets} label sets, 1 or more"
            )
        if not np.diff(self.indicator.indptr).all():
            raise InputError("indicator: found a row without a class; allowed: rows of label sets that are not empty")
        object.__setattr__(self, "counts", counts)
        if len(self.class_names) != classes:
            raise InputError(f"class names: found {len(self.class_names)} for {classes} classes")

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

        Examples
        --------
        >>> LabelDistribution.from_counts({(0,): 5, (1,): 3, (0, 1): 2}, classes=2).samples
        10.0
        """
        if not isinstance(counts, Mapping):
            raise InputError(f"counts: found {type(counts).__name__}; allowed: a mapping of label sets to samples")
        _class_names(class_names, classes)
        weights = np.empty(len(counts))
        for row, (label_set, count) in enumerate(counts.items()):
            if not isinstance(count, Real) or not np.isfinite(float(count)) or count < 0:
                name = label_set_name(_label_set(label_set))
                raise InputError(f"label set {name}: found count {count}; allowed are numbers >= 0")
            weights[row] = count
        return cls._merged(_rows(counts, classes), weights, class_names, unlabelled)[0]

    @classmethod
    def from_matrix(
        cls,
        labels: np.ndarray | sparse.sparray | Any,
        *,
        counts: np.ndarray | None = None,
        class_names: Sequence[str] | None = None,
    ) -> LabelDistribution:
        """Build from a 0/1 matrix, one row per sample, shape (N, K): dense, sparse or a torch tensor.

        Parameters
        ----------
        labels : array-like, shape (N, K)
        counts : ndarray, shape (N,), optional
            Samples that each row stands for; 1 unless given.
        class_names : sequence of str, optional

        Raises
        ------
        InputError
            If an entry is neither 0 nor 1 (NaN included), the shape is not (N >= 1, K >= 2), or no row has a label.

        Examples
        --------
        >>> LabelDistribution.from_matrix([[1, 0, 0], [0, 1, 1], [0, 1, 1]]).as_counts()
        {(0,): 1.0, (1, 2): 2.0}
        """
        return cls._merged(_binary(labels), counts, class_names)[0]

    @classmethod
    def from_label_sets(
        cls,
        label_sets: Iterable[Iterable[int]],
        *,
        classes: int | None = None,
        class_names: Sequence[str] | None = None,
    ) -> LabelDistribution:
        """Build from the label set of each sample: ``[[0], [0, 2], []]``.

        Parameters
        ----------
        label_sets : iterable of iterables of int
        classes : int, optional
            K; by default as many as there are class names, or up to the highest class that occurs.
        class_names : sequence of str, optional

        Raises
        ------
        InputError
            If a class is no whole number of 0..K-1, K < 2, or nothing is labelled.

        Examples
        --------
        >>> LabelDistribution.from_label_sets([[0], [2, 0], [0, 2]]).as_counts()
        {(0,): 1.0, (0, 2): 2.0}
        """
        return as_distribution(list(label_sets), classes=classes, class_names=class_names)[0]

    @classmethod
    def _merged(
        cls,
        rows: sparse.csr_array,
        weights: np.ndarray | None,
        class_names: Sequence[str] | None,
        unlabelled: int = 0,
    ) -> tuple[LabelDistribution, np.ndarray]:
        """The distribution of multi-hot rows with weights, and the label set of each row."""
        names = _class_names(class_names, rows.shape[1])
        weights = np.ones(rows.shape[0]) if weights is None else check_array("counts", weights, ("row",))
        if len(weights) != rows.shape[0] or (weights < 0).any():
            raise InputError(f"counts: found {len(weights)}; allowed: a number >= 0 for each of {rows.shape[0]} rows")
        indicator, totals, position = _merge_rows(rows, weights)
        unlabelled += int(weights[np.diff(rows.indptr) == 0].sum())
        return cls(indicator, totals, names, unlabelled), position

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> LabelDistribution:
        """Read what `to_json` gives, from a file or elsewhere; other keys are ignored.

        Parameters
        ----------
        content : mapping
            ``classes``, ``label_sets`` and ``counts``; optionally ``class_names`` and ``unlabelled``.

        Raises
        ------
        InputError
            If a key is missing or does not hold what it should; the message names it.

        Examples
        --------
        >>> content = {"classes": 3, "label_sets": [[0], [0, 2]], "counts": [7, 3]}
        >>> LabelDistribution.from_json(content).as_counts()
        {(0,): 7.0, (0, 2): 3.0}
        """
        for key in ("label_sets", "counts", "classes"):
            if key not in content:
                raise InputError(f"key {key!r}: missing")

        def wrong(key: str, allowed: str) -> NoReturn:
            raise InputError(f"key {key!r}: allowed is {allowed}")

        label_sets, counts, classes = content["label_sets"], content["counts"], content["classes"]
        lists = isinstance(label_sets, list) and all(isinstance(label_set, list) for label_set in label_sets)
        if not lists or not all(_is_whole(k) for label_set in label_sets for k in label_set):
            wrong("label_sets", "a list of lists of classes, counted from 0")
        if not isinstance(counts, list) or len(counts) != len(label_sets) or not all(map(_is_count, counts)):
            wrong("counts", "a list of numbers >= 0, one for each label set")
        highest = max((k for label_set in label_sets for k in label_set), default=0)
        if not _is_whole(classes) or classes <= highest:
            wrong("classes", f"a whole number above {highest}, the highest class of the label sets")
        unlabelled, names = content.get("unlabelled", 0), content.get("class_names")
        if not _is_whole(unlabelled):
            wrong("unlabelled", "a whole number >= 0")
        if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            wrong("class_names", "a list of names, one for each class")
        return cls._merged(_rows(label_sets, classes), np.array(counts, dtype=np.float64), names, unlabelled)[0]

    def to_json(self) -> dict[str, Any]:
        """Builtins that `from_json` reads back: classes, class_names, label_sets, counts, unlabelled."""
        return {
            "classes": self.classes,
            "class_names": list(self.class_names),
            "label_sets": [list(label_set) for label_set in self.label_sets],
            "counts": self.counts.tolist(),
            "unlabelled": self.unlabelled,
        }

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
        check_choice("target", target, TARGETS)
        return np.ones(len(self.counts)) if target == "normalised" else self.multiplicity.astype(float)

    def targets(self, target: Target) -> np.ndarray:
        """Dense t_S, shape (S, K): y_S / m (normalised) or y_S (raw)."""
        scale = self.tau(target) / self.multiplicity
        return self.multi_hot() * scale[:, None]

    def class_counts(self, multiplicity: int | None = None) -> np.ndarray:
        """Samples that carry each class, shape (K,); only those of one multiplicity where it is given."""
        if multiplicity is not None:
            check_number("multiplicity", multiplicity, least=1)
        counts = self.counts if multiplicity is None else np.where(self.multiplicity == multiplicity, self.counts, 0.0)
        return self.indicator.T @ counts

    def restrict(self, multiplicity: int) -> LabelDistribution:
        """The conditional distribution of one multiplicity.

        Raises
        ------
        InputError
            If no label set has it; the message lists those that occur.
        """
        if isinstance(multiplicity, bool) or multiplicity not in self.multiplicities:
            present = ", ".join(map(str, self.multiplicities))
            raise InputError(f"multiplicity {multiplicity!r}: no label set has it; those that occur are {present}")
        rows = np.flatnonzero(self.multiplicity == multiplicity)
        return LabelDistribution(self.indicator[rows], self.counts[rows], self.class_names)

    def as_counts(self) -> dict[LabelSet, float]:
        """Return ``{label set: samples}``, the inverse of `from_counts`."""
        return dict(zip(self.label_sets, self.counts.tolist(), strict=True))


def as_distribution(
    labels: Any,
    *,
    counts: np.ndarray | None = None,
    classes: int | None = None,
    class_names: Sequence[str] | None = None,
) -> tuple[LabelDistribution, np.ndarray]:
    """The label distribution of samples, and where each sample's label set is in it.

    Parameters
    ----------
    labels : array, sparse array, torch tensor, data frame, or list of label sets
        A 0/1 matrix, shape (N, K); or a list or tuple with the classes of each sample: ``[[0], [0, 2], []]``.
    counts : ndarray, shape (N,), optional
        Samples that each row stands for; 1 unless given.
    classes : int, optional
        K of a list of label sets; by default as many as there are class names, or up to the highest that occurs.
    class_names : sequence of str, optional
        By default the columns of a data frame, else the numbers 0..K-1.

    Returns
    -------
    distribution : LabelDistribution
    label_set : ndarray of int, shape (N,)
        Position in the distribution; -1 for a sample without a label.

    Raises
    ------
    InputError
        If the labels are none of these, and as `LabelDistribution.from_matrix` and `from_label_sets` say.

    Examples
    --------
    >>> distribution, label_set = as_distribution([[0], [0, 2], [], [0]])
    >>> distribution.as_counts(), label_set.tolist()
    ({(0,): 2.0, (0, 2): 1.0}, [0, 1, -1, 0])
    """
    if isinstance(labels, list | tuple):
        rows = _rows_of_label_sets(labels, classes, class_names)
    else:
        rows = _binary(labels)
        if classes is not None and classes != rows.shape[1]:
            raise InputError(f"classes: found {classes}; the label matrix has {rows.shape[1]} columns")
        columns = getattr(labels, "columns", None)  # of a data frame
        class_names = list(map(str, columns)) if class_names is None and columns is not None else class_names
    return LabelDistribution._merged(rows, counts, class_names)


def _rows_of_label_sets(
    labels: Sequence[Any], classes: int | None, class_names: Sequence[str] | None
) -> sparse.csr_array:
    for sample, label_set in enumerate(labels):
        if isinstance(label_set, str) or not isinstance(label_set, Iterable):
            raise InputError(
                f"labels: found {label_set!r} for sample {sample}; allowed: the classes of each sample, [[0], [0, 2]], "
                "or a 0/1 matrix as an array"
            )
    label_sets = [list(label_set) for label_set in labels]
    keys = [_label_set(label_set) for label_set in label_sets]
    twice = next((sample for sample, key in enumerate(keys) if len(key) < len(label_sets[sample])), None)
    if twice is not None:
        raise InputError(
            f"labels: found a class twice in {label_sets[twice]!r}, sample {twice}; allowed: the classes of each "
            "sample (a 0/1 matrix is given as an array)"
        )
    if label_sets and all(len(label_set) == 2 and key == (0, 1) for label_set, key in zip(labels, keys, strict=True)):
        raise InputError("labels: found rows of 0 and 1 alone; a 0/1 matrix is given as an array")
    if classes is None:
        highest = max((key[-1] for key in keys if key), default=-1)
        classes = highest + 1 if class_names is None else len(class_names)
    return _rows(keys, classes)
