"""Interior-point method for the convex problem (8): small problems, to rounding, of any rank.

For fixed P ⪰ 0 the convex problem (8) separates over label sets, and minimising over P gives the nuclear norm:

    min_{P ⪰ 0, b}  F(P, b) = Σ_S w_S min_z [ ℓ_S(z + b) + (λ/2) zᵀP⁻¹z ] + (λ/2) tr P + (λ_b/2) ‖b‖²

F is convex in (P, b) jointly, smooth, and its size does not grow with the number of label sets: K(K-1)/2 + K unknowns.
With g_S = ∇ℓ_S, its gradient in P is (λ/2)(I - E[g gᵀ]/λ²), so stationarity *is* the dual constraint of (9). An
interior-point method on P (Nesterov-Todd scaling) therefore ends at a dual point that certifies it, and optima of
deficient rank are no harder than others. At the minimum P = (Z D Zᵀ)^{1/2}, and W ∝ P^{1/2} is a balanced factor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from ncpipe.labels.distribution import contrast_basis
from ncpipe.objective.losses import Loss
from ncpipe.objective.settings import Objective
from ncpipe.optimum.certificates import CONVERGED_STEP, SAFE_STEP, Minimum, certify

_INNER_ITERATIONS = 100
_HALVINGS = 50
_NOISE = 1e-14  # rounding of a value, relative to itself and to the logits: decreases below it cannot be seen
_TO_BOUNDARY = 0.97  # share of the step to the boundary of the cone
_START_SLACK, _LARGEST_START = -10.0, 1e8  # P starts as a multiple of I that nearly keeps the dual constraint
_WORTH_A_LOOK = 1e-6  # estimated relative gap from which on a certificate is tried
_PATIENCE = 10  # iterations without a smaller gap after which rounding is taken to have won
_RESIDUAL_SHARE = 0.3  # μ never falls faster than the part of the gap due to the residual of the slack


@dataclass(frozen=True)
class _Point:
    """F and its derivatives at one (P, b), in coordinates of the n-dimensional space that gradients live in."""

    value: float  # F(P, b)
    logits: np.ndarray  # z_S + b, (S, K)
    reduced: np.ndarray  # r_S = Bᵀ g_S, (S, n), g_S the gradients of the loss
    curvature: np.ndarray  # M_S = (A_S⁻¹ + P/λ)⁻¹, (S, n, n), A_S the Hessian of the loss
    slack: np.ndarray  # G = I - E[r rᵀ]/λ², (n, n)
    slope: np.ndarray  # dF/db = E[r] + λ_b b, (n,)


@dataclass(frozen=True)
class _Problem:
    loss: Loss
    weights: np.ndarray  # (S,)
    basis: np.ndarray  # B, (K, n)
    lam: float
    lambda_b: float  # 0 without a bias, and for a free one
    has_bias: bool

    def evaluate(self, factor: np.ndarray, bias: np.ndarray, reduced: np.ndarray | None) -> _Point:
        """Solve the inner problems at P = LLᵀ by Newton, all label sets at once, from the gradients `reduced`.

        In y = L⁻¹z each is min ℓ(BLy + b) + (λ/2)‖y‖²: strongly convex, and well scaled when P is nearly singular.
        """
        count, n = len(self.weights), len(factor)
        mixed, shift, diagonal = self.basis @ factor, self.basis @ bias, np.arange(n)
        y = np.zeros((count, n)) if reduced is None else reduced @ factor / -self.lam

        def inner_value(at: np.ndarray) -> np.ndarray:
            return self.loss.value(at @ mixed.T + shift) + 0.5 * self.lam * (at**2).sum(axis=1)

        value = inner_value(y)
        for _ in range(_INNER_ITERATIONS):
            logits = y @ mixed.T + shift
            descent = self.loss.gradient(logits) @ mixed + self.lam * y  # (S, n)
            hessian = mixed.T @ self.loss.hessian(logits) @ mixed  # (S, n, n)
            hessian[:, diagonal, diagonal] += self.lam
            step = -np.linalg.solve(hessian, descent[:, :, None])[:, :, 0]
            decrement = -(descent * step).sum(axis=1)
            size, length = np.ones(count), np.abs(step @ mixed.T).max(axis=1)
            for _ in range(_HALVINGS):
                trial = inner_value(y + size[:, None] * step)
                worse = (trial > value - 1e-4 * size * decrement) & (size * length > SAFE_STEP)
                if not worse.any():
                    break
                size[worse] /= 2
            y, value = y + size[:, None] * step, trial
            if length.max() <= CONVERGED_STEP:
                break
        logits = y @ mixed.T + shift
        reduced = self.loss.gradient(logits) @ self.basis
        hessian = self.basis.T @ self.loss.hessian(logits) @ self.basis
        half = hessian @ factor  # A L
        core = factor.T @ half
        core[:, diagonal, diagonal] += self.lam
        curvature = hessian - half @ np.linalg.solve(core, half.transpose(0, 2, 1))  # Woodbury
        return _Point(
            value=float(self.weights @ value)
            + 0.5 * self.lam * float((factor**2).sum())
            + 0.5 * self.lambda_b * float(bias @ bias),
            logits=logits,
            reduced=reduced,
            curvature=0.5 * (curvature + curvature.transpose(0, 2, 1)),
            slack=np.eye(n) - (reduced * self.weights[:, None]).T @ reduced / self.lam**2,
            slope=self.weights @ reduced + self.lambda_b * bias,
        )

    def newton_matrix(self, point: _Point, scaling: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """Hessian of F plus (λ/2) Ω·Ω on symmetric matrices (columns of `vectors`), and on the bias."""
        n, weighted = len(scaling), self.weights[:, None]
        outer = (point.reduced[:, :, None] * point.reduced[:, None, :]).reshape(-1, n * n)
        quartic = (outer * weighted).T @ point.curvature.reshape(-1, n * n)  # Σ w r_j r_l M_ik at [jl, ik]
        quartic = quartic.reshape(n, n, n, n).transpose(2, 0, 3, 1).reshape(n * n, n * n) / self.lam**2
        matrix = vectors.T @ (quartic + 0.5 * self.lam * np.kron(scaling, scaling)) @ vectors
        if not self.has_bias:
            return matrix
        moved = (point.curvature.reshape(-1, n * n) * weighted).T @ point.reduced  # Σ w M_ik r_j at [ik, j]
        cross = vectors.T @ moved.reshape(n, n, n).transpose(0, 2, 1).reshape(n * n, n) / -self.lam
        own = np.einsum("s,sij->ij", self.weights, point.curvature) + self.lambda_b * np.eye(n)
        return np.block([[matrix, cross], [cross.T, own]])


def minimise(
    loss: Loss,
    weights: np.ndarray,
    objective: Objective,
    *,
    rtol: float,
    max_iterations: int,
    start: Minimum,
) -> Minimum:
    """Minimise (8) for a convex loss.

    Parameters
    ----------
    loss : Loss
    weights : ndarray, shape (S,)
        w_S.
    objective : Objective
        λ, the bias mode and λ_b are read.
    rtol : float
        Relative gap to stop at; where rounding forbids it, the best point is returned.
    max_iterations : int
    start : Minimum
        Its bias is where the bias starts, and it is returned if nothing better is found.
    """
    classes = loss.lower.shape[1]
    basis = contrast_basis(classes) if loss.shift_invariant else np.eye(classes)
    n = basis.shape[1]
    problem = _Problem(
        loss=loss,
        weights=weights,
        basis=basis,
        lam=objective.lam,
        lambda_b=objective.bias_penalty,
        has_bias=objective.bias_mode != "none",
    )
    vectors = _symmetric_basis(n)
    bias, scale = basis.T @ start.bias, 1.0
    point = problem.evaluate(np.eye(n), bias, None)
    while np.linalg.eigvalsh(point.slack)[0] < _START_SLACK and scale < _LARGEST_START:
        scale *= 4.0
        point = problem.evaluate(np.sqrt(scale) * np.eye(n), bias, point.reduced)
    primal, slack = scale * np.eye(n), np.eye(n)
    best, smallest, since = start, np.inf, 0
    for iteration in range(1, max_iterations + 1):
        try:
            primal, slack, bias, point = _step(problem, vectors, primal, slack, bias, point)
            spread = np.linalg.cholesky(primal)
        except np.linalg.LinAlgError:
            break  # rounding has eaten the last digit that the iteration could gain: `best` stands
        residual = np.abs(np.linalg.eigvalsh(spread.T @ (slack - point.slack) @ spread)).sum()
        gap = 0.5 * problem.lam * (float((primal * slack).sum()) + residual) / abs(point.value)
        smallest, since = (gap, 0) if gap < smallest else (smallest, since + 1)
        if since == 0 and gap < max(10 * rtol, _WORTH_A_LOOK):
            shift = basis @ bias
            best = best.improved(certify(point.logits - shift, shift, loss, weights, objective, iteration))
            if best.relative_gap <= rtol:
                break
        if since >= _PATIENCE:
            break
    return best


def _step(
    problem: _Problem,
    vectors: np.ndarray,
    primal: np.ndarray,
    slack: np.ndarray,
    bias: np.ndarray,
    point: _Point,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, _Point]:
    """One predictor-corrector step for P T = μ I, T = I - E[r rᵀ]/λ², E[r] + λ_b b = 0."""
    n, split, lam = len(primal), vectors.shape[1], problem.lam
    factor, slack_factor = np.linalg.cholesky(primal), np.linalg.cholesky(slack)
    inverse_factor = solve_triangular(factor, np.eye(n), lower=True)
    inverse = inverse_factor.T @ inverse_factor
    _, values, right = np.linalg.svd(slack_factor.T @ factor)
    scaling = inverse_factor.T @ (right.T * values) @ right @ inverse_factor  # Ω: Ω P Ω = T
    solver = cho_factor(problem.newton_matrix(point, scaling, vectors))

    def direction(target: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        descent = vectors.T @ (0.5 * lam * (target * inverse - point.slack)).ravel()
        solution = cho_solve(solver, np.concatenate([descent, -point.slope]) if problem.has_bias else descent)
        change = (vectors @ solution[:split]).reshape(n, n)
        bias_change = solution[split:] if problem.has_bias else np.zeros(n)
        return change, target * inverse - slack - scaling @ change @ scaling, bias_change

    mu = float((primal * slack).sum()) / n
    gap = factor.T @ (slack - point.slack) @ factor
    residual = float(np.abs(np.linalg.eigvalsh(gap)).sum()) / n
    change, slack_change, _ = direction(0.0)
    size = min(_to_boundary(factor, change), _to_boundary(slack_factor, slack_change))
    predicted = float(((primal + size * change) * (slack + size * slack_change)).sum()) / n
    target = max(mu * min(1.0, max(1e-6, (predicted / mu) ** 3)), _RESIDUAL_SHARE * residual)
    change, slack_change, bias_change = direction(target)
    longest = min(_to_boundary(factor, change), _to_boundary(slack_factor, slack_change))
    size = min(1.0, _TO_BOUNDARY * longest)

    # The direction descends on the barrier function F - (λμ/2) log det P: backtracking makes the method global.
    def merit(value: float, root: np.ndarray) -> float:
        return value - lam * target * float(np.log(np.diag(root)).sum())

    slope = 0.5 * lam * float(((point.slack - target * inverse) * change).sum()) + float(point.slope @ bias_change)
    before = merit(point.value, factor)
    rounding = _NOISE * (abs(before) + float(np.abs(point.logits).max()))
    for _ in range(_HALVINGS):
        root = np.linalg.cholesky(primal + size * change)
        moved = problem.evaluate(root, bias + size * bias_change, point.reduced)
        if merit(moved.value, root) <= before + 1e-4 * size * slope + rounding:
            break
        size /= 2
    return primal + size * change, slack + size * slack_change, bias + size * bias_change, moved


def _to_boundary(factor: np.ndarray, change: np.ndarray) -> float:
    """Largest step <= 1 that keeps LLᵀ + step·change positive semidefinite."""
    half = solve_triangular(factor, change, lower=True)
    lowest = float(np.linalg.eigvalsh(solve_triangular(factor, half.T, lower=True))[0])
    return 1.0 if lowest >= -1.0 else -1.0 / lowest


def _symmetric_basis(n: int) -> np.ndarray:
    """Orthonormal basis of the symmetric n x n matrices, as columns, shape (n², n(n+1)/2)."""
    row, column = np.triu_indices(n)
    position = np.arange(len(row))
    basis = np.zeros((n * n, len(row)))
    entry = np.where(row == column, 1.0, np.sqrt(0.5))
    basis[row * n + column, position] = entry
    basis[column * n + row, position] = entry
    return basis
