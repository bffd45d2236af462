"""Sampling weights over label sets that strengthen the weakest contrast: theory.md (19), an E-optimal design."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from scipy import sparse

from ncpipe.errors import InputError, check_choice, check_instance, check_number
from ncpipe.jobs import one_thread
from ncpipe.labels.distribution import TARGETS, LabelDistribution, Target, contrast_basis

Scheme = Literal["class_balanced", "inverse_frequency", "effective_number"]
Method = Literal["semidefinite", "first_order"]

_DENSE = 400  # label sets, and 30 classes, up to which the semidefinite program is solved
_DENSE_CLASSES = 30
_SOLVED = ("Solved", "AlmostSolved")  # Clarabel's words
_ITERATIONS = 60  # for each smoothing
_SMOOTHING = (0.3, 0.1, 0.03, 0.01, 0.003)  # of the soft minimum, in units of κ
_TOLERANCE = 1e-3  # relative distance of κ from its upper bound at which the first-order method ends
_RELAX = 0.9  # the estimated curvature may fall again
_BISECTIONS = 60
_ROUNDING = 1e-13


@dataclass(frozen=True)
class Rebalancing:
    """Weights q over label sets, and how good they are.

    Parameters
    ----------
    weights : ndarray, shape (S,)
        q_S, summing to 1; equivalently factors q_S / w_S on the loss *and* the feature penalty of each sample.
    kappa : float
        κ_pool under these weights.
    upper_bound : float
        No weights within the caps have a larger κ_pool.
    kappa_before : float
        κ_pool of the distribution as it is.
    """

    weights: np.ndarray
    kappa: float
    upper_bound: float
    kappa_before: float


def frequency_weights(distribution: LabelDistribution, scheme: Scheme, *, beta: float = 0.999) -> np.ndarray:
    """Weights q over label sets from class frequencies n_k alone, shape (S,), summing to 1.

    Parameters
    ----------
    distribution : LabelDistribution
    scheme : {"class_balanced", "inverse_frequency", "effective_number"}
        Factor of a sample with label set S: the mean of 1/n_k over its classes; the sum of 1/n_k (what sampling a
        class uniformly, then one of its samples, amounts to); the mean of (1 − β)/(1 − β^n_k), the inverse effective
        number of samples of Cui et al. (CVPR 2019). n_k counts all samples that carry the class.
    beta : float
        β of the effective number.

    Examples
    --------
    >>> labels = LabelDistribution.from_counts({(0,): 30, (1,): 20, (2,): 10, (0, 1): 6, (1, 2): 6}, classes=3)
    >>> frequency_weights(labels, "class_balanced").round(3)
    array([0.328, 0.246, 0.246, 0.07 , 0.111])
    """
    check_instance("distribution", distribution, LabelDistribution)
    check_choice("scheme", scheme, get_args(Scheme))
    if check_number("beta", beta, least=0) >= 1:
        raise InputError(f"beta: found {beta}; allowed: a number >= 0 and < 1")
    counts = distribution.class_counts()
    seen = counts > 0
    number = (1 - beta ** counts[seen]) / (1 - beta) if scheme == "effective_number" else counts[seen]
    factor = np.zeros(len(counts))
    factor[seen] = 1 / number
    weights = distribution.weights * (distribution.indicator @ factor)
    if scheme != "inverse_frequency":
        weights = weights / distribution.multiplicity
    return weights / weights.sum()


@one_thread
def rebalance(
    distribution: LabelDistribution, target: Target, *, cap: float, method: Method | None = None
) -> Rebalancing:
    """Weights that maximise κ_pool with the share of each multiplicity kept and w_S/ρ <= q_S <= ρ w_S (theory.md (19)).

    The semidefinite program is exact; above 30 classes or 400 label sets a first-order method on a soft minimum is
    used, which gets within about a percent. The upper bound is rigorous for both: for any unit-trace V ⪰ 0 on 1^⊥ it is
    the largest Σ q_S tᵀVt within the caps, a knapsack.

    Parameters
    ----------
    distribution : LabelDistribution
    target : {"normalised", "raw"}
    cap : float
        ρ >= 1.
    method : {"semidefinite", "first_order"}, optional
        By default chosen by size.

    Raises
    ------
    InputError
        If the cap is below 1, or a word is not allowed.

    Examples
    --------
    >>> labels = LabelDistribution.from_counts({(0,): 30, (1,): 20, (2,): 10, (0, 1): 6, (1, 2): 6}, classes=3)
    >>> found = rebalance(labels, "normalised", cap=2)
    >>> round(found.kappa_before, 3), round(found.kappa, 3)
    (0.211, 0.292)
    """
    check_instance("distribution", distribution, LabelDistribution)
    check_choice("target", target, TARGETS)
    check_number("cap", cap, least=1)
    if method is not None:
        check_choice("method", method, get_args(Method))
    problem = _Design(distribution, target, cap)
    if method is None:
        small = distribution.classes <= _DENSE_CLASSES and len(distribution.counts) <= _DENSE
        method = "semidefinite" if small else "first_order"
    weights, bound = (_semidefinite if method == "semidefinite" else _accelerated)(problem)
    before = problem.kappa(distribution.weights)
    if before <= _ROUNDING:  # κ <= ρ κ_before: a class that is not there cannot be weighted up
        return Rebalancing(distribution.weights, before, cap * before, before)
    after = problem.kappa(weights)
    if after < before:  # the solver's rounding, where nothing can be gained
        weights, after = distribution.weights, before
    return Rebalancing(weights, after, max(bound, after), before)


class _Design:
    """The contrasts of the targets, the caps, and the two things every method asks: κ(q) and the best vertex."""

    def __init__(self, distribution: LabelDistribution, target: Target, cap: float) -> None:
        self.rows = distribution.targets(target) @ contrast_basis(distribution.classes)  # (S, K-1)
        self.start = distribution.weights
        self.lower, self.upper = self.start / cap, self.start * cap
        self.groups = [np.flatnonzero(distribution.multiplicity == m) for m in distribution.multiplicities]

    def matrix(self, q: np.ndarray) -> np.ndarray:
        """Σ q_S P t tᵀ P in the contrast basis, (K-1, K-1)."""
        return self.rows.T @ (self.rows * q[:, None])

    def kappa(self, q: np.ndarray) -> float:
        return max(float(np.linalg.eigvalsh(self.matrix(q))[0]), 0.0)

    def gains(self, density: np.ndarray) -> np.ndarray:
        """Derivatives tᵀVt of <V, matrix(q)>, (S,)."""
        return ((self.rows @ density) * self.rows).sum(axis=1)

    def vertex(self, gains: np.ndarray) -> np.ndarray:
        """The q within caps and shares that maximises gains · q: each multiplicity fills the best label sets first."""
        q = self.lower.copy()
        for rows in self.groups:
            order = rows[np.argsort(-gains[rows], kind="stable")]
            room = self.upper[order] - self.lower[order]
            left = self.start[rows].sum() - self.lower[rows].sum()
            filled = np.minimum(np.cumsum(room), left)
            q[order] += np.diff(filled, prepend=0.0)
        return q

    def project(self, x: np.ndarray) -> np.ndarray:
        """The nearest x = q / w within caps and shares, in the metric of w: one shift for each multiplicity."""
        projected = np.empty_like(x)
        for rows in self.groups:
            w, lower, upper = self.start[rows], self.lower[rows] / self.start[rows], self.upper[rows] / self.start[rows]
            low, high = (lower - x[rows]).min(), (upper - x[rows]).max()
            for _ in range(_BISECTIONS):
                middle = (low + high) / 2
                if w @ np.clip(x[rows] + middle, lower, upper) < w.sum():
                    low = middle
                else:
                    high = middle
            projected[rows] = np.clip(x[rows] + high, lower, upper)
        return projected

    def bound(self, density: np.ndarray) -> float:
        """Upper bound on κ from a matrix V, made positive semidefinite with unit trace first."""
        values, vectors = np.linalg.eigh((density + density.T) / 2)
        values = np.maximum(values, 0.0)
        density = (vectors * (values / values.sum())) @ vectors.T
        gains = self.gains(density)
        return float(gains @ self.vertex(gains))


def _semidefinite(problem: _Design) -> tuple[np.ndarray, float]:
    """Clarabel's weights, made feasible, and the bound from its multiplier; the other method where it gives up."""
    solution = _conic(problem)
    if str(solution.status) not in _SOLVED:
        return _accelerated(problem)
    size = problem.rows.shape[1]
    column, row = np.tril_indices(size)
    multiplier = np.empty((size, size))
    stacked = np.array(solution.z)[-len(row) :] / np.where(row == column, 1.0, np.sqrt(2.0))
    multiplier[row, column] = multiplier[column, row] = stacked
    weights = np.clip(np.array(solution.x)[1:], problem.lower, problem.upper)
    for rows in problem.groups:  # rounding of the shares, undone within the caps
        missing = problem.start[rows].sum() - weights[rows].sum()
        room = problem.upper[rows] - weights[rows] if missing > 0 else weights[rows] - problem.lower[rows]
        if room.sum() > 0:
            weights[rows] += missing * room / room.sum()
    return weights, problem.bound(multiplier)


def _conic(problem: _Design) -> Any:
    """Clarabel's solution of: max κ over (κ, q), shares kept, lower <= q <= upper, matrix(q) − κI ⪰ 0.

    Its form: min cᵀx with b − Ax in the cones, one below the other; a symmetric matrix is its upper triangle column by
    column, off-diagonal entries times √2. The order of rows and columns decides the last bits of the weights.
    """
    import clarabel

    sets, size = problem.rows.shape
    column, row = np.tril_indices(size)
    scale = np.where(row == column, 1.0, np.sqrt(2.0))
    triangle = problem.rows[:, row] * problem.rows[:, column] * scale  # (S, size (size + 1) / 2)
    shares = np.zeros((len(problem.groups), sets))
    for share, rows in zip(shares, problem.groups, strict=True):
        share[rows] = 1.0
    of_kappa = np.concatenate([np.zeros(len(shares) + 2 * sets), row == column])
    of_weights = np.vstack([shares, -np.eye(sets), np.eye(sets), -triangle.T])
    total = [problem.start[rows].sum() for rows in problem.groups]
    cones = [
        clarabel.ZeroConeT(len(shares)),
        clarabel.NonnegativeConeT(2 * sets),
        clarabel.PSDTriangleConeT(size),
    ]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    return clarabel.DefaultSolver(
        sparse.csc_array((1 + sets, 1 + sets)),
        np.array([-1.0] + [0.0] * sets),
        sparse.csc_array(np.column_stack([of_kappa, of_weights])),
        np.concatenate([total, -problem.lower, problem.upper, np.zeros(len(scale))]),
        cones,
        settings,
    ).solve()


def _soft_minimum(matrix: np.ndarray, smoothing: float) -> tuple[float, np.ndarray]:
    """−μ ln tr exp(−A/μ) and its gradient, a density matrix."""
    values, vectors = np.linalg.eigh(matrix)
    weights = np.exp(-(values - values[0]) / smoothing)
    total = weights.sum()
    return values[0] - smoothing * np.log(total), (vectors * (weights / total)) @ vectors.T


def _accelerated(problem: _Design) -> tuple[np.ndarray, float]:
    """Accelerated projected ascent (FISTA with restart) on the soft minimum, ever less smooth, in x = q / w."""
    w = problem.start
    x = best = np.ones(len(w))
    highest, bound = problem.kappa(w), np.inf
    curvature = 1.0
    for smoothing in _SMOOTHING:
        scale = smoothing * highest
        value = _soft_minimum(problem.matrix(w * x), scale)[0]
        y, momentum = x, 1.0
        for _ in range(_ITERATIONS):
            at, density = _soft_minimum(problem.matrix(w * y), scale)
            gains = problem.gains(density)
            bound = min(bound, float(gains @ problem.vertex(gains)))
            if bound - highest <= _TOLERANCE * bound:
                return w * best, bound
            while True:
                moved = problem.project(y + gains / curvature)
                matrix, step = problem.matrix(w * moved), moved - y
                after, _ = _soft_minimum(matrix, scale)
                if after >= at + (w * gains) @ step - curvature / 2 * (w @ step**2) - _ROUNDING * abs(at):
                    break
                curvature *= 2
            kappa = float(np.linalg.eigvalsh(matrix)[0])
            if kappa > highest:
                highest, best = kappa, moved
            if after < value and momentum > 1:
                y, momentum = x, 1.0  # the momentum led downhill: start again from the last point
                continue
            following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            y = moved + (momentum - 1) / following * (moved - x)
            x, value, momentum = moved, after, following
            curvature *= _RELAX
    return w * best, bound
