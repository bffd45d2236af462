"""What holds at every stationary point of (7) over signed features, whatever their width: theory.md (26) and (32)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ncpipe.errors import InputError, check_array, check_number
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.losses import loss_gradients
from ncpipe.objective.settings import Objective


class KernelSynthesis(NamedTuple):
    """Prototypes and classifier as the residual kernel makes them of each other, theory.md (26).

    Parameters
    ----------
    prototypes : ndarray, shape (S, d)
        λ⁻² Σ_S' w_S' ⟨r_S, r_S'⟩ h_S'.
    weight : ndarray, shape (K, d)
        −λ_W⁻¹ Σ_S w_S r_S h_Sᵀ.
    residual_prototypes, residual_weight : float
        Relative Frobenius distances from the given ones: 0 exactly at stationary points, and nowhere else.
    """

    prototypes: np.ndarray
    weight: np.ndarray
    residual_prototypes: float
    residual_weight: float


def kernel_synthesis(
    distribution: LabelDistribution,
    objective: Objective,
    *,
    weight: np.ndarray,
    bias: np.ndarray,
    prototypes: np.ndarray,
) -> KernelSynthesis:
    """Synthesise every prototype from all others by the kernel of their residuals, theory.md (26).

    With r_S = ∇ℓ_S = τ p_S − t_S, stationarity of (7) in W and in the features gives
    h_S = λ⁻² Σ_S' w_S' ⟨r_S, r_S'⟩ h_S'. Each label set enters in proportion to its frequency w_S': in this basis,
    weights grow with frequency, with exponent exactly 1.

    Parameters
    ----------
    distribution : LabelDistribution
    objective : Objective
        With a learned classifier.
    weight, bias, prototypes : ndarray, shapes (K, d), (K,) and (S, d)

    Raises
    ------
    InputError
        If a shape does not fit, a value is not finite, or weight or prototypes are 0 throughout.

    Examples
    --------
    >>> from ncpipe.labels.distribution import LabelDistribution
    >>> from ncpipe.objective.settings import Objective
    >>> from ncpipe.optimum.optimum import solve
    >>> labels = LabelDistribution.from_counts({(0,): 30, (1,): 10, (2,): 5, (0, 1): 7, (1, 2): 4}, 3)
    >>> objective = Objective("normalised", 0.01, 0.02, 0.01)
    >>> optimum = solve(labels, objective)
    >>> made = kernel_synthesis(
    ...     labels, objective, weight=optimum.weight, bias=optimum.bias, prototypes=optimum.prototypes
    ... )
    >>> made.residual_prototypes < 1e-5
    True
    """
    weight = check_array("weight", weight, ("class", "feature"))
    bias = check_array("bias", bias, ("class",))
    prototypes = check_array("prototypes", prototypes, ("label set", "feature"))
    classes, label_sets, width = distribution.classes, len(distribution.counts), weight.shape[1]
    shapes = weight.shape, bias.shape, prototypes.shape
    if shapes != ((classes, width), (classes,), (label_sets, width)):
        raise InputError(
            f"weight, bias, prototypes: found shapes {shapes}; allowed: (K, d), (K,) and (S, d) with K = {classes}, "
            f"S = {label_sets}"
        )
    for name, value in (("weight", weight), ("prototypes", prototypes)):
        if not value.any():
            raise InputError(f"{name}: found only zeros; allowed: a point that has not collapsed altogether")
    targets = objective.targets(distribution)
    residuals = loss_gradients(prototypes @ weight.T + bias, targets, objective.loss)  # r_S, (S, K)
    pulled = distribution.weights[:, None] * residuals  # (S, K)
    made_prototypes = residuals @ (pulled.T @ prototypes) / objective.lam**2
    made_weight = -(pulled.T @ prototypes) / objective.lambda_w
    return KernelSynthesis(
        made_prototypes,
        made_weight,
        float(np.linalg.norm(made_prototypes - prototypes) / np.linalg.norm(prototypes)),
        float(np.linalg.norm(made_weight - weight) / np.linalg.norm(weight)),
    )


def implied_lambda_h(weight: np.ndarray, mean_square_feature: float, lambda_w: float) -> float:
    """The feature penalty at which a network would be in balance, λ_W‖W‖² = λ_H E‖h‖²: theory.md (32).

    Stationary points of (7) are in balance (scale W by a and h by 1/a). A network that was trained without a penalty on
    features has no λ_H of its own; whatever is measured against the optimum at this one is conditional on the fit.
    Decoupled weight decay (AdamW) is not λ_W.

    Parameters
    ----------
    weight : ndarray, shape (K, d)
    mean_square_feature : float
        E‖h‖² over the training samples, > 0.
    lambda_w : float
        > 0.

    Raises
    ------
    InputError
        If a value is out of range, or the classifier is 0.
    """
    weight = check_array("weight", weight, ("class", "feature"))
    check_number("mean_square_feature", mean_square_feature, above=0.0)
    check_number("lambda_w", lambda_w, above=0.0)
    if not weight.any():
        raise InputError("weight: found only zeros; allowed: a classifier that has not collapsed altogether")
    return float(lambda_w * (weight.astype(np.float64) ** 2).sum() / mean_square_feature)
