"""The rank of the optimum's logits, as far as a point with a known gap proves it: theory.md (30)."""

from __future__ import annotations

import numpy as np

from ncpipe.errors import check_array, check_number
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.losses import LOSSES, losses, predictions
from ncpipe.objective.settings import Objective
from ncpipe.objective.terms import radius, residual_matrix

_ROUNDING = 8 * np.finfo(np.float64).eps  # of a gap, which is a difference of two values of the objective


def rank_interval(
    distribution: LabelDistribution, objective: Objective, *, logits: np.ndarray, gap: float
) -> tuple[int, int]:
    """The least and the largest rank that the optimum's Z can have, given a point and its gap, theory.md (30).

    *At most.* Where Z* has rank r, r singular values of R* equal λ, and those of R at a point with gap ε are within
    √(τ_max ε) of them, (20). *At least.* Predictions of a label set are within √(2ε/(w_S τ_S)) of the optimum's,
    summed over classes, so its logits are near too where no probability is smaller than that; singular values of
    Z D^{1/2} that exceed the distance belong to directions that Z* has. With a bias the direction √w is left out.

    Parameters
    ----------
    distribution : LabelDistribution
    objective : Objective
        With a learned classifier.
    logits : ndarray, shape (S, K)
        Of the point, with its bias.
    gap : float
        (7) there minus a lower bound on the minimum; >= 0.

    Returns
    -------
    tuple of int
        Equal where the rank is certified.

    Raises
    ------
    InputError
        If a shape does not fit, a logit is not finite, or the gap is negative.
    """
    logits = check_array("logits", logits, ("label set", "class")).astype(np.float64)
    mean_loss = float(distribution.weights @ losses(logits, objective.targets(distribution), objective.loss))
    gap = check_number("gap", gap, least=0.0) + _ROUNDING * (1 + mean_loss)
    probabilities = predictions(logits, objective.loss)
    slack = radius(distribution, objective, gap=gap) - objective.lam
    residuals = np.linalg.svd(residual_matrix(distribution, objective, probabilities=probabilities), compute_uv=False)
    most = min(len(distribution.counts), distribution.classes - (objective.loss == "pal"))  # logits sum to 0 there
    highest = min(most, int(np.count_nonzero(residuals + slack >= objective.lam * (1 - 1e-12))))

    root = np.sqrt(distribution.weights)
    rows = logits - logits.mean(axis=1, keepdims=True) if objective.facts.contrasts_only else logits
    weighted = root[:, None] * rows
    if objective.use_bias:
        weighted = weighted - np.outer(root, root @ weighted)
    distance = np.linalg.norm(root[:, None] * _logit_distances(distribution, objective, probabilities, gap))
    lowest = int(np.count_nonzero(np.linalg.svd(weighted, compute_uv=False) > distance)) if np.isfinite(distance) else 0
    return min(lowest, highest), highest


def _logit_distances(
    distribution: LabelDistribution, objective: Objective, probabilities: np.ndarray, gap: float
) -> np.ndarray:
    """How far each logit can be from the optimum's, (S, K), up to a constant per row where only contrasts count."""
    share = gap / distribution.weights[:, None]  # of the gap that one label set can account for, (S, 1)
    amplitude = objective.amplitude(distribution)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        distances = LOSSES[objective.loss].logit_distances(probabilities, share, amplitude)
    return np.where(np.isfinite(distances), distances, np.inf)
