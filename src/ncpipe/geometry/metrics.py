"""The collapse metrics (15)-(18) of theory.md as pure functions of prototypes and the scatter around them.

Everything that depends on single samples is condensed first (`ncpipe.geometry.moments`): the mean of each label set
and the within-class scatter on the span of the class means. The metrics are functions of a few small matrices, the same
for a network's features, for the moments that a run kept of them, and for a certified optimum's prototypes.

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

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from ncpipe.errors import InputError, check_array, check_choice, check_instance, check_positions, check_whole
from ncpipe.geometry.moments import Moments, moments, span
from ncpipe.geometry.synthesis import check_prototypes, single_prototypes
from ncpipe.labels.distribution import LabelDistribution, contrast_basis
from ncpipe.labels.names import label_set_name

Variant = Literal["definition", "li2024"]
VARIANTS: tuple[Variant, ...] = ("definition", "li2024")

# Eigenvalues of Σ_B below this share of the largest count as 0 in its pseudo-inverse, for both variants. Class means of
# float32 features carry a rounding of 1e-7, so 1e-14 in eigenvalues: anything above 1e-10 is a direction, not noise.
PINV_CUTOFF = 1e-10

_ANGLE_ROWS = 1024
_CLASSIFIER = ("class", "feature")


class UndefinedMetric(ValueError):  # noqa: N818 - a metric without a value is an answer, not a fault
    """A metric has no value for these inputs; the message is the reason that goes beside the missing value.

    Examples
    --------
    >>> labels, label_set = as_distribution([[0], [0, 1]])
    >>> condensed = condense([[1.0, 0.0], [1.0, 1.0]], label_set, labels)
    >>> try:
    ...     nc1(condensed, "definition")
    ... except UndefinedMetric as reason:
    ...     print(reason)
    no sample of multiplicity one in the classes 1
    """


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
        check_choice("variant", variant, VARIANTS)
        if variant == "definition":
            return self.class_means.mean(axis=0)
        return self.distribution.class_counts(1) @ self.class_means / self.distribution.samples


def _require_singles(missing: np.ndarray, distribution: LabelDistribution) -> None:
    if missing.any():
        names = ", ".join(distribution.class_names[k] for k in np.flatnonzero(missing))
        raise UndefinedMetric(f"no sample of multiplicity one in the classes {names}")


def condense(features: np.ndarray, label_set: np.ndarray, distribution: LabelDistribution) -> Condensed:
    """Condense the features of a split into their moments.

    Parameters
    ----------
    features : array-like, shape (N, d)
        Finite. An array, a frame or a torch tensor; float32 stays float32, whole numbers and float16 become float64.
    label_set : array-like of int, shape (N,)
        Position of each sample's label set in `distribution`. Fastest where ascending.
    distribution : LabelDistribution
        The label sets of these samples, with the counts that `label_set` has.

    Raises
    ------
    InputError
        If shapes, dtypes or values cannot be, or `label_set` does not have the distribution's counts.

    Examples
    --------
    >>> labels, label_set = as_distribution([[0], [0], [1], [1], [0, 1]])
    >>> features = np.array([[2.0, 0, 0], [1.8, 0, 0.1], [0, 2, 0], [0, 1.8, 0.1], [1, 1.1, 0]])
    >>> condense(features, label_set, labels).class_means.round(2)
    array([[1.9 , 0.  , 0.05],
           [0.  , 1.9 , 0.05]])
    """
    check_instance("distribution", distribution, LabelDistribution)
    features = check_array("features", features, ("sample", "feature"))
    sets = len(distribution.counts)
    label_set = check_positions("label_set", label_set, "sample", length=len(features), limit=sets)
    counted = np.bincount(label_set, minlength=sets)
    if not np.array_equal(counted, distribution.counts):
        odd = int((counted != distribution.counts).argmax())
        name = label_set_name(distribution.label_sets[odd], distribution.class_names)
        raise InputError(
            f"label_set: found {counted[odd]} samples of label set {name}; the distribution has "
            f"{distribution.counts[odd]:g}"
        )
    return from_moments(moments(features, label_set, distribution.multiplicity), distribution)


def from_moments(features: Moments, distribution: LabelDistribution) -> Condensed:
    """Condensed form of features whose moments are known, in the order of `distribution`."""
    return Condensed(features.prototypes, distribution, features.basis, features.scatter)


def collapsed(prototypes: np.ndarray, distribution: LabelDistribution) -> Condensed:
    """Condensed form of features that have collapsed onto their prototypes, shape (S, d): no scatter.

    Raises
    ------
    InputError
        If there is not one finite row for each label set.
    """
    prototypes = check_prototypes(prototypes, distribution)
    basis = span(prototypes[distribution.multiplicity == 1])
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

    Examples
    --------
    >>> labels, label_set = as_distribution([[0], [0], [1], [1], [0, 1]])
    >>> features = np.array([[2.0, 0, 0], [1.8, 0, 0.1], [0, 2, 0], [0, 1.8, 0.1], [1, 1.1, 0]])
    >>> condensed = condense(features, label_set, labels)
    >>> round(nc1(condensed, "definition"), 4)
    0.0014
    """
    check_instance("condensed", condensed, Condensed)
    deviations = (condensed.class_means - condensed.centre(variant)) @ condensed.basis  # (K, r)
    singular, right = np.linalg.svd(deviations, full_matrices=False)[1:]
    if singular.max(initial=0.0) == 0:
        raise UndefinedMetric("all class means equal their centre")
    resolved = singular**2 > PINV_CUTOFF * singular[0] ** 2
    directions = right[resolved]  # (rank, r)
    spread = np.einsum("jr,rs,js->j", directions, condensed.scatter, directions)
    return float((spread / singular[resolved] ** 2).sum())


def simplex_distance(gram: np.ndarray) -> float:
    """‖G/‖G‖_F − P/√(K−1)‖_F, P = I − 11ᵀ/K: distance of a K × K matrix from the simplex ETF's, (16) and (17).

    Raises
    ------
    UndefinedMetric
        If the matrix is 0.
    InputError
        If it is not square and finite, or K < 2.
    """
    gram = check_array("gram", gram, ("class", "class")).astype(np.float64, copy=False)
    classes, norm = len(gram), np.linalg.norm(gram)
    if classes < 2 or gram.shape[1] != classes:
        raise InputError(f"gram: found shape {gram.shape}; allowed: K x K with K >= 2")
    if norm == 0:
        raise UndefinedMetric("its matrix is 0")
    simplex = (np.eye(classes) - 1 / classes) / np.sqrt(classes - 1)
    return float(np.linalg.norm(gram / norm - simplex))


def nc2_w(weight: np.ndarray, *, classes: int | None = None) -> float:
    """Distance of the classifier from a simplex ETF, theory.md (16). Neither variant centres W.

    Parameters
    ----------
    weight : array-like, shape (K, d)
        One row for each class, as `torch.nn.Linear` has it.
    classes : int, optional
        K. A matrix alone does not say which of its sides counts classes: without `classes` it must have d >= K - 1,
        which every simplex ETF needs, so that a classifier given the wrong way round is refused. For a narrower one
        give its number of classes.

    Raises
    ------
    UndefinedMetric
        If W is 0.
    InputError
        If it is no finite matrix with K rows.

    Examples
    --------
    >>> weight = np.array([[1.0, -0.8, 0], [-0.9, 1, 0]])
    >>> round(nc2_w(weight), 4)
    0.0358
    """
    weight = check_array("weight", weight, _CLASSIFIER, sizes=None if classes is None else (classes, None))
    weight = weight.astype(np.float64, copy=False)
    rows, width = weight.shape
    if classes is None and width < rows - 1:
        raise InputError(
            f"weight: found shape {weight.shape}; allowed: class x feature with as many features as classes less one; "
            f"is it the wrong way round? If {rows} classes have {width} features, give classes={rows}"
        )
    return simplex_distance(weight @ weight.T)


def nc2_h(condensed: Condensed, variant: Variant) -> float:
    """Distance of the class means from a simplex ETF, theory.md (16): centred (definition) or not (li2024).

    Raises
    ------
    UndefinedMetric
        If a class has no sample of multiplicity one, or all class means are equal.

    Examples
    --------
    >>> labels, label_set = as_distribution([[0], [0], [1], [1], [0, 1]])
    >>> features = np.array([[2.0, 0, 0], [1.8, 0, 0.1], [0, 2, 0], [0, 1.8, 0.1], [1, 1.1, 0]])
    >>> condensed = condense(features, label_set, labels)
    >>> round(nc2_h(condensed, "definition"), 4), round(nc2_h(condensed, "li2024"), 4)
    (0.0, 0.766)
    """
    check_instance("condensed", condensed, Condensed)
    check_choice("variant", variant, VARIANTS)
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
    InputError
        If W is not finite or does not have one row for each class and one column for each feature.

    Examples
    --------
    >>> labels, label_set = as_distribution([[0], [0], [1], [1], [0, 1]])
    >>> features = np.array([[2.0, 0, 0], [1.8, 0, 0.1], [0, 2, 0], [0, 1.8, 0.1], [1, 1.1, 0]])
    >>> condensed = condense(features, label_set, labels)
    >>> weight = np.array([[1.0, -0.8, 0], [-0.9, 1, 0]])
    >>> round(nc3(weight, condensed, "definition"), 4)
    0.027
    """
    check_instance("condensed", condensed, Condensed)
    shape = condensed.distribution.classes, condensed.prototypes.shape[1]
    weight = check_array("weight", weight, _CLASSIFIER, sizes=shape).astype(np.float64, copy=False)
    return simplex_distance(weight @ (condensed.class_means - condensed.centre(variant)).T)


def members_sums(condensed: Condensed, multiplicity: int) -> tuple[np.ndarray, np.ndarray]:
    """Prototypes of one multiplicity and the sums of their own class means, shape (S_m, d) each.

    Raises
    ------
    UndefinedMetric
        If the multiplicity does not occur, or a class of one of its label sets has no sample of multiplicity one.
    """
    check_instance("condensed", condensed, Condensed)
    check_whole("multiplicity", multiplicity, least=1)
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

    Examples
    --------
    >>> labels, label_set = as_distribution([[0], [1], [2], [0, 1], [1, 2]])
    >>> features = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0.1], [0, 1, 0.9]])
    >>> condensed = condense(features, label_set, labels)
    >>> round(angle_metric(condensed, 2), 4)
    0.1156
    """
    prototypes, sums = members_sums(condensed, multiplicity)  # (S_m, d) each
    if len(prototypes) == 1:
        raise UndefinedMetric(f"a single label set of multiplicity {multiplicity}: nothing to compare with")
    left, right = _unit(prototypes), _unit(sums)
    # 2 atan2(‖u − v‖, ‖u + v‖) is the clipped arccos without its loss of digits near 0: exact collapse gives 0.
    angles = 2 * np.arctan2(np.linalg.norm(left - right, axis=1), np.linalg.norm(left + right, axis=1))
    total = 0.0
    for start in range(0, len(left), _ANGLE_ROWS):
        total += float(np.arccos(np.clip(left[start : start + _ANGLE_ROWS] @ right.T, -1.0, 1.0)).sum())
    if total == 0:
        raise UndefinedMetric("all prototypes and all sums of class means have one direction")
    return float(angles.mean() / (total / len(left) ** 2))


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
    InputError
        If they are not finite, or K < 2.
    """
    rows = check_array("rows", rows, ("class", "feature")).astype(np.float64, copy=False)
    if len(rows) < 2:
        raise InputError(f"rows: found shape {rows.shape}; allowed: at least 2 classes")
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
    shape = len(distribution.counts), distribution.classes
    logits = check_array("logits", logits, ("label set", "class"), sizes=shape)
    rows = np.sqrt(distribution.weights)[:, None] * logits @ contrast_basis(distribution.classes)  # (S, K−1)
    singular = np.linalg.svd(rows, compute_uv=False)
    return float(singular[-1]) if len(singular) == distribution.classes - 1 else 0.0
