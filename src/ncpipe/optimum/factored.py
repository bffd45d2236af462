"""The convex problem (8) in factored form, for any size: Z D^{1/2} = W Vᵀ, minimised by L-BFGS.

    min_{W, V, b}  Σ_S w_S ℓ_S(W V_S / √w_S + b) + (λ/2) (‖W‖_F² + ‖V‖_F²) + (λ_b/2) ‖b‖²

With as many columns as classes this has no local minimum that is not global. In V, which carries √w_S, the curvature
does not depend on how many samples a label set has: that is what makes a first-order method converge in a few hundred
steps. The polar certificate turns a solution of relative error ε in value into a bound of about the same quality.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import OptimizeResult, minimize

from ncpipe.objective.losses import Loss
from ncpipe.objective.settings import Objective
from ncpipe.optimum.certificates import Minimum, certify

_START_LOGIT = 5.0  # size of the logits that a start from nothing gives to the labels
_START_STEP = 0.1  # length of the first step from a given start, in its average singular value
_START_FLOOR = 0.1  # smallest singular value of W Wᵀ at the start, relative to the largest
_PAIRS = 10  # curvature pairs of L-BFGS
_WINDOW = 20  # iterations over which progress is judged
# Over the window the error falls about threefold, so that a decrease of this many tolerances leaves one of them.
_PROGRESS = 3.0


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
        Relative gap to stop at.
    max_iterations : int
    start : Minimum
        Where to start from; from steepest descent alone where its contrasts are 0.
    """
    count, classes = loss.lower.shape
    root, lam = np.sqrt(weights)[:, None], objective.lam
    lambda_b = objective.bias_penalty
    cuts = np.cumsum([classes * classes, count * classes])

    def split(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        w, v, b = np.split(x, cuts)
        return w.reshape(classes, classes), v.reshape(count, classes), b

    def value(x: np.ndarray) -> tuple[float, np.ndarray]:
        w, v, b = split(x)
        logits = v @ w.T
        logits /= root
        logits += b
        gradient = loss.gradient(logits)
        total = float(weights @ loss.value(logits)) + 0.5 * lambda_b * float(b @ b)
        total += 0.5 * lam * float(x[: cuts[1]] @ x[: cuts[1]])
        slope = lam * x
        slope_w, slope_v, slope_b = split(slope)
        slope_b[:] = weights @ gradient + lambda_b * b if objective.bias_mode != "none" else 0.0
        gradient *= root
        slope_w += gradient.T @ v
        slope_v += gradient @ w
        return total, slope

    best, iteration, history, checked = start, 0, [np.inf], 0

    def look(x: np.ndarray) -> None:
        nonlocal best, checked
        w, v, b = split(x)
        best = best.improved(certify(v @ w.T / root, b, loss, weights, objective, iteration))
        checked = iteration

    def callback(intermediate_result: OptimizeResult) -> None:
        nonlocal iteration
        iteration += 1
        history.append(float(intermediate_result.fun))
        decrease = history[max(0, iteration - _WINDOW)] - history[-1]
        if decrease <= _PROGRESS * rtol * abs(history[-1]) and iteration >= checked + _WINDOW:
            look(intermediate_result.x)
            if best.relative_gap <= rtol:
                raise StopIteration

    result = minimize(
        value,
        _factors(start, loss, weights, root),
        jac=True,
        method="L-BFGS-B",
        callback=callback,
        options={"maxcor": _PAIRS, "maxiter": max_iterations, "maxfun": 2 * max_iterations, "ftol": 0.0, "gtol": 0.0},
    )
    if best.relative_gap > rtol:
        look(result.x)
    return best


def _factors(start: Minimum, loss: Loss, weights: np.ndarray, root: np.ndarray) -> np.ndarray:
    """Balanced W, V and b to start from, flat.

    A direction that is 0 in both factors would stay 0. So a short step of steepest descent brings in the ones that
    the start lacks, and W is of full rank, whatever the start's.
    """
    descent = -root * loss.gradient(start.contrasts + start.bias)
    rows = root * start.contrasts
    if rows.any():
        average = np.linalg.norm(rows) / np.sqrt(rows.shape[1])  # root mean square singular value
        rows = rows + _START_STEP * average / np.linalg.norm(descent, 2) * descent
    else:
        rows = _START_LOGIT * descent
    _, values, right = np.linalg.svd(rows, full_matrices=False)
    spread = np.sqrt(np.maximum(values, _START_FLOOR * values[0]))
    w = np.eye(rows.shape[1]) * spread[-1] + (right.T * (spread - spread[-1])) @ right
    return np.concatenate([w.ravel(), (rows @ np.linalg.inv(w)).ravel(), start.bias])
