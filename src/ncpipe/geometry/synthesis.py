"""How prototypes of label sets follow from those of single classes: theory.md §3, (12)-(14).

A *prototype* is the mean feature of a label set. `fit_synthesis` compares the hypotheses on how the prototype of a
larger label set is made from one vector per class; `tagwise_residuals` measures Li's unweighted average;
`geometry_bound` checks the Weyl bound through κ_m. Everything here works on the prototypes alone, of a network as of
a certified optimum.

Fits and residuals of one multiplicity weigh each label set with v_S = w_S / w_m, its share of the samples: the
relative residual is (Σ v_S ‖h_S - fit‖² / Σ v_S ‖h_S‖²)^½, the Frobenius norm over collapsed samples, as in (13). The
denominator is never centred, so that the numbers of all hypotheses and bases can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from scipy.optimize import minimize_scalar

from ncpipe.errors import InputError, check_array, check_instance, check_whole
from ncpipe.jobs import one_thread
from ncpipe.labels.distribution import LabelDistribution, contrast_basis

BASES = ("raw", "unit", "centred", "classifier")
FREQUENCIES = ("multiplicity_one", "total")
HYPOTHESES = ("free", "shared", "uniform", "proportional", "inverse", "fitted", "permuted")
EXPONENTS = {"uniform": 0.0, "proportional": 1.0, "inverse": -1.0}

GAMMA_RANGE = 4.0  # |γ| searched
_GRID_STEP = 0.4  # largest step of γ·ln(n_a / n_b): the profile is smooth on the scale 1
_FINE_POINTS = 41
_EQUAL = 1e-12  # spread of ln n_k within label sets below which the counts are equal
_EQUAL_REASON = "equal class counts within every label set"
_SINGULAR = 1e10  # condition number of a Gram matrix above which weights are not identified
_FLAT = 1e-8  # squared relative response of the fit to γ below which γ is not identified
_CHUNK = 1 << 22  # doubles held at once by the leave-one-out solves


class _Problem(NamedTuple):
    """The label sets of one multiplicity in one basis, and the inner products that every fit needs."""

    members: np.ndarray  # (S, m) class indices
    share: np.ndarray  # (S,) v_S, summing to 1
    targets: np.ndarray  # (S, n) prototypes, centred where there is an intercept
    vectors: np.ndarray  # (K, n) basis
    gram: np.ndarray  # (K, K) <v_k, v_l>
    cross: np.ndarray  # (S, K) <h_S, v_k>
    norm: float  # of the prototypes, never centred: the unit of all residuals
    intercept: bool

    @property
    def own_gram(self) -> np.ndarray:
        """Gram matrices within the label sets, (S, m, m)."""
        return self.gram[self.members[:, :, None], self.members[:, None, :]]

    @property
    def own_cross(self) -> np.ndarray:
        """<h_S, v_k> for the members, (S, m)."""
        return np.take_along_axis(self.cross, self.members, axis=1)

    def scatter(self, omega: np.ndarray) -> sparse.csr_array:
        """Weights within label sets, (S, m), as a sparse matrix (S, K)."""
        rows, m = self.members.shape
        pointers = np.arange(0, rows * m + 1, m)
        return sparse.csr_array((omega.ravel(), self.members.ravel(), pointers), shape=(rows, len(self.vectors)))

    def length(self, rows: np.ndarray) -> float:
        """The norm (Σ v_S ‖·‖²)^½ of rows (S, n)."""
        return float(np.sqrt(self.share @ (rows**2).sum(axis=1)))

    def synthesised(self, omega: np.ndarray) -> np.ndarray:
        """x_S = Σ_k ω_{k|S} v_k, (S, n), for ω (S, m); centred where there is an intercept."""
        x = self.scatter(omega) @ self.vectors
        return x - self.share @ x if self.intercept else x


def _problem(
    members: np.ndarray, counts: np.ndarray, targets: np.ndarray, vectors: np.ndarray, *, intercept: bool
) -> _Problem:
    share = counts / counts.sum()
    norm = float(np.sqrt(share @ (targets**2).sum(axis=1)))
    if intercept:
        targets = targets - share @ targets
    return _Problem(members, share, targets, vectors, vectors @ vectors.T, targets @ vectors.T, norm, intercept)


def _omega(log_counts: np.ndarray, gamma: float | np.ndarray) -> np.ndarray:
    """ω_{k|S} = m n_k^γ / Σ_j n_j^γ of (12), shape (..., S, m), from ln n_k of the members, (S, m), and γ (...)."""
    centred = log_counts - log_counts.mean(axis=1, keepdims=True)
    power = np.exp(np.asarray(gamma)[..., None, None] * centred)
    return power * (power.shape[-1] / power.sum(axis=-1, keepdims=True))


def _moments(problem: _Problem, omega: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """<h_S, x_S> and <x_S, x_S>, (..., S), of x_S = Σ_k ω_{k|S} v_k for ω (..., S, m); centred if there is an a_0."""
    hx = (omega * problem.own_cross).sum(axis=-1)
    xx = ((omega[..., None, :] @ problem.own_gram)[..., 0, :] * omega).sum(axis=-1)
    if problem.intercept:
        rows, m = problem.members.shape
        spread = problem.scatter(np.ones((rows, m)))
        incidence = sparse.csr_array(
            (np.repeat(problem.share, m), spread.indices, np.arange(rows * m + 1)), shape=(rows * m, spread.shape[1])
        )
        mean = (omega.reshape(-1, rows * m) @ incidence).reshape(*omega.shape[:-2], -1)  # (..., K)
        pulled = mean @ problem.gram
        xx = xx - 2 * (pulled[..., problem.members] * omega).sum(axis=-1) + (pulled * mean).sum(axis=-1)[..., None]
        hx = hx - mean @ problem.cross.T
    return hx, xx


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def _leave_one_out(problem: _Problem, omega: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each label set left out: residual sum of squares of the rest, its own part of the squared error, (..., S)."""
    hx, xx = _moments(problem, omega)
    hh = (problem.targets**2).sum(axis=1)
    share = problem.share
    # an estimated mean: deviations from the mean of the rest are 1 / (1 - v_S) times those from the mean of all
    inflation = 1 / (1 - share) if problem.intercept else np.ones(len(share))
    rest_hx, rest_xx, rest_hh = ((v @ share)[..., None] - share * inflation * v for v in (hx, xx, hh))
    scale = _ratio(rest_hx, rest_xx)
    own = np.maximum(hh - 2 * scale * hx + scale**2 * xx, 0.0)
    return rest_hh - scale * rest_hx, share * inflation**2 * own


def _fit(problem: _Problem, omega: np.ndarray) -> tuple[float, float]:
    """Scale c and residual ‖h - a_0 - c x‖, formed directly (no cancellation), for ω (S, m)."""
    x = problem.synthesised(omega)
    squared = float(problem.share @ (x**2).sum(axis=1))
    scale = float(problem.share @ (x * problem.targets).sum(axis=1)) / squared if squared > 0 else 0.0
    return scale, problem.length(problem.targets - scale * x)


def _bootstrap_rss(problem: _Problem, omegas: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Residual sums of squares, (G, B), for ω (G, S, m) and label sets drawn as often as `draws`, (B, S), says."""
    weights = draws * problem.share
    hh = weights @ (problem.targets**2).sum(axis=1)
    rss = np.empty((len(omegas), len(weights)))
    count = weights.sum(axis=1)
    h = weights @ problem.targets  # (B, n)
    pulled = h @ problem.vectors.T
    own_cross, own_gram = problem.own_cross, problem.own_gram
    for g, omega in enumerate(omegas):
        hx = weights @ (omega * own_cross).sum(axis=1)
        xx = weights @ ((omega[:, None, :] @ own_gram)[:, 0] * omega).sum(axis=1)
        total = hh
        if problem.intercept:
            mean = weights @ problem.scatter(omega)  # (B, K)
            hx = hx - (mean * pulled).sum(axis=1) / count
            xx = xx - (mean * (mean @ problem.gram)).sum(axis=1) / count
            total = hh - (h**2).sum(axis=1) / count
        rss[g] = total - _ratio(hx, xx) * hx
    return rss


def _grid(log_counts: np.ndarray) -> np.ndarray:
    spread = float(np.ptp(log_counts, axis=1).max())
    points = int(np.clip(np.ceil(2 * GAMMA_RANGE * spread / _GRID_STEP), 32, 256))
    return np.linspace(-GAMMA_RANGE, GAMMA_RANGE, points + 1)


def _finer(gammas: np.ndarray, step: float) -> np.ndarray:
    """A grid over the range of the minimisers found on a coarser one."""
    return np.linspace(gammas.min() - step / 2, gammas.max() + step / 2, _FINE_POINTS)


def _parabola(grid: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Minimisers of the columns of values (G, B) on an equidistant grid, by parabolas through the lowest points.

    Returns the minimisers (B,), the middle index of each parabola, and the offset from it in steps.
    """
    middle = np.clip(values.argmin(axis=0), 1, len(grid) - 2)
    left, centre, right = _neighbours(values, middle)
    shift = np.clip(_ratio(left - right, 2 * (left - 2 * centre + right)), -1.0, 1.0)
    return grid[middle] + shift * (grid[1] - grid[0]), middle, shift


def _neighbours(values: np.ndarray, middle: np.ndarray) -> tuple[np.ndarray, ...]:
    columns = np.arange(values.shape[1])
    return tuple(values[middle + i, columns] for i in (-1, 0, 1))


def _fitted_gamma(problem: _Problem, log_counts: np.ndarray) -> float:
    """γ̂ by profile least squares: the best grid point, then Brent's method in its neighbourhood."""
    grid = _grid(log_counts)
    hx, xx = (v @ problem.share for v in _moments(problem, _omega(log_counts, grid)))
    best = int(np.clip(np.argmax(_ratio(hx**2, xx)), 1, len(grid) - 2))
    result = minimize_scalar(
        lambda gamma: _fit(problem, _omega(log_counts, gamma))[1],
        bounds=(grid[best - 1], grid[best + 1]),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return float(result.x)


def _fitted_loo(problem: _Problem, log_counts: np.ndarray) -> float:
    """Leave-one-out error ‖·‖ with γ fitted again without each label set: a coarse, then a fine common grid."""
    grid = _grid(log_counts)
    rss, _ = _leave_one_out(problem, _omega(log_counts, grid))  # (G, S)
    grid = _finer(_parabola(grid, rss)[0], grid[1] - grid[0])
    rss, error = _leave_one_out(problem, _omega(log_counts, grid))
    _, middle, shift = _parabola(grid, rss)
    left, centre, right = _neighbours(error, middle)
    squared = centre + shift * (right - left) / 2 + shift**2 * (left - 2 * centre + right) / 2
    return float(np.sqrt(np.maximum(squared, 0.0).sum()))


def _bootstrap_gamma(problem: _Problem, log_counts: np.ndarray, draws: np.ndarray) -> tuple[float, float]:
    """Percentile interval (95 %) of γ̂ over label sets drawn as often as `draws`, (B, S), says."""
    grid = _grid(log_counts)
    gammas, _, _ = _parabola(grid, _bootstrap_rss(problem, _omega(log_counts, grid), draws))
    grid = _finer(gammas, grid[1] - grid[0])
    gammas, _, _ = _parabola(grid, _bootstrap_rss(problem, _omega(log_counts, grid), draws))
    low, high = np.quantile(gammas, (0.025, 0.975))
    return float(low), float(high)


def _response(problem: _Problem, log_counts: np.ndarray, gamma: float) -> float:
    """Squared relative change of the fit per unit of γ that c and a_0 cannot undo: 0 where γ is not identified."""
    omega = _omega(log_counts, gamma)
    slope = omega * (log_counts - (omega * log_counts).mean(axis=1, keepdims=True))
    x, dx = problem.synthesised(omega), problem.synthesised(slope)
    squared = problem.length(x) ** 2
    if squared == 0.0:
        return 0.0
    dx = dx - x * (float(problem.share @ (x * dx).sum(axis=1)) / squared)
    return (_fit(problem, omega)[0] * problem.length(dx) / problem.norm) ** 2


def _free(problem: _Problem) -> tuple[float, str]:
    """Residual ‖·‖ with weights of its own for each label set (and a shared a_0), and why they are not identified."""
    classes, n = problem.vectors.shape
    rows = len(problem.members)
    inverse = np.linalg.pinv(problem.own_gram, rcond=1 / _SINGULAR, hermitian=True)  # (S, m, m)
    own = problem.vectors[problem.members]  # (S, m, n)
    offset = np.zeros(n)
    if problem.intercept:
        # a_0 solves Σ v_S (I - Π_S) (h_S - a_0) = 0, Π_S the projection on the span of the members' vectors
        total = np.zeros((classes, classes))
        weighted = problem.share[:, None, None] * inverse
        np.add.at(total, (problem.members[:, :, None], problem.members[:, None, :]), weighted)
        projected = np.einsum("smn,sml,sl->n", own, weighted, problem.own_cross)
        normal = np.eye(n) - problem.vectors.T @ total @ problem.vectors
        offset = np.linalg.lstsq(normal, problem.share @ problem.targets - projected, rcond=None)[0]
    weights = np.einsum("sij,sj->si", inverse, problem.own_cross - own @ offset)
    residual = problem.length(problem.targets - offset - np.einsum("si,sin->sn", weights, own))
    singular = int((np.linalg.cond(problem.own_gram) > _SINGULAR).sum())
    if singular:
        return residual, f"singular design in {singular} of {rows} label sets"
    negative = int((weights <= 0).any(axis=1).sum())
    return residual, f"non-positive weights in {negative} of {rows} label sets" if negative else ""


def _shared(problem: _Problem) -> tuple[float, float | None, bool, str]:
    """Residual and leave-one-out error ‖·‖ with one weight per class, whether they are identified, and a reason."""
    used = np.unique(problem.members)
    vectors = problem.vectors[used]
    members = np.searchsorted(used, problem.members)
    rows = len(members)
    indicator = np.zeros((rows, len(used)))
    indicator[np.arange(rows)[:, None], members] = 1.0
    gram = vectors @ vectors.T
    share, targets = problem.share, problem.targets
    weighted = indicator * share[:, None]
    cross = weighted * (targets @ vectors.T)  # (S, K) v_S y_S ∘ <h_S, v_k>

    def solve(
        pairs: np.ndarray, labels: np.ndarray, sums: np.ndarray, right: np.ndarray, total: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weights β (..., K), a_0 (..., n) and whether they are unique, from Σ v yyᵀ, Σ v y, Σ v h, Σ v y ∘ Vh, Σ v."""
        normal = gram * pairs
        if problem.intercept:
            normal = normal - gram * (labels[..., :, None] * labels[..., None, :]) / total[..., None, None]
            right = right - labels * (sums @ vectors.T) / total[..., None]
        regular = np.linalg.cond(normal) <= _SINGULAR
        inverse = np.linalg.pinv(normal, rcond=1 / _SINGULAR, hermitian=True)
        weights = np.einsum("...ij,...j->...i", inverse, right)
        offset = (sums - (weights * labels) @ vectors) / total[..., None] if problem.intercept else np.zeros_like(sums)
        return weights, offset, regular

    whole = (indicator.T @ weighted, weighted.sum(axis=0), share @ targets, cross.sum(axis=0), share.sum())
    weights, offset, regular = solve(*whole)
    residual = problem.length(targets - offset - (indicator * weights) @ vectors)
    if not regular:
        return residual, None, False, "singular design"
    positive = bool((weights > 0).all())
    reason = "" if positive else "non-positive weights"
    squared = 0.0
    chunk = max(1, _CHUNK // len(used) ** 2)
    for start in range(0, rows, chunk):
        part = slice(start, start + chunk)
        y, vy, h, v = indicator[part], weighted[part], targets[part], share[part]
        own = (y[:, :, None] * vy[:, None, :], vy, v[:, None] * h, cross[part], v)
        weights, offset, regular = solve(*(total - each for total, each in zip(whole, own, strict=True)))
        if not np.all(regular):
            return residual, None, positive, reason or "singular design when one label set is left out"
        squared += float(v @ ((h - offset - (y * weights) @ vectors) ** 2).sum(axis=1))
    return residual, float(np.sqrt(squared)), positive, reason


def _gamma_reason(problem: _Problem, log_counts: np.ndarray, gamma: float) -> str:
    """Why γ is not identified; empty where it is."""
    if np.ptp(log_counts, axis=1).max() < _EQUAL:
        return _EQUAL_REASON
    if len(problem.members) < (3 if problem.intercept else 2):
        return "too few label sets"
    if _response(problem, log_counts, gamma) < _FLAT:
        return "collapsed: the vectors of the classes of a label set agree"
    if _fit(problem, _omega(log_counts, gamma))[0] <= 0:
        return "non-positive weights"
    if abs(gamma) > 0.999 * GAMMA_RANGE:
        return f"no minimum of the residual for |gamma| <= {GAMMA_RANGE:g}"
    return ""


def _record(hypothesis: str, **values: Any) -> dict[str, Any]:
    empty = {"gamma": None, "gamma_low": None, "gamma_high": None, "residual": None, "loo_residual": None}
    record = {"hypothesis": hypothesis, **empty, "identified": True, "reason": "", **values}
    record["identified"] = bool(record["identified"])
    return record


def _permuted(
    problem: _Problem, log_by_class: np.ndarray, *, permutations: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Control: the fitted power law with the class counts dealt to other classes; medians over permutations."""
    classes = np.unique(problem.members)
    shuffled = np.full_like(log_by_class, np.nan)
    rows = []
    for _ in range(permutations):
        shuffled[classes] = rng.permutation(log_by_class[classes])
        log_counts = shuffled[problem.members]
        if np.ptp(log_counts, axis=1).max() < _EQUAL:
            continue
        gamma = _fitted_gamma(problem, log_counts)
        rows.append((gamma, _fit(problem, _omega(log_counts, gamma))[1], _fitted_loo(problem, log_counts)))
    if not rows:
        return {}
    gammas, residuals, errors = np.array(rows).T
    low, high = np.quantile(gammas, (0.025, 0.975))
    return {
        "gamma": float(np.median(gammas)),
        "gamma_low": float(low),
        "gamma_high": float(high),
        "residual": float(np.median(residuals)) / problem.norm,
        "loo_residual": float(np.median(errors)) / problem.norm,
    }


def _hypotheses(
    problem: _Problem, counts: np.ndarray, *, replicates: int, permutations: int, seed: int
) -> list[dict[str, Any]]:
    """Records of all hypotheses for one basis, frequency and multiplicity."""
    rng = np.random.default_rng(seed)
    rows = len(problem.members)
    log_by_class = np.log(np.where(counts > 0, counts, np.nan))
    log_counts = log_by_class[problem.members]
    equal = bool(np.ptp(log_counts, axis=1).max() < _EQUAL)
    norm = problem.norm

    residual, reason = _free(problem)
    records = [_record("free", residual=residual / norm, identified=not reason, reason=reason)]
    residual, error, identified, reason = _shared(problem)
    loo = None if error is None else error / norm
    records.append(_record("shared", residual=residual / norm, loo_residual=loo, identified=identified, reason=reason))

    for hypothesis, gamma in EXPONENTS.items():
        omega = _omega(log_counts, gamma)
        loo = float(np.sqrt(_leave_one_out(problem, omega)[1].sum())) / norm if rows > 1 else None
        reason = _EQUAL_REASON if equal and gamma else ""
        values = {"gamma": gamma, "residual": _fit(problem, omega)[1] / norm, "loo_residual": loo}
        records.append(_record(hypothesis, **values, identified=not reason, reason=reason))

    gamma = 0.0 if equal else _fitted_gamma(problem, log_counts)
    reason = _gamma_reason(problem, log_counts, gamma)
    residual = _fit(problem, _omega(log_counts, gamma))[1] / norm
    if reason:
        records.append(_record("fitted", residual=residual, identified=False, reason=reason))
        records.append(_record("permuted", identified=False, reason=reason))
        return records
    draws = rng.multinomial(rows, np.full(rows, 1 / rows), size=replicates)
    low, high = _bootstrap_gamma(problem, log_counts, draws)
    loo = _fitted_loo(problem, log_counts) / norm
    values = {"gamma": gamma, "gamma_low": low, "gamma_high": high, "residual": residual, "loo_residual": loo}
    records.append(_record("fitted", **values))
    records.append(_record("permuted", **_permuted(problem, log_by_class, permutations=permutations, rng=rng)))
    return records


def check_prototypes(prototypes: np.ndarray, distribution: LabelDistribution) -> np.ndarray:
    """Refuse what is not one finite row for each label set, shape (S, d); return it as float64."""
    check_instance("distribution", distribution, LabelDistribution)
    sizes = len(distribution.counts), None
    return check_array("prototypes", prototypes, ("label set", "feature"), sizes=sizes).astype(np.float64, copy=False)


def _check_counts(name: str, counts: np.ndarray, distribution: LabelDistribution) -> np.ndarray:
    counts = check_array(f"frequencies[{name!r}]", counts, ("class",), sizes=(distribution.classes,))
    if counts.min() < 0:
        raise InputError(f"frequencies[{name!r}]: found {counts.min():g}; allowed: numbers >= 0")
    return counts.astype(np.float64, copy=False)


def single_prototypes(prototypes: np.ndarray, distribution: LabelDistribution) -> np.ndarray:
    """Prototypes h̄_k of the label sets {k}, shape (K, d); NaN rows for classes that never occur alone."""
    prototypes = check_prototypes(prototypes, distribution)
    singles = np.full((distribution.classes, prototypes.shape[1]), np.nan)
    rows = np.flatnonzero(distribution.multiplicity == 1)
    singles[distribution.indicator[rows].indices] = prototypes[rows]
    return singles


def _members(distribution: LabelDistribution, multiplicity: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the label sets of one multiplicity, (S_m,), and their classes, (S_m, m)."""
    rows = np.flatnonzero(distribution.multiplicity == multiplicity)
    return rows, distribution.indicator[rows].indices.reshape(len(rows), multiplicity)


def _bases(singles: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
    """The four bases v_k, (K, n) each; NaN rows where a class has no vector."""
    known = ~np.isnan(singles).any(axis=1)
    norms = np.linalg.norm(singles, axis=1, keepdims=True)
    unit = np.divide(singles, norms, out=np.zeros_like(singles), where=norms > 0)
    unit[~known] = np.nan
    centre = singles[known].mean(axis=0) if known.any() else 0.0
    return {"raw": singles, "unit": unit, "centred": singles - centre, "classifier": weight}


def _coordinates(*matrices: np.ndarray) -> list[np.ndarray]:
    """The same rows in an orthonormal basis of their common span: inner products are kept, d may shrink."""
    sizes = np.cumsum([len(matrix) for matrix in matrices])[:-1]
    rows = np.vstack(matrices)
    if rows.shape[1] > rows.shape[0]:
        rows = np.linalg.qr(rows.T)[1].T
    return np.split(rows, sizes)


@one_thread
def fit_synthesis(
    prototypes: np.ndarray,
    weight: np.ndarray,
    distribution: LabelDistribution,
    *,
    frequencies: Mapping[str, np.ndarray] | None = None,
    replicates: int = 500,
    permutations: int = 50,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Compare how larger label sets' prototypes are synthesised from one vector per class, theory.md (12).

    For every multiplicity m >= 2 that occurs, every basis and both frequencies n_k, one record per hypothesis about
    ``h̄_S ≈ a_0 + c_m Σ_{k∈S} ω_{k|S} v_k`` (a_0 in the centred basis only, shared by all label sets):

    - ``free``: weights of its own for each label set, no leave-one-out error by nature;
    - ``shared``: one weight per class, shared by all label sets;
    - ``uniform``, ``proportional``, ``inverse``: ω ∝ n_k^γ with γ = 0, 1, -1, one c;
    - ``fitted``: γ̂ by profile least squares, one γ and one c for all label sets, with a bootstrap interval over label
      sets;
    - ``permuted``: as fitted, with the n_k dealt to other classes at random; medians over permutations, and their
      2.5 % and 97.5 % quantiles as interval.

    Label sets with a class that has no vector in the basis, or no sample by that frequency, are left out of all
    hypotheses; the reason field says how many. Values that are not defined are None, never NaN.

    Parameters
    ----------
    prototypes : ndarray, shape (S, d)
        Mean features, one row per label set of `distribution`, in its order.
    weight : ndarray, shape (K, d)
        Classifier rows.
    distribution : LabelDistribution
        The label sets behind the prototypes.
    frequencies : mapping of str to ndarray (K,), optional
        Class counts by name; by default those of `distribution`, ``multiplicity_one`` and ``total``. Give the
        training counts where the prototypes come from a test set.
    replicates, permutations : int
        Bootstrap replicates and random permutations.
    seed : int
        Seeds both.

    Returns
    -------
    list of dict
        Keys basis, frequency, multiplicity, hypothesis, gamma, gamma_low, gamma_high, residual, loo_residual,
        identified, reason.

    Raises
    ------
    InputError
        If shapes do not match or values are not finite.

    Examples
    --------
    >>> labels = LabelDistribution.from_counts({(0,): 30, (1,): 20, (2,): 10, (0, 1): 6, (1, 2): 6}, classes=3)
    >>> objective = Objective("normalised", lambda_w=0.005, lambda_h=0.05, lambda_b=0.005)
    >>> solution = optimum(labels, objective)
    >>> records = fit_synthesis(solution.prototypes, solution.weight, labels, replicates=50, permutations=5)
    >>> fitted = next(r for r in records if r["basis"] == "unit" and r["hypothesis"] == "fitted")
    >>> round(fitted["gamma"], 3), round(fitted["residual"], 3)
    (-0.276, 0.02)
    """
    prototypes = check_prototypes(prototypes, distribution)
    sizes = distribution.classes, prototypes.shape[1]
    weight = check_array("weight", weight, ("class", "feature"), sizes=sizes).astype(np.float64, copy=False)
    check_whole("replicates", replicates, least=1)
    check_whole("permutations", permutations, least=0)
    check_whole("seed", seed, least=0)
    if frequencies is None:
        frequencies = {"multiplicity_one": distribution.class_counts(1), "total": distribution.class_counts()}
    frequencies = {name: _check_counts(name, counts, distribution) for name, counts in frequencies.items()}
    prototypes, weight = _coordinates(prototypes, weight)
    bases = _bases(single_prototypes(prototypes, distribution), weight)
    records = []
    for multiplicity in distribution.multiplicities:
        if multiplicity < 2:
            continue
        rows, members = _members(distribution, multiplicity)
        for basis in BASES:
            known = ~np.isnan(bases[basis]).any(axis=1)
            for name, counts in frequencies.items():
                key = {"basis": basis, "frequency": name, "multiplicity": multiplicity}
                use = (known & (counts > 0))[members].all(axis=1)
                out = int((~use).sum())
                note = f"{out} of {len(rows)} label sets left out: a class has no vector or no sample" if out else ""
                if not use.any() or not np.any(prototypes[rows[use]]):
                    blank = note or "the prototypes vanish"
                    records += [key | _record(hypothesis, identified=False, reason=blank) for hypothesis in HYPOTHESES]
                    continue
                problem = _problem(
                    members[use],
                    distribution.counts[rows[use]],
                    prototypes[rows[use]],
                    np.nan_to_num(bases[basis]),
                    intercept=basis == "centred",
                )
                for record in _hypotheses(
                    problem,
                    counts,
                    replicates=replicates,
                    permutations=permutations,
                    seed=seed,
                ):
                    reasons = [text for text in (record["reason"], note) if text]
                    records.append(key | record | {"reason": "; ".join(reasons)})
    return records


class TagwiseResiduals(NamedTuple):
    """Relative residuals of tag-wise averaging; None where a class never occurs alone or the prototypes vanish."""

    residual: float | None
    residual_per_set: float | None


@one_thread
def tagwise_residuals(prototypes: np.ndarray, distribution: LabelDistribution, multiplicity: int) -> TagwiseResiduals:
    """Relative residual of tag-wise averaging h̄_S ≈ c_m Σ_{k∈S} h̄_k (theory.md §3): with one c, and a c per label set.

    Label sets are weighted with their share of the samples. Unlike the angle metric (18) the first sees lengths too.

    Parameters
    ----------
    prototypes : ndarray, shape (S, d)
        One row per label set of `distribution`.
    distribution : LabelDistribution
    multiplicity : int
        m >= 2.
    """
    prototypes = check_prototypes(prototypes, distribution)
    check_whole("multiplicity", multiplicity, least=1)
    rows, members = _members(distribution, multiplicity)
    averages = single_prototypes(prototypes, distribution)[members].sum(axis=1)  # (S_m, d)
    targets = prototypes[rows]
    if not len(rows) or not targets.any() or np.isnan(averages).any():
        return TagwiseResiduals(None, None)
    share = distribution.counts[rows] / distribution.counts[rows].sum()
    cross, squared = (averages * targets).sum(axis=1), (averages**2).sum(axis=1)
    scale = share @ cross / (share @ squared) if squared.any() else 0.0
    own = _ratio(cross, squared)
    norm = share @ (targets**2).sum(axis=1)
    residual, per_set = (share @ ((targets - c * averages) ** 2).sum(axis=1) for c in (scale, own[:, None]))
    return TagwiseResiduals(float(np.sqrt(residual / norm)), float(np.sqrt(per_set / norm)))


@dataclass(frozen=True)
class GeometryBound:
    """The two sides of (13) and their ratio (14).

    Parameters
    ----------
    multiplicity : int
    sigma : float
        σ_{K-1}(G), left side of (13).
    bound : float
        |c_m| √κ_m σ_{K-1}(A) - ‖E‖₂, right side.
    tightness : float or None
        (14); None where the first term of the bound is 0.
    vacuous : bool
        Whether the right side is not positive: the bound then says nothing.
    scale : float
        Fitted c_m.
    kappa : float
        κ_m of the label sets.
    error : float
        ‖E‖₂.
    """

    multiplicity: int
    sigma: float
    bound: float
    tightness: float | None
    vacuous: bool
    scale: float
    kappa: float
    error: float


def _smallest(matrix: np.ndarray, order: int) -> float:
    """The singular value number `order` (counted from 1); 0 where the matrix has fewer."""
    values = np.linalg.svd(matrix, compute_uv=False)
    return float(values[order - 1]) if len(values) >= order else 0.0


@one_thread
def geometry_bound(prototypes: np.ndarray, distribution: LabelDistribution, multiplicity: int) -> GeometryBound | None:
    """Geometry bound through κ_m, theory.md (13) and (14): fit h̄_S = a_0 + c_m A y_S + e_S, then apply Weyl.

    The fit weighs label sets with v_S = w_S / w_m, their share within the multiplicity. G carries √v_S, so it scales
    with √κ_m by construction: a check of the computation, not evidence that κ_m governs the geometry.

    Returns
    -------
    GeometryBound or None
        None where the multiplicity does not occur or a class never occurs alone.

    Examples
    --------
    >>> labels = LabelDistribution.from_counts({(0,): 30, (1,): 20, (2,): 10, (0, 1): 6, (1, 2): 6}, classes=3)
    >>> objective = Objective("normalised", lambda_w=0.005, lambda_h=0.05, lambda_b=0.005)
    >>> bound = geometry_bound(optimum(labels, objective).prototypes, labels, 2)
    >>> bound.sigma >= bound.bound, bound.vacuous
    (True, False)
    """
    prototypes = check_prototypes(prototypes, distribution)
    check_whole("multiplicity", multiplicity, least=1)
    rows, _ = _members(distribution, multiplicity)
    singles = single_prototypes(prototypes, distribution)
    if not len(rows) or np.isnan(singles).any():
        return None
    classes = distribution.classes
    contrasts = contrast_basis(classes)  # (K, K-1)
    share = distribution.counts[rows] / distribution.counts[rows].sum()
    root = np.sqrt(share)[:, None]
    labels = distribution.indicator[rows] @ contrasts  # (S_m, K-1)
    centred = contrasts.T @ singles  # (K-1, d): A in the contrast basis
    averages = labels @ centred  # (S_m, d) A y_S
    targets = prototypes[rows]
    x, h = averages - share @ averages, targets - share @ targets
    squared = float((share @ x**2).sum())
    scale = float((share @ (x * h)).sum()) / squared if squared > 0 else 0.0
    offset = share @ (targets - scale * averages)
    error = float(np.linalg.norm((targets - offset - scale * averages) * root, 2))
    kappa = _smallest(labels * root, classes - 1) ** 2
    first = abs(scale) * np.sqrt(kappa) * _smallest(centred, classes - 1)
    sigma = _smallest((targets - offset) * root, classes - 1)
    bound = float(first - error)
    # rounding leaves κ_m = 0 at 1e-16, where the ratio would be noise
    tightness = sigma / float(first) if kappa > 1e-12 and first > 0 else None
    return GeometryBound(multiplicity, sigma, bound, tightness, bound <= 0, scale, kappa, error)
