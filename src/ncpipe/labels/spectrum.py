"""The label covariance spectrum, theory.md (1)-(6): what label statistics alone say about class contrasts."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, eigsh, lobpcg

from ncpipe.errors import InputError, check_choice, check_instance, check_number
from ncpipe.jobs import one_thread
from ncpipe.labels.distribution import TARGETS, LabelDistribution, Target, contrast_basis

DENSE_CLASSES = 600  # up to here every eigenvalue is computed; beyond, the two ends, never a dense K x K matrix

ISOTROPIC = 1e-9  # anisotropy, and relative spread of class frequencies, up to which they count as 0

_DEGENERATE = 1e-9  # eigenvalues this close (relative to the largest) to the smallest share its eigenspace
_KRYLOV_ITERATIONS = 2000
_KRYLOV_BLOCK = 4


@dataclass(frozen=True)
class Spectrum:
    """Spectrum of one label covariance on the contrast space 1^⊥.

    Parameters
    ----------
    kappa, kappa_max : float
        Smallest and largest eigenvalue on 1^⊥ (4).
    eigenvalues : ndarray
        All K - 1 of them, descending (3); only the two ends where K > `DENSE_CLASSES`.
    weakest : ndarray, shape (K,)
        Unit contrast that attains kappa; its largest entry is positive. Where several do, the one closest to a
        single class, so that equal input gives equal output.
    accuracy : float
        Residual norm: an eigenvalue lies this close to kappa (iterative), or rounding (dense).
    """

    kappa: float
    kappa_max: float
    eigenvalues: np.ndarray
    weakest: np.ndarray
    accuracy: float

    @property
    def anisotropy(self) -> float:
        """δ = 1 - κ/κ_max (4); NaN where the covariance is 0 (m = K)."""
        return 1.0 - self.kappa / self.kappa_max if self.kappa_max > 0 else float("nan")


def is_isotropic(anisotropy: float | None) -> bool:
    """Whether all contrasts are alike: δ = 0 but for rounding, or undefined (None, NaN), as there is no contrast."""
    return anisotropy is None or not anisotropy > ISOTROPIC


def isotropic(distribution: LabelDistribution) -> bool:
    """Whether C_m ∝ P for every multiplicity present: then tag-wise averaging is exact, theory.md (24).

    With a bias this also needs equal class frequencies, which δ_m = 0 implies unless K = 2m; both are checked.
    """
    for m in distribution.multiplicities:
        if m == distribution.classes:
            continue
        frequency = distribution.class_counts(m)
        if np.ptp(frequency) > ISOTROPIC * frequency.max():
            return False
        if not is_isotropic(multiplicity_spectrum(distribution, m).anisotropy):
            return False
    return True


@one_thread
def multiplicity_spectrum(distribution: LabelDistribution, multiplicity: int) -> Spectrum:
    """Spectrum of C_m = P E[yyᵀ | |S| = m] P, theory.md (2)-(4).

    Raises
    ------
    InputError
        If no label set has this multiplicity.
    """
    part = distribution.restrict(multiplicity)
    return _spectrum(part.indicator, part.weights)


@dataclass(frozen=True, eq=False)
class Spectra:
    """The spectra of a label distribution.

    Parameters
    ----------
    by_multiplicity : dict of int to Spectrum
        C_m of each multiplicity that occurs, theory.md (2).
    pooled : Spectrum
        C_pool of the targets, theory.md (6).
    """

    by_multiplicity: dict[int, Spectrum]
    pooled: Spectrum


def spectrum(distribution: LabelDistribution, target: Target = "normalised") -> Spectra:
    """Spectra of the label covariances, of each multiplicity and pooled: theory.md (1)-(6).

    Parameters
    ----------
    distribution : LabelDistribution
    target : {"normalised", "raw"}
        Of the pooled one.

    Raises
    ------
    InputError
        If the distribution is none, or the target neither.

    Examples
    --------
    >>> from ncpipe import LabelDistribution, spectrum
    >>> labels = LabelDistribution.from_counts({(0,): 30, (1,): 20, (2,): 10, (0, 1): 6, (1, 2): 6}, classes=3)
    >>> spectra = spectrum(labels)
    >>> round(spectra.by_multiplicity[1].kappa, 4), round(spectra.pooled.kappa, 4)
    (0.2371, 0.2112)
    >>> spectra.pooled.weakest.round(2)  # the contrast that these labels say least about
    array([-0.18, -0.6 ,  0.78])
    """
    check_instance("distribution", distribution, LabelDistribution)
    check_choice("target", target, TARGETS)
    return Spectra(
        {m: multiplicity_spectrum(distribution, m) for m in distribution.multiplicities},
        pooled_spectrum(distribution, target),
    )


@one_thread
def kappa_covariance(distribution: LabelDistribution, multiplicity: int) -> float:
    """Smallest eigenvalue on 1^⊥ of the covariance Σ_m = M_m - p_m p_mᵀ, the one for a free bias (theory.md §1).

    Raises
    ------
    InputError
        If no label set has this multiplicity.
    """
    part = distribution.restrict(multiplicity)
    return _spectrum(part.indicator, part.weights, centre=True).kappa


@one_thread
def pooled_spectrum(
    distribution: LabelDistribution, target: Target, *, scales: Mapping[int, float] | None = None
) -> Spectrum:
    """Spectrum of C(s) = Σ_m w_m (s_m a_m)² C_m, theory.md (5); C_pool of (6) where no scales s_m are given.

    Raises
    ------
    InputError
        If the target is unknown, or a multiplicity that occurs has no scale.
    """
    return _spectrum(distribution.indicator, _pooled_weights(distribution, target, scales))


@one_thread
def pooled_covariance(
    distribution: LabelDistribution,
    target: Target,
    *,
    scales: Mapping[int, float] | None = None,
    centre: bool = False,
) -> np.ndarray:
    """Dense C(s) of theory.md (5), shape (K, K); with `centre`, P Cov(t) P instead.

    Raises
    ------
    InputError
        If the target is unknown, a multiplicity that occurs has no scale, or scales are given with `centre`.
    """
    if centre and scales is not None:
        raise InputError("scales: found some with centre=True; Cov(t) has none")
    weights = _pooled_weights(distribution, target, scales)
    matrix = _project((distribution.indicator.T @ (distribution.indicator * weights[:, None])).toarray())
    if centre:
        mean = distribution.weights @ distribution.targets(target)
        mean -= mean.mean()
        matrix -= np.outer(mean, mean)
    return matrix


def _pooled_weights(distribution: LabelDistribution, target: Target, scales: Mapping[int, float] | None) -> np.ndarray:
    """w_S (s_m a_m)², shape (S,)."""
    multiplicity = distribution.multiplicity
    amplitude = distribution.tau(target) / multiplicity  # a_m
    if scales is not None:
        for m in distribution.multiplicities:
            check_number(f"scale of multiplicity {m}", scales.get(m), least=0)
        amplitude = amplitude * np.array([scales[int(m)] for m in multiplicity])
    return distribution.weights * amplitude**2


def _project(matrix: np.ndarray) -> np.ndarray:
    """P A P."""
    rows = matrix - matrix.mean(axis=0)
    return rows - rows.mean(axis=1, keepdims=True)


def _spectrum(indicator: sparse.csr_array, weights: np.ndarray, *, centre: bool = False) -> Spectrum:
    """Spectrum on 1^⊥ of P (Σ_S v_S y yᵀ) P, minus the outer product of its mean with `centre`."""
    if indicator.shape[1] <= DENSE_CLASSES:
        return _dense(indicator, weights, centre=centre)
    return _krylov(indicator, weights, centre=centre)


def _dense(indicator: sparse.csr_array, weights: np.ndarray, *, centre: bool) -> Spectrum:
    moment = (indicator.T @ (indicator * weights[:, None])).toarray()  # (K, K)
    if centre:
        mean = indicator.T @ weights
        moment -= np.outer(mean, mean)
    basis = contrast_basis(len(moment))  # the trivial 0 along 1 never enters, and no other is dropped
    values, vectors = np.linalg.eigh(basis.T @ moment @ basis)
    rounding = len(moment) * np.finfo(float).eps * float(np.trace(moment))
    values = np.where(values <= rounding, 0.0, values)
    kappa, kappa_max = float(values[0]), float(values[-1])
    space = basis @ vectors[:, values <= kappa + _DEGENERATE * kappa_max]  # eigenspace of kappa, (K, dimension)
    return Spectrum(kappa, kappa_max, values[::-1], _representative(space), rounding)


def _representative(space: np.ndarray) -> np.ndarray:
    """The unit vector of a space (orthonormal columns) with the largest entry: the same for every basis of it."""
    lengths = np.linalg.norm(space, axis=1)  # ‖Π e_k‖ is the largest entry k that a unit vector of the space has
    chosen = int(np.flatnonzero(lengths >= lengths.max() * (1 - 1e-9))[0])
    return space @ space[chosen] / lengths[chosen]


def _krylov(indicator: sparse.csr_array, weights: np.ndarray, *, centre: bool) -> Spectrum:
    classes = indicator.shape[1]
    multiplicity = np.diff(indicator.indptr)
    spread = np.where(multiplicity < classes, weights, 0.0)  # of the label sets that a contrast sees
    if centre:
        spread[np.argmax(spread)] = 0.0  # deviations from the heaviest one are what is left
    if spread.sum() <= np.finfo(float).eps * weights.sum():  # nothing to iterate on: every eigenvalue is 0
        first = np.full(classes, -1.0 / classes)
        first[0] += 1.0
        norm = float(4 * spread @ multiplicity)  # at least that of the operator
        return Spectrum(0.0, 0.0, np.zeros(2), first / np.linalg.norm(first), norm)
    scaled = sparse.csr_array(indicator * np.sqrt(weights)[:, None])  # A = diag(v)^{1/2} Y
    mean = indicator.T @ weights

    def apply(contrasts: np.ndarray) -> np.ndarray:
        contrasts = contrasts.reshape(classes, -1)
        contrasts = contrasts - contrasts.mean(axis=0)
        image = scaled.T @ (scaled @ contrasts)
        if centre:
            image = image - np.outer(mean, mean @ contrasts)
        return image - image.mean(axis=0)

    operator = LinearOperator((classes, classes), matvec=lambda x: apply(x).ravel(), matmat=apply, dtype=float)
    generator = np.random.default_rng(0)  # start vectors only: fixed, so that equal input gives equal output
    start = generator.standard_normal((classes, _KRYLOV_BLOCK))
    kappa_max = float(eigsh(operator, k=1, which="LA", v0=start[:, 0] - start[:, 0].mean(), tol=1e-12)[0][0])
    contrast = _null_contrast(indicator)
    if contrast is None:
        diagonal = np.asarray(indicator.T @ weights)  # of the moment matrix: rare classes make the weak directions
        inverse = 1.0 / np.maximum(diagonal, 1e-3 * diagonal.max() / classes)
        preconditioner = LinearOperator(
            (classes, classes),
            matvec=lambda x: inverse * x.ravel(),
            matmat=lambda x: inverse[:, None] * x,
            dtype=float,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of an unmet tolerance: `accuracy` says what was reached
            values, vectors = lobpcg(
                operator,
                start,
                M=preconditioner,
                Y=np.full((classes, 1), classes**-0.5),
                largest=False,
                tol=1e-12 * kappa_max,
                maxiter=_KRYLOV_ITERATIONS,
            )
        contrast = vectors[:, int(np.argmin(values))]
    contrast = contrast - contrast.mean()
    contrast = contrast / np.linalg.norm(contrast)
    contrast = contrast * np.sign(contrast[np.argmax(np.abs(contrast))])
    image = apply(contrast).ravel()
    kappa = max(float(contrast @ image), 0.0)  # a Rayleigh quotient: never below the smallest eigenvalue
    accuracy = float(np.linalg.norm(image - kappa * contrast))
    if kappa <= classes * np.finfo(float).eps * kappa_max:
        kappa = 0.0
    return Spectrum(kappa, kappa_max, np.array([kappa_max, kappa]), contrast, accuracy)


def _null_contrast(indicator: sparse.csr_array) -> np.ndarray | None:
    """e_a - e_b for two classes that no label set tells apart (both unseen, or always together): kappa is 0."""
    columns = sparse.csc_array(indicator)
    columns.sort_indices()
    first: dict[bytes, int] = {}
    for k in range(columns.shape[1]):
        key = columns.indices[columns.indptr[k] : columns.indptr[k + 1]].tobytes()
        if key in first:
            contrast = np.zeros(columns.shape[1])
            contrast[first[key]], contrast[k] = np.sqrt(0.5), -np.sqrt(0.5)
            return contrast
        first[key] = k
    return None
