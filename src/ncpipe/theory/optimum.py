"""The global minimum of the terminal objective (7) for any label distribution, with a certificate.

Method. For fixed P ⪰ 0 the convex problem (8) separates over label sets, and minimising over P gives the nuclear norm:

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

from ncpipe.labels import LabelDistribution, contrast_basis
from ncpipe.objective import Objective, dual_bound, objective_terms, softmax
from ncpipe.theory.certificates import CONVERGED_STEP, SAFE_STEP, Certificate, best_bias, polar, shrink
from ncpipe.theory.losses import Loss, pal

# Logit of a class that no sample carries, relative to the lowest other one, where a free bias drives it to -inf:
# low enough that its probability is below rounding, so that the infimum is attained to rounding.
_UNSEEN_LOGIT = -60.0
_INNER_ITERATIONS = 100
_HALVINGS = 50
_NOISE = 1e-14  # rounding of a value, relative to itself and to the logits: decreases below it cannot be seen
_TO_BOUNDARY = 0.97  # share of the step to the boundary of the cone
_START_SLACK, _LARGEST_START = -10.0, 1e8  # P starts as a multiple of I that nearly keeps the dual constraint
_WORTH_A_LOOK = 1e-6  # estimated relative gap from which on a certificate is tried
_PATIENCE = 10  # iterations without a smaller gap after which rounding is taken to have won
_RESIDUAL_SHARE = 0.3  # μ never falls faster than the part of the gap due to the residual of the slack


@dataclass(frozen=True)
class Optimum:
    """A global minimum of (7), or, with `certified` False, the best point reached.

    Parameters
    ----------
    objective : float
        (7) at (weight, bias, prototypes): an upper bound on the minimum f*.
    dual_bound : float
        (9) at `dual_point`: a lower bound on f*.
    relative_gap : float
        (objective - dual_bound) / dual_bound; 0 up to rounding where the minimum is 0.
    certified : bool
        Whether the relative gap that was asked for is reached.
    rank : int
        Number of directions of the logits that have not collapsed.
    iterations : int
    weight : ndarray, shape (K, K)
        W, the symmetric positive semidefinite factor (features rotate freely, this choice is canonical).
    bias : ndarray, shape (K,)
    prototypes : ndarray, shape (S, K)
        The one feature that all samples of a label set share.
    logits : ndarray, shape (S, K)
        prototypes @ weight.T + bias.
    probabilities : ndarray, shape (S, K)
        softmax of the logits.
    singular_values : ndarray, shape (min(S, K),)
        Of Z D^{1/2} (without the bias), descending, collapsed ones 0.
    dual_point : ndarray, shape (S, K)
        u of (9).
    """

    objective: float
    dual_bound: float
    relative_gap: float
    certified: bool
    rank: int
    iterations: int
    weight: np.ndarray
    bias: np.ndarray
    prototypes: np.ndarray
    logits: np.ndarray
    probabilities: np.ndarray
    singular_values: np.ndarray
    dual_point: np.ndarray


@dataclass(frozen=True)
class Minimum:
    """Minimum of (8) for any convex loss: rows Z (S, K), bias, value, its best certificate and the iterations used."""

    contrasts: np.ndarray
    bias: np.ndarray
    value: float
    certificate: Certificate
    iterations: int


def solve(
    distribution: LabelDistribution, objective: Objective, *, rtol: float = 1e-10, max_iterations: int = 100
) -> Optimum:
    """Minimise (7) over all classifiers, biases and features of any width >= K - 1.

    Parameters
    ----------
    distribution : LabelDistribution
    objective : Objective
    rtol : float, optional
        Relative gap between objective and dual bound to stop at.
    max_iterations : int, optional
        Interior-point iterations (about ten are usual).

    Returns
    -------
    Optimum
    """
    seen = distribution.class_counts() > 0
    if objective.bias == "free" and not seen.all():
        return _solve_seen(distribution, objective, seen, rtol=rtol, max_iterations=max_iterations)
    weights = distribution.weights
    loss = pal(distribution, objective.target)
    minimum = minimise(loss, weights, objective, rtol=rtol, max_iterations=max_iterations)
    targets, tau = distribution.targets(objective.target), distribution.tau(objective.target)
    dual_point = np.maximum((minimum.certificate.gradient + targets) / tau[:, None], 0.0)
    return _finish(distribution, objective, minimum, dual_point, rtol=rtol)


def _solve_seen(
    distribution: LabelDistribution,
    objective: Objective,
    seen: np.ndarray,
    *,
    rtol: float,
    max_iterations: int,
) -> Optimum:
    """Solve for the classes that occur; a free bias takes the others to probability 0, whatever the features."""
    names = tuple(name for name, there in zip(distribution.class_names, seen, strict=True) if there)
    part = LabelDistribution(distribution.indicator[:, np.flatnonzero(seen)], distribution.counts, names)
    loss = pal(part, objective.target)
    small = minimise(loss, part.weights, objective, rtol=rtol, max_iterations=max_iterations)
    shape = (len(distribution.counts), distribution.classes)
    contrasts, dual_point = np.zeros(shape), np.zeros(shape)
    contrasts[:, seen] = small.contrasts
    targets, tau = part.targets(objective.target), part.tau(objective.target)
    dual_point[:, seen] = np.maximum((small.certificate.gradient + targets) / tau[:, None], 0.0)
    bias = np.full(distribution.classes, (small.contrasts + small.bias).min() + _UNSEEN_LOGIT)
    bias[seen] = small.bias
    whole = Minimum(contrasts, bias, small.value, small.certificate, small.iterations)
    return _finish(distribution, objective, whole, dual_point, rtol=rtol)


def _finish(
    distribution: LabelDistribution,
    objective: Objective,
    minimum: Minimum,
    dual_point: np.ndarray,
    *,
    rtol: float,
) -> Optimum:
    """Factor the minimum into weight and prototypes, and evaluate both sides of the gap anew from the definitions."""
    root = np.sqrt(distribution.weights)[:, None]
    # X = Z D^{1/2} = U Σ Vᵀ; W = c U Σ^{1/2} Uᵀ and H D^{1/2} = U Σ^{1/2} Vᵀ / c are balanced for c⁴ = λ_H / λ_W.
    right, values, left = np.linalg.svd(root * minimum.contrasts, full_matrices=False)
    values[values <= len(values) * np.finfo(float).eps * values[0]] = 0.0  # rounding of collapsed directions
    balance = (objective.lambda_h / objective.lambda_w) ** 0.25
    weight = balance * (left.T * np.sqrt(values)) @ left
    prototypes = (right * np.sqrt(values)) @ left / root / balance
    logits = prototypes @ weight.T + minimum.bias
    value = objective_terms(
        weight,
        minimum.bias,
        prototypes,
        label_set=np.arange(len(prototypes)),
        multi_hot=distribution.multi_hot(),
        objective=objective,
        sample_weights=distribution.weights,
    ).total
    bound = dual_bound(dual_point, distribution, objective)
    gap = _relative_gap(value, bound)
    return Optimum(
        objective=value,
        dual_bound=bound,
        relative_gap=gap,
        certified=gap <= rtol,
        rank=int(np.count_nonzero(values)),
        iterations=minimum.iterations,
        weight=weight,
        bias=minimum.bias,
        prototypes=prototypes,
        logits=logits,
        probabilities=softmax(logits),
        singular_values=values,
        dual_point=dual_point,
    )


def _relative_gap(value: float, bound: float) -> float:
    # An objective below 1e-12 can only be a minimum of 0 (one class seen, free bias): there the gap itself says it.
    return (value - bound) / max(abs(bound), 1e-12)


@dataclass(frozen=True)
class _Point:
    """F and its derivatives at one (P, b), in coordinates of the n-dimensional space that gradients live in."""

    value: float  # F(P, b)
    logits: np.ndarray  # z_S + b, (S, K)
    gradient: np.ndarray  # g_S, (S, K)
    reduced: np.ndarray  # r_S = Bᵀ g_S, (S, n)
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
        gradient = self.loss.gradient(logits)
        reduced = gradient @ self.basis
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
            gradient=gradient,
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


def minimise(loss: Loss, weights: np.ndarray, objective: Objective, *, rtol: float, max_iterations: int) -> Minimum:
    """Minimise (8) for a convex loss by the interior-point method above.

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
    """
    classes = loss.lower.shape[1]
    basis = contrast_basis(classes) if loss.shift_invariant else np.eye(classes)
    n = basis.shape[1]
    problem = _Problem(
        loss=loss,
        weights=weights,
        basis=basis,
        lam=objective.lam,
        lambda_b=objective.lambda_b if objective.bias == "penalised" else 0.0,
        has_bias=objective.bias != "none",
    )
    best = _candidate(np.zeros_like(loss.lower), np.zeros(classes), np.eye(n), problem, objective, 0)
    if n == 0 or _relative_gap(best.value, best.certificate.bound) <= rtol:
        return best
    vectors = _symmetric_basis(n)
    bias, scale = basis.T @ best.bias, 1.0
    point = problem.evaluate(np.eye(n), bias, None)
    while np.linalg.eigvalsh(point.slack)[0] < _START_SLACK and scale < _LARGEST_START:
        scale *= 4.0
        point = problem.evaluate(np.sqrt(scale) * np.eye(n), bias, point.reduced)
    primal, slack = scale * np.eye(n), np.eye(n)
    smallest, since = np.inf, 0
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
            found = _candidate(point.logits - shift, shift, point.slack, problem, objective, iteration)
            best = _better(best, found)
            if _relative_gap(best.value, best.certificate.bound) <= rtol:
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


def _candidate(
    contrasts: np.ndarray,
    bias: np.ndarray,
    slack: np.ndarray,
    problem: _Problem,
    objective: Objective,
    iteration: int,
) -> Minimum:
    """Value of (8) at a point, its collapsed directions set to 0 where that is no loss, and its best certificate."""
    loss, weights, lam = problem.loss, problem.weights, problem.lam
    root = np.sqrt(weights)[:, None]
    left, values, right = np.linalg.svd(root * contrasts, full_matrices=False)
    # Complementarity: a direction lives if its singular value, and has collapsed if its slack, is the larger.
    living = values > np.einsum("ik,kl,il->i", right @ problem.basis, slack, right @ problem.basis)
    collapsed = (left * np.where(living, values, 0.0)) @ right / root

    def settle(rows: np.ndarray) -> tuple[np.ndarray, float]:
        settled = bias
        if problem.has_bias:
            settled = best_bias(rows, bias, loss, weights, lambda_b=problem.lambda_b)
        value = float(weights @ loss.value(rows + settled)) + 0.5 * problem.lambda_b * float(settled @ settled)
        return settled, value

    options = []
    for rows, size in ((contrasts, values.sum()), (collapsed, values[living].sum())):
        settled, value = settle(rows)
        options.append((value + lam * float(size), rows, settled))
    gradient = loss.gradient(contrasts + options[0][2])
    certificate = shrink(gradient, loss, weights, objective)
    other = polar(left[:, living], right[living], gradient, certificate.gradient, loss, weights, objective)
    certificate = max(certificate, other, key=lambda c: c.bound)
    value, rows, settled = options[1] if options[1][0] <= options[0][0] * (1 + _NOISE) else options[0]
    return Minimum(rows, settled, value, certificate, iteration)


def _better(first: Minimum, second: Minimum) -> Minimum:
    """The lower value with the higher bound: they need not come from the same iteration."""
    low = min(first, second, key=lambda m: m.value)
    certificate = max(first.certificate, second.certificate, key=lambda c: c.bound)
    return Minimum(low.contrasts, low.bias, low.value, certificate, second.iterations)
