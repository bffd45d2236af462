"""The training loss in torch, and the terms of the terminal objective (7) at a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from ncpipe.objective.names import DEFAULT_LOSS, LossName


def _pal(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    # The loss is linear in its target, so that weights enter there.
    return cross_entropy(logits, targets if weights is None else targets * weights[:, None])


def _bce(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    each = binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)
    return (each if weights is None else each * weights).mean()


def _mse(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    each = 0.5 * (logits - targets).square().sum(1)
    return (each if weights is None else each * weights).mean()


# The mean of each loss of `ncpipe.objective.losses.LOSSES` over a batch, of logits, targets (B, K) and weights (B,).
BATCH_LOSSES: Mapping[LossName, Callable[[Tensor, Tensor, Tensor | None], Tensor]] = {
    "pal": _pal,
    "bce": _bce,
    "mse": _mse,
}


def batch_loss(
    logits: Tensor,
    features: Tensor,
    targets: Tensor,
    lambda_h: float,
    weights: Tensor | None = None,
    loss: LossName = DEFAULT_LOSS,
) -> Tensor:
    """Mean loss plus the per-sample feature penalty, theory.md (7) without its parameter penalties.

    Parameters
    ----------
    logits : Tensor, shape (B, K)
    features : Tensor, shape (B, d)
    targets : Tensor, shape (B, K)
        t_S of each sample: y / m (normalised) or y (raw), times class weights where there are some.
    lambda_h : float
        λ_H; the penalty is λ_H / 2 times the batch mean of ‖h‖².
    weights : Tensor, shape (B,), optional
        Sampling weights ω_S of the samples, on loss and penalty; without them each weighs 1.
    loss : {"pal", "bce", "mse"}
        Pick-all-labels; binary cross-entropy, summed over classes; half the squared error, summed over classes.
    """
    mean, squares = _mean_terms(logits, features, targets, weights, loss)
    return mean + 0.5 * lambda_h * squares


def _mean_terms(
    logits: Tensor, features: Tensor, targets: Tensor, weights: Tensor | None, loss: LossName
) -> tuple[Tensor, Tensor]:
    """Weighted means of the loss and of ‖h‖²."""
    squares = features.square().sum(1)
    if weights is not None:
        weights = weights.to(logits.dtype)
        squares = squares * weights
    return BATCH_LOSSES[loss](logits, targets, weights), squares.mean()


def objective_terms(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    *,
    lambda_w: float,
    lambda_h: float,
    lambda_b: float,
    weights: Tensor | None = None,
    loss: LossName = DEFAULT_LOSS,
) -> dict[str, float]:
    """Each term of theory.md (7) in float64: ``loss``, ``classifier``, ``feature``, ``bias``.

    Shapes: features (N, d), weight (K, d), bias (K,), targets (N, K), weights (N,); as in `batch_loss`.
    """
    features = features.double()
    logits = features @ weight.double().T + bias.double()
    mean, squares = _mean_terms(logits, features, targets.double(), weights, loss)
    return {
        "loss": mean.item(),
        "classifier": 0.5 * lambda_w * weight.double().square().sum().item(),
        "feature": 0.5 * lambda_h * squares.item(),
        "bias": 0.5 * lambda_b * bias.double().square().sum().item(),
    }


def error_and_score(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Multi-label error and score of a split.

    Parameters
    ----------
    logits : Tensor, shape (N, K)
    labels : Tensor, shape (N, K), bool

    Returns
    -------
    error : float in [0, 1]
        Share of samples whose top-|S| logits are not S (a tie counts as an error).
    score : float in [0, 1]
        Softmax mass on the true labels, averaged (called IoU by Li et al.).
    """
    lowest_true = logits.masked_fill(~labels, torch.inf).amin(1)
    highest_false = logits.masked_fill(labels, -torch.inf).amax(1)
    error = (lowest_true <= highest_false).double().mean().item()
    score = (logits.softmax(1) * labels).sum(1).double().mean().item()
    return error, score
