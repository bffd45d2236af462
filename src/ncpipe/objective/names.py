"""What a configuration needs to know of objectives: names and plain facts, without numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

BiasMode = Literal["none", "penalised", "free"]
LossName = Literal["pal", "bce", "mse"]
Classifier = Literal["learned", "etf"]

BIAS_MODES: tuple[BiasMode, ...] = ("none", "penalised", "free")
CLASSIFIERS: tuple[Classifier, ...] = ("learned", "etf")
DEFAULT_LOSS: LossName = "pal"  # the loss that every result is stated for
DEFAULT_CLASSIFIER: Classifier = "learned"


@dataclass(frozen=True)
class LossFacts:
    """Plain facts of one loss; its functions are in `ncpipe.objective.losses.LOSSES`, under the same name.

    Parameters
    ----------
    title : str
    targets : tuple of str
        The targets that it takes.
    class_weights : bool
        Whether it takes class weights.
    linear : bool
        Whether ℓ is linear in its target: its gradient is τ_S p_S − t_S then, and p_S − t_S otherwise.
    one_distribution : bool
        Whether the predictions of a sample are one distribution over the classes.
    contrasts_only : bool
        Whether ℓ(z + c 1) = ℓ(z), so that gradients sum to 0 and features of width K − 1 suffice.
    """

    title: str
    targets: tuple[str, ...]
    class_weights: bool
    linear: bool
    one_distribution: bool
    contrasts_only: bool


LOSS_FACTS: Mapping[LossName, LossFacts] = {
    "pal": LossFacts(
        title="pick-all-labels cross-entropy",
        targets=("normalised", "raw"),
        class_weights=True,
        linear=True,
        one_distribution=True,
        contrasts_only=True,
    ),
    "bce": LossFacts(
        title="binary cross-entropy of every class",
        targets=("raw",),
        class_weights=False,
        linear=False,
        one_distribution=False,
        contrasts_only=False,
    ),
    "mse": LossFacts(
        title="half the squared error",
        targets=("normalised", "raw"),
        class_weights=False,
        linear=False,
        one_distribution=False,
        contrasts_only=False,
    ),
}
