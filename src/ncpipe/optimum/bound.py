"""The spectral lower bound on the minimum of (7) from label statistics alone: theory.md (10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import null_space
from scipy.optimize import minimize
from scipy.special import entr

from ncpipe.jobs import one_thread
from ncpipe.labels.distribution import LabelDistribution, contrast_basis
from ncpipe.objective.settings import Objective, check_problem

_CUTS = 60
_ZERO = 1e-12
_STATED_FOR = "stated for unweighted pick-all-labels with a learned classifier, not for"
_NO_MEAN = "a free bias asks for a zero mean of the residuals, met by s = 0 only"
_GAP = 1e-11  # between the relaxation and the best feasible point, at which no further cut is needed
_IDLE = 6  # rounds without a gain, after which SLSQP cannot do better
_INSIDE = 1e-13  # relative room left for the rounding of the largest eigenvalue
_STEEPEST = 1e-12  # the entropy's slope is infinite at s_m = 0: it is evaluated no closer than this


@dataclass(frozen=True)
class SpectralBound:
    """The bound (10) and where it is attained.

    Parameters
    ----------
    value : float or None
        f* >= value; None where the bound is not available.
    s : dict of int to float
        s_m by multiplicity; empty where the bound is not available.
    cuts : int
        Eigenvector cuts that were needed.
    reason : str
        Why the bound is not available; empty otherwise.
    """

    value: float | None
    s: dict[int, float]
    cuts: int
    reason: str = ""


class _Statistics:
    """What (10) reads of a distribution; arrays over the M multiplicities that occur."""

    def __init__(self, distribution: LabelDistribution, objective: Objective) -> None:
        classes, m = distribution.classes, np.array(distribution.multiplicities)
        labels = distribution.indicator @ contrast_basis(classes)  # (S, K-1)
        weights = distribution.weights
        each = [distribution.multiplicity == k for k in m]
        self.classes, self.m = classes, m
        self.share = np.array([weights[rows].sum() for rows in each])  # w_m
        self.scale = 1.0 / m if objective.target == "normalised" else np.ones(len(m))  # a_m
        self.tau = m * self.scale
        # w_m C_m and w_m P p_m in the contrast basis
        self.second = np.array([labels[rows].T @ (labels[rows] * weights[rows, None]) for rows in each])
        self.first = np.array([weights[rows] @ labels[rows] for rows in each])  # (M, K-1)
        self.penalty = 1 / (2 * objective.lambda_b) if objective.bias_mode == "penalised" else 0.0

    def covariance(self, s: np.ndarray) -> np.ndarray:
        """C(s) of (5) on 1^⊥, shape (K-1, K-1)."""
        return np.einsum("m,mij->ij", (s * self.scale) ** 2, self.second)

    def value(self, s: np.ndarray) -> float:
        """Σ_m w_m τ_m E_m(s_m) − B(s)."""
        s = np.clip(s, 0.0, 1.0)
        rest = s / self.classes
        entropy = self.m * entr((1 - s) / self.m + rest) + (self.classes - self.m) * entr(rest)
        mean = (s * self.scale) @ self.first
        return float((self.share * self.tau) @ entropy - self.penalty * (mean @ mean))

    def slope(self, s: np.ndarray) -> np.ndarray:
        """Gradient of `value`, shape (M,)."""
        rest = np.maximum(s, _STEEPEST) / self.classes
        change = (1 - self.m / self.classes) * np.log((np.maximum(1 - s, 0.0) / self.m + rest) / rest)
        mean = (s * self.scale) @ self.first
        return self.share * self.tau * change - 2 * self.penalty * self.scale * (self.first @ mean)


@one_thread
def spectral_bound(distribution: LabelDistribution, objective: Objective) -> SpectralBound:
    """Lower bound (10) on the minimum of (7), from the C_m and p_m of the label sets.

    The concave maximisation over 0 <= s_m <= 1 is solved by Kelley's cutting planes: each round adds the
    eigenvector of the largest eigenvalue of C(s) as one scalar constraint. The last s is scaled into the feasible
    set, so that the value is a bound whatever the solver did.

    With a free bias (9) also asks that Σ_m w_m s_m a_m P p_m = 0. Where only s = 0 does that the bound would say
    nothing, and it is reported as not available; so it is for objectives that its statistics do not describe: other
    losses, class weights, a fixed classifier.

    Parameters
    ----------
    distribution : LabelDistribution
    objective : Objective

    Examples
    --------
    >>> labels = LabelDistribution.from_counts({(0,): 30, (1,): 20, (2,): 10, (0, 1): 6, (1, 2): 6}, classes=3)
    >>> objective = Objective("normalised", lambda_w=0.005, lambda_h=0.05, use_bias=False)
    >>> round(spectral_bound(labels, objective).value, 4), round(optimum(labels, objective).objective, 4)
    (0.2065, 0.2146)
    """
    check_problem(distribution, objective)
    if objective.variant:
        return SpectralBound(None, {}, 0, f"{_STATED_FOR} {objective.variant}")
    statistics = _Statistics(distribution, objective)
    count = len(statistics.m)
    basis = np.eye(count)
    if objective.bias_mode == "free":
        pull = (statistics.scale[:, None] * statistics.first).T  # (K-1, M)
        # means that are 0 up to rounding bind nothing
        basis = null_space(pull, rcond=_ZERO / max(float(np.linalg.norm(pull, 2)), _ZERO))
        basis[np.abs(basis) < _ZERO] = 0.0  # an s_m that must vanish has an infinite slope: take it out exactly
        if basis.shape[1] == 0:
            return SpectralBound(None, {}, 0, _NO_MEAN)
    s, cuts = _cutting_planes(statistics, basis, objective.lam)
    if objective.bias_mode == "free" and s.max() < _ZERO:
        return SpectralBound(None, {}, cuts, _NO_MEAN)
    return SpectralBound(statistics.value(s), dict(zip(statistics.m.tolist(), s.tolist(), strict=True)), cuts)


def _cutting_planes(statistics: _Statistics, basis: np.ndarray, lam: float) -> tuple[np.ndarray, int]:
    """The maximiser s (M,) within the span of `basis`, scaled to be feasible, and the number of cuts."""
    constraints: list[dict[str, Any]] = [
        {"type": "ineq", "fun": lambda z: basis @ z, "jac": lambda z: basis},
        {"type": "ineq", "fun": lambda z: 1 - basis @ z, "jac": lambda z: -basis},
    ]
    z, best = basis.T @ np.full(len(basis), 0.5), np.zeros(len(basis))
    cuts = idle = 0
    while True:
        z = minimize(
            lambda z: -statistics.value(basis @ z),
            z,
            jac=lambda z: -statistics.slope(basis @ z) @ basis,
            method="SLSQP",
            constraints=constraints,
            options={"maxiter": 200, "ftol": 1e-15},
        ).x
        relaxed = s = np.clip(basis @ z, 0.0, 1.0)
        values, vectors = np.linalg.eigh(statistics.covariance(s))
        if values[-1] > lam**2 * (1 - _INSIDE):
            s = s * (lam * (1 - _INSIDE) / np.sqrt(values[-1]))
        # the relaxation is an upper bound of the maximum, the scaled point a lower one
        gain = statistics.value(s) - statistics.value(best)
        best = s if gain > 0 else best
        closed = statistics.value(relaxed) - statistics.value(best) <= _GAP
        idle = 0 if gain > _GAP else idle + 1
        if closed or idle == _IDLE or cuts == _CUTS:
            return best, cuts
        # vᵀC(s)v <= λ² is quadratic in s, with these coefficients
        v = vectors[:, -1]
        quadratic = statistics.scale**2 * np.einsum("i,mij,j->m", v, statistics.second, v) / lam**2
        constraints.append(
            {
                "type": "ineq",
                "fun": lambda z, q=quadratic: 1 - q @ (basis @ z) ** 2,
                "jac": lambda z, q=quadratic: -2 * (q * (basis @ z)) @ basis,
            }
        )
        cuts += 1
