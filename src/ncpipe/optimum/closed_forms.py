"""Optima in closed form: synthesis exponents to first order in imbalance, theory.md (25), and MSE for any labels, (28).

(25) rests on the stationarity of (8) at full rank, r_S = −λ A^{-1/2} z_S with A = Z D Zᵀ: class frequencies enter
through A alone, and A answers to a small imbalance in one known direction. docs/theory/closed-forms.md has the proofs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import brentq

from ncpipe.errors import InputError, check_choice, check_number
from ncpipe.labels.distribution import LabelDistribution, Target
from ncpipe.objective.settings import Objective

Basis = Literal["raw", "unit", "centred", "classifier"]
BASES: tuple[Basis, ...] = ("raw", "unit", "centred", "classifier")

_LOG_MU = (-60.0, 25.0)  # where μ is searched: λ from 1e-25 to within 1e-9 of the critical one
_CROSSING_RANGE, _CROSSING_POINTS = (-12.0, 8.0), 81  # of ln μ, between which a change of sign is looked for


@dataclass(frozen=True)
class PairLabels:
    """Single labels and all pairs of K classes, each alike in number: the balanced distribution that (25) disturbs.

    Parameters
    ----------
    classes : int
        K >= 3.
    single_share : float
        w_1, the share of samples with one label; between 0 and 1.
    target : {"normalised", "raw"}

    Raises
    ------
    InputError
        If a value lies outside its range.
    """

    classes: int
    single_share: float
    target: Target = "normalised"

    def __post_init__(self) -> None:
        check_number("classes", self.classes, least=3)
        if not 0 < check_number("single_share", self.single_share) < 1:
            raise InputError(f"single_share: found {self.single_share}; allowed: a number > 0 and < 1")
        check_choice("target", self.target, ("normalised", "raw"))

    @property
    def _pair_tau(self) -> float:
        return 1.0 if self.target == "normalised" else 2.0

    @property
    def _kappas(self) -> tuple[float, float]:
        """κ_1 and κ_2."""
        return 1 / self.classes, 2 * (self.classes - 2) / (self.classes * (self.classes - 1))

    @property
    def critical(self) -> float:
        """λ_c = √κ_pool: from it on everything collapses, (11b)."""
        single, pair = self._kappas
        return float(np.sqrt(self.single_share * single + (1 - self.single_share) * (self._pair_tau / 2) ** 2 * pair))


@dataclass(frozen=True)
class _Balanced:
    """The balanced optimum for a given μ = λ/√q: z_S = x_m P y_S and Z D Zᵀ = q P."""

    labels: PairLabels
    mu: float

    def slope(self, multiplicity: int) -> float:
        """x_m: the root of τ_m K c_m(x) / m = μ x, c_m = 1 / (m eˣ + K − m)."""
        classes, tau = self.labels.classes, self._tau(multiplicity)

        def excess(x: float) -> float:
            return float(
                tau * classes / (multiplicity * (multiplicity * np.exp(x) + classes - multiplicity)) - self.mu * x
            )

        highest = min(tau / (multiplicity * self.mu), 1 + np.log1p(tau * classes / (multiplicity**2 * self.mu)))
        return float(brentq(excess, 0.0, highest * (1 + 1e-9), xtol=1e-300, rtol=1e-15))

    def _tau(self, multiplicity: int) -> float:
        return 1.0 if multiplicity == 1 else self.labels._pair_tau

    def shares(self) -> tuple[float, float]:
        """What multiplicity one and two add to q."""
        (single, pair), first = self.labels._kappas, self.labels.single_share
        return first * self.slope(1) ** 2 * single, (1 - first) * self.slope(2) ** 2 * pair

    @property
    def lam(self) -> float:
        """λ = μ √q."""
        return float(self.mu * np.sqrt(sum(self.shares())))

    def exponents(self) -> dict[Basis, float]:
        """(25)."""
        k, mu, tau = self.labels.classes, self.mu, self.labels._pair_tau
        c1, c2 = (1 / (m * np.exp(self.slope(m)) + k - m) for m in (1, 2))
        a1, a2 = c1 * np.exp(self.slope(1)), c2 * np.exp(self.slope(2))
        first, second = self.shares()
        rho = first / (first + second)
        # Inverses of H_S + μ on its eigenspaces: along P y_S, between the two classes of a pair, and on the rest.
        single_along, single_rest = 1 / (k * a1 * c1 + mu), 1 / (c1 + mu)
        pair_along, pair_between, pair_rest = 1 / (tau * k * a2 * c2 + mu), 1 / (tau * a2 + mu), 1 / (tau * c2 + mu)
        phi_1 = ((k - 2) * single_along + single_rest) / (k - 1)
        phi_2 = (k - 2) ** 2 * pair_between / 2 + (k - 4) ** 2 * pair_along / 2 + 2 * (k - 3) * pair_rest
        phi_2 /= (k - 2) ** 2
        g = (rho / 2) / (1 - mu * (rho * phi_1 + (1 - rho) * phi_2))
        raw = pair_between / k - single_along / (k - 1) + single_rest / (k * (k - 1))
        raw *= g * mu * (k - 2)
        along = (k - 4) * pair_along / k - (k - 2) ** 2 * single_along / (k * (k - 1)) + single_rest / (k - 1)
        rest = -2 / k * (pair_rest - single_rest)
        return {
            "raw": float(raw),
            "unit": float(raw + (k - 2) / (k - 1) * g * (mu * single_along - 0.5)),
            "centred": float(raw - mu * g * (along + (k - 3) * rest) / (k - 2)),
            "classifier": float(-(k - 2) / k * g * tau * a2 * pair_between),
        }


def _balanced(labels: PairLabels, lam: float) -> _Balanced:
    """The balanced optimum at λ."""
    log_mu = brentq(lambda m: np.log(_Balanced(labels, float(np.exp(m))).lam / lam), *_LOG_MU, xtol=1e-14, rtol=1e-15)
    return _Balanced(labels, float(np.exp(log_mu)))


def synthesis_exponents(labels: PairLabels, lam: float) -> dict[Basis, float]:
    """Exponent γ of frequency-weighted synthesis (12) at multiplicity two, to first order in imbalance: theory.md (25).

    Single labels n_k = n(1 + ε_k) with Σ ε_k = 0, all pairs alike, pick-all-labels without a bias; γ as (12) fits it,
    frequencies counted at multiplicity one.

    Parameters
    ----------
    labels : PairLabels
    lam : float
        λ = √(λ_W λ_H), below `PairLabels.critical`.

    Returns
    -------
    dict
        γ in each basis: ``raw``, ``unit``, ``centred``, ``classifier``.

    Raises
    ------
    InputError
        If λ is not > 0, or so large that everything collapses (then nothing is left to weigh).

    Examples
    --------
    >>> labels = PairLabels(classes=10, single_share=0.775)
    >>> {basis: round(gamma, 3) for basis, gamma in synthesis_exponents(labels, 0.0113137).items()}
    {'raw': -0.033, 'unit': -0.178, 'centred': -0.047, 'classifier': -0.373}
    """
    check_number("lam", lam, above=0.0)
    if lam >= labels.critical * (1 - 1e-8):
        raise InputError(f"lam: found {lam:g}; allowed: below λ_c = {labels.critical:.6g}, where everything collapses")
    return _balanced(labels, lam).exponents()


def exponent_crossing(labels: PairLabels, basis: Basis) -> float | None:
    """The λ above which synthesis weights grow with class frequency in a basis, by (25); None where they never do.

    Examples
    --------
    >>> labels = PairLabels(classes=10, single_share=0.775)
    >>> [round(exponent_crossing(labels, basis) / labels.critical, 3) for basis in ("raw", "centred", "unit")]
    [0.385, 0.445, 0.528]
    >>> exponent_crossing(labels, "classifier") is None
    True
    """
    check_choice("basis", basis, BASES)

    def gamma(log_mu: float) -> float:
        return _Balanced(labels, float(np.exp(log_mu))).exponents()[basis]

    grid = np.linspace(*_CROSSING_RANGE, _CROSSING_POINTS)
    values = np.array([gamma(point) for point in grid])
    upward = np.flatnonzero((values[:-1] < 0) & (values[1:] >= 0))
    if not len(upward):
        return None
    start = int(upward[-1])
    return _Balanced(labels, float(np.exp(brentq(gamma, grid[start], grid[start + 1], xtol=1e-12)))).lam


def exponent_limits(labels: PairLabels) -> dict[Basis, float]:
    """Limits of (25) for λ → 0: 0, −(K−2)ρ_1/(4(K−1)), 0 and −(K−2)ρ_1/(2K).

    ρ_1 = w_1 κ_1 / (w_1 κ_1 + w_2 κ_2). Convergence is like 1/ln(1/λ). For λ → λ_c the raw basis tends to 0 from above
    and the unit basis grows without bound.
    """
    single, pair = labels._kappas
    first, second = labels.single_share * single, (1 - labels.single_share) * pair
    rho, k = first / (first + second), labels.classes
    return {"raw": 0.0, "unit": -(k - 2) * rho / (4 * (k - 1)), "centred": 0.0, "classifier": -(k - 2) * rho / (2 * k)}


@dataclass(frozen=True, eq=False)
class MseOptimum:
    """The global minimum of (7) under squared error, in closed form.

    Parameters
    ----------
    objective : float
        (7).
    contrasts : ndarray, shape (S, K)
        z_S − b.
    bias : ndarray, shape (K,)
    singular_values : ndarray, shape (min(S, K),)
        Of Z D^{1/2}, descending: those of (T − b) D^{1/2} less λ, where that is positive.
    synthesis : ndarray, shape (K, K)
        The matrix A with z_S − b = A (t_S − b) for every label set: joint prototypes are averages of single ones.
    """

    objective: float
    contrasts: np.ndarray
    bias: np.ndarray
    singular_values: np.ndarray
    synthesis: np.ndarray


def mse_optimum(distribution: LabelDistribution, objective: Objective) -> MseOptimum:
    """Minimise (7) under squared error by one singular value decomposition, for any labels: theory.md (28).

    Parameters
    ----------
    distribution : LabelDistribution
    objective : Objective
        Loss ``mse``, a learned classifier, no bias or a free one.

    Raises
    ------
    InputError
        For other losses, a fixed classifier, or a penalised bias (which couples with the singular values).
    """
    check_choice("objective.loss", objective.loss, ("mse",))
    check_choice("objective.classifier", objective.classifier, ("learned",))
    check_choice("the bias of the objective", objective.bias_mode, ("none", "free"))
    targets, root = objective.targets(distribution), np.sqrt(distribution.weights)
    free = objective.bias_mode == "free"
    bias = distribution.weights @ targets if free else np.zeros(distribution.classes)
    _, singular, right = np.linalg.svd(root[:, None] * (targets - bias), full_matrices=False)
    shrunk = np.maximum(singular - objective.lam, 0.0)
    kept = np.divide(shrunk, singular, out=np.zeros_like(shrunk), where=singular > 0)
    synthesis = right.T @ (kept[:, None] * right)  # (K, K)
    contrasts = (targets - bias) @ synthesis
    residual = targets - bias - contrasts
    value = 0.5 * float(distribution.weights @ (residual**2).sum(axis=1)) + objective.lam * float(shrunk.sum())
    return MseOptimum(value, contrasts, bias, shrunk, synthesis)
