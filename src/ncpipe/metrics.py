"""The collapse metrics (15)-(18) of theory.md as pure functions of prototypes, and the two passes that make those.

Everything that depends on single samples is condensed first (`condense`): the mean of each label set and the
within-class scatter on the span of the class means, O(N d K) with no d × d matrix. The metrics are then functions of
a few small matrices, the same for a network's features and for a certified optimum's prototypes.

Two variants where the published code differs:

``definition``
    Centre h̄_G is the mean of the class means.
``li2024``
    Centre h̄_G is the multiplicity-one sum over the count of *all* samples, and NC2-H is not centred, as in the code
    of Li et al. (ICML 2024). Deliberately not copied: float32 with scipy's default pinv cut-off (ours is
    `PINV_CUTOFF`), an arccos that is not clipped, and the class sum which on the CPU shares memory with the class's
    first feature, overwrites it, and so shrinks tr Σ_W by about 1/n.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np

from ncpipe.labels import LabelDistribution, contrast_basis
from ncpipe.synthesis import single_prototypes

Variant = Literal["definition", "li2024"]
VARIANTS: tuple[Variant, ...] = ("definition", "li2024")

# Eigenvalues of Σ_B below this share of the largest count as 0 in its pseudo-inverse, for both variants. Class means of
# float32 features carry a rounding of 1e-7, so 1e-14 in eigenvalues: anything above 1e-10 is a direction, not noise.
PINV_CUTOFF = 1e-10

# Rows summed in the precision of the features before float64 takes over: so few that the sum's rounding stays below
# that of the float32 features themselves.
_SUM_ROWS = 32
_SCATTER_ROWS = 256  # so few that a block of deviations stays in the cache
_ANGLE_ROWS = 1024


class UndefinedMetric(ValueError):  # noqa: N818 - a metric without a value is an answer, not a fault
    """A metric has no value for these inputs; the message is the reason that goes beside the missing value."""


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


def group_means(features: np.ndarray, rows: Sequence[slice | np.ndarray]) -> np.ndarray:
    """Mean feature of each group of rows, shape (S, d), float64; NaN for an empty group.

    Parameters
    ----------
    features : ndarray, shape (N, d), float32 or float64
    rows : sequence of length S
        From `groups`.
    """
    means = np.full((len(rows), features.shape[1]), np.nan)
    for position, index in enumerate(rows):
        members = features[index]
        if len(members):
            means[position] = _sum_rows(members) / len(members)
    return means


def _span(vectors: np.ndarray) -> np.ndarray:
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


@dataclass(frozen=True, eq=False)
class Condensed:
    """What the metrics need of a split's features.

    Parameters
    ----------
    prototypes : ndarray, shape (S, d)
        h̄_S, in the order of `distribution`.
    distribution : LabelDistribution
        The split's label sets and their counts.
    basis : ndarray, shape (d, r)
        Orthonormal basis of the span of the class means.
    scatter : ndarray, shape (r, r)
        Σ_W on it.
    """

    prototypes: np.ndarray
    distribution: LabelDistribution
    basis: np.ndarray
    scatter: np.ndarray

    @cached_property
    def class_means(self) -> np.ndarray:
        """h̄_k over the multiplicity-one samples of each class, shape (K, d).

        Raises
        ------
        UndefinedMetric
            If a class has no sample of multiplicity one.
        """
        means = single_prototypes(self.prototypes, self.distribution)
        _require_singles(np.isnan(means).any(axis=1), self.distribution)
        return means

    def centre(self, variant: Variant) -> np.ndarray:
        """h̄_G, shape (d,): the mean of the class means, or Li's multiplicity-one sum over all samples."""
        if variant == "definition":
            return self.class_means.mean(axis=0)
        return self.distribution.class_counts(1) @ self.class_means / self.distribution.samples


def _require_singles(missing: np.ndarray, distribution: LabelDistribution) -> None:
    if missing.any():
        names = ", ".join(distribution.class_names[k] for k in np.flatnonzero(missing))
        raise UndefinedMetric(f"no sample of multiplicity one in the classes {names}")


def condense(features: np.ndarray, label_set: np.ndarray, distribution: LabelDistribution) -> Condensed:
    """Condense the features of a split in two passes over them: label-set means, then the within-class scatter.

    Parameters
    ----------
    features : ndarray, shape (N, d), float32 or float64
    label_set : ndarray of int, shape (N,)
        Position of each sample's label set in `distribution`. Fastest where ascending.
    distribution : LabelDistribution
        The label sets of these samples.
    """
    rows = groups(label_set, len(distribution.counts))
    prototypes = group_means(features, rows)
    singles = np.flatnonzero(distribution.multiplicity == 1)
    basis = _span(prototypes[singles])
    scatter = within_class_scatter(features, [rows[s] for s in singles], prototypes[singles], basis)
    return Condensed(prototypes, distribution, basis, scatter)


def collapsed(prototypes: np.ndarray, distribution: LabelDistribution) -> Condensed:
    """Condensed form of features that have collapsed onto their prototypes, shape (S, d): no scatter."""
    basis = _span(prototypes[distribution.multiplicity == 1])
    return Condensed(prototypes, distribution, basis, np.zeros((basis.shape[1],) * 2))


def nc1(condensed: Condensed, variant: Variant) -> float:
    """Within-class variability, theory.md (15): tr(Σ_W Σ_B⁺) / K.

    Σ_B = (1/K) Σ_k (h̄_k − h̄_G)(h̄_k − h̄_G)ᵀ lives on the span of the class means (so does either variant's
    centre), hence Σ_W is needed there only. Eigenvalues of Σ_B below `PINV_CUTOFF` times the largest count as 0. The
    definition's Σ_B has rank K − 1 at most, Li's rank K: nothing is projected on K − 1 directions.

    Raises
    ------
    UndefinedMetric
        If a class has no sample of multiplicity one, or all class means coincide with their centre.
    """
    deviations = (condensed.class_means - condensed.centre(variant)) @ condensed.basis  # (K, r)
    singular, right = np.linalg.svd(deviations, full_matrices=False)[1:]
    if singular.max(initial=0.0) == 0:
        raise UndefinedMetric("all class means equal their centre")
    kept = singular**2 > PINV_CUTOFF * singular[0] ** 2
    directions = right[kept]  # (rank, r)
    spread = np.einsum("jr,rs,js->j", directions, condensed.scatter, directions)
    return float((spread / singular[kept] ** 2).sum())


def simplex_distance(gram: np.ndarray) -> float:
    """‖G/‖G‖_F − P/√(K−1)‖_F, P = I − 11ᵀ/K: distance of a K × K matrix from the simplex ETF's, (16) and (17).

    Raises
    ------
    UndefinedMetric
        If the matrix is 0.
    """
    classes, norm = len(gram), np.linalg.norm(gram)
    if norm == 0:
        raise UndefinedMetric("its matrix is 0")
    simplex = (np.eye(classes) - 1 / classes) / np.sqrt(classes - 1)
    return float(np.linalg.norm(gram / norm - simplex))


def nc2_w(weight: np.ndarray) -> float:
    """Distance of the classifier, shape (K, d), from a simplex ETF, theory.md (16). Neither variant centres W."""
    return simplex_distance(weight @ weight.T)


def nc2_h(condensed: Condensed, variant: Variant) -> float:
    """Distance of the class means from a simplex ETF, theory.md (16): centred (definition) or not (li2024).

    Raises
    ------
    UndefinedMetric
        If a class has no sample of multiplicity one, or all class means are equal.
    """
    means = condensed.class_means
    if variant == "definition":
        means = means - condensed.centre("definition")
    return simplex_distance(means @ means.T)


def nc3(weight: np.ndarray, condensed: Condensed, variant: Variant) -> float:
    """Self-duality of the classifier, shape (K, d), and the class means, theory.md (17).

    Raises
    ------
    UndefinedMetric
        If a class has no sample of multiplicity one, or the classifier does not see the class means.
    """
    return simplex_distance(weight @ (condensed.class_means - condensed.centre(variant)).T)


def members_sums(condensed: Condensed, multiplicity: int) -> tuple[np.ndarray, np.ndarray]:
    """Prototypes of one multiplicity and the sums of their own class means, shape (S_m, d) each.

    Raises
    ------
    UndefinedMetric
        If the multiplicity does not occur, or a class of one of its label sets has no sample of multiplicity one.
    """
    distribution = condensed.distribution
    chosen = distribution.multiplicity == multiplicity
    if not chosen.any():
        raise UndefinedMetric(f"no label set of multiplicity {multiplicity}")
    indicator = distribution.indicator[chosen]  # (S_m, K)
    means = single_prototypes(condensed.prototypes, distribution)  # (K, d)
    unknown = np.isnan(means).any(axis=1)
    _require_singles(unknown & (indicator.sum(axis=0) > 0), distribution)
    return condensed.prototypes[chosen], indicator @ np.where(unknown[:, None], 0.0, means)


def _unit(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not norms.all():
        raise UndefinedMetric("a prototype, or a sum of class means, is 0 and has no direction")
    return vectors / norms


def angle_metric(condensed: Condensed, multiplicity: int) -> float:
    """Angle metric of one multiplicity, theory.md (18).

    The mean angle between each prototype and the sum of its own class means, over the mean angle between all
    prototypes and all such sums of that multiplicity, the right ones included. The code of Li et al. is the same
    for m = 2 where all pairs of classes occur.

    Raises
    ------
    UndefinedMetric
        As `members_sums`; or if a vector is 0, or there is a single label set.
    """
    prototypes, sums = members_sums(condensed, multiplicity)  # (S_m, d) each
    if len(prototypes) == 1:
        raise UndefinedMetric(f"a single label set of multiplicity {multiplicity}: nothing to compare with")
    left, right = _unit(prototypes), _unit(sums)
    # 2 atan2(‖u − v‖, ‖u + v‖) is the clipped arccos without its loss of digits near 0: exact collapse gives 0.
    own = 2 * np.arctan2(np.linalg.norm(left - right, axis=1), np.linalg.norm(left + right, axis=1))
    total = 0.0
    for start in range(0, len(left), _ANGLE_ROWS):
        total += float(np.arccos(np.clip(left[start : start + _ANGLE_ROWS] @ right.T, -1.0, 1.0)).sum())
    if total == 0:
        raise UndefinedMetric("all prototypes and all sums of class means have one direction")
    return float(own.mean() / (total / len(left) ** 2))


class Contrast(NamedTuple):
    """Weakest contrast between classes: σ_min/σ_max on 1^⊥, and its unit vector, shape (K,), on 1^⊥."""

    value: float
    contrast: np.ndarray


def weakest_contrast(rows: np.ndarray) -> Contrast:
    """Contrast of classes that a matrix with one row per class (class means, or W) resolves least.

    Parameters
    ----------
    rows : ndarray, shape (K, d)
        Their mean over classes plays no role. With d < K − 1 the weakest singular value is 0.

    Raises
    ------
    UndefinedMetric
        If all rows are equal.
    """
    basis = contrast_basis(len(rows))  # (K, K−1)
    missing = max(0, len(rows) - 1 - rows.shape[1])
    contrasts = np.pad(basis.T @ rows, ((0, 0), (0, missing)))  # (K−1, max(d, K−1))
    left, singular, _ = np.linalg.svd(contrasts, full_matrices=False)
    if singular[0] == 0:
        raise UndefinedMetric("all rows are equal")
    contrast = basis @ left[:, -1]
    return Contrast(float(singular[-1] / singular[0]), contrast * np.sign(contrast[np.abs(contrast).argmax()]))


def weakest_logits(logits: np.ndarray, distribution: LabelDistribution) -> float:
    """σ_{K−1} of Z D^{1/2} on 1^⊥: how strongly the logits of prototypes, shape (S, K), tell the hardest contrast.

    D holds the shares of the samples that carry each label set, whatever weights training gave them.
    """
    rows = np.sqrt(distribution.weights)[:, None] * logits @ contrast_basis(distribution.classes)  # (S, K−1)
    singular = np.linalg.svd(rows, compute_uv=False)
    return float(singular[-1]) if len(singular) == distribution.classes - 1 else 0.0
