"""Settings of the terminal objective (7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ncpipe.errors import InputError, check_array, check_choice, check_instance, check_number
from ncpipe.labels.distribution import TARGETS, LabelDistribution, Target
from ncpipe.objective.names import (
    CLASSIFIERS,
    DEFAULT_CLASSIFIER,
    DEFAULT_LOSS,
    LOSS_FACTS,
    BiasMode,
    Classifier,
    LossFacts,
    LossName,
)


@dataclass(frozen=True)
class Objective:
    """Settings of the terminal objective, theory.md (7).

    Parameters
    ----------
    target : {"normalised", "raw"}
        t_S = y_S / m or t_S = y_S (pick-all-labels).
    lambda_w, lambda_h : float
        Penalties on the classifier and, per sample, on the features; > 0.
    lambda_b : float
        Penalty on the bias; 0 makes it free. Ignored without a bias.
    use_bias : bool
        Whether the classifier has a bias.
    loss : {"pal", "bce", "mse"}
        ℓ of (7): pick-all-labels cross-entropy, binary cross-entropy of every class, or half the squared error.
    class_weights : tuple of float, length K, optional
        c_k > 0: pick-all-labels with c_k t_k for t_k.
    classifier : {"learned", "etf"}
        Whether W is learned, or fixed to `simplex_etf`; its penalty in (7) is a constant then.

    Raises
    ------
    InputError
        If a word is not one of those, a penalty or class weight is no number in its range, the loss does not take the
        target, or it takes no class weights.

    Examples
    --------
    >>> objective = Objective("normalised", lambda_w=5e-4, lambda_h=0.256, lambda_b=5e-4)
    >>> round(objective.lam, 6), objective.bias_mode
    (0.011314, 'penalised')
    """

    target: Target
    lambda_w: float
    lambda_h: float
    lambda_b: float = 0.0
    use_bias: bool = True
    loss: LossName = DEFAULT_LOSS
    class_weights: tuple[float, ...] | None = None
    classifier: Classifier = DEFAULT_CLASSIFIER

    def __post_init__(self) -> None:
        """Refuse what is no objective."""
        check_choice("loss", self.loss, tuple(LOSS_FACTS))
        check_choice("target", self.target, TARGETS)
        check_choice("classifier", self.classifier, CLASSIFIERS)
        check_number("lambda_w", self.lambda_w, above=0.0)
        check_number("lambda_h", self.lambda_h, above=0.0)
        check_number("lambda_b", self.lambda_b, least=0.0)
        if not isinstance(self.use_bias, bool | np.bool_):
            raise InputError(f"use_bias: found {self.use_bias!r}; allowed: True, False")
        if self.target not in self.facts.targets:
            allowed = ", ".join(self.facts.targets)
            raise InputError(f"target: found {self.target!r} with loss {self.loss}; allowed there: {allowed}")
        if self.class_weights is None:
            return
        if not self.facts.class_weights:
            raise InputError(
                f"class_weights: found with loss {self.loss}, which does not use them; allowed there: None"
            )
        weights = check_array("class_weights", self.class_weights, ("class",))
        for position, weight in enumerate(weights.tolist()):
            check_number(f"class_weights[{position}]", weight, above=0.0)
        object.__setattr__(self, "class_weights", tuple(weights.tolist()))  # an array has no equality of its own

    @property
    def facts(self) -> LossFacts:
        """What is plain of its loss."""
        return LOSS_FACTS[self.loss]

    @property
    def lam(self) -> float:
        """λ = sqrt(λ_W λ_H), the nuclear-norm weight of (8)."""
        return float(np.sqrt(self.lambda_w * self.lambda_h))

    @property
    def bias_mode(self) -> BiasMode:
        """What (9) knows of the bias; the bias itself, shape (K,), is always called `bias`."""
        if not self.use_bias:
            return "none"
        return "penalised" if self.lambda_b > 0 else "free"

    @property
    def bias_penalty(self) -> float:
        """λ_b where the bias is penalised, 0 for a free one and without one."""
        return self.lambda_b if self.use_bias else 0.0

    @property
    def variant(self) -> str:
        """What sets the objective apart from unweighted pick-all-labels with a learned classifier; "" if nothing."""
        parts = [] if self.loss == DEFAULT_LOSS else [f"loss {self.loss}"]
        parts += [] if self.class_weights is None else ["class weights"]
        parts += [] if self.classifier == DEFAULT_CLASSIFIER else ["a fixed classifier"]
        return " and ".join(parts)

    @property
    def least_width(self) -> str:
        """Feature width from which on (7) equals (8): "K - 1" where the loss sees contrasts only, else "K"."""
        return "K - 1" if self.facts.contrasts_only and self.classifier == "learned" else "K"

    @classmethod
    def from_config(cls, entry: dict[str, Any]) -> Objective:
        """Build from a validated entry of ``objectives``, its class weights numbers (`config.objective_entry`)."""
        weights = entry.get("class_weights")
        return cls(
            target=entry["target"],
            lambda_w=float(entry["lambda_w"]),
            lambda_h=float(entry["lambda_h"]),
            lambda_b=float(entry["lambda_b"]),
            use_bias=bool(entry["bias"]),
            loss=entry.get("loss", DEFAULT_LOSS),
            class_weights=None if weights is None else tuple(map(float, weights)),
            classifier=entry.get("classifier", DEFAULT_CLASSIFIER),
        )

    def as_entry(self) -> dict[str, Any]:
        """The entry that `from_config` makes this of; values that are defaults of the configuration are left out."""
        entry: dict[str, Any] = {
            "target": self.target,
            "lambda_w": self.lambda_w,
            "lambda_h": self.lambda_h,
            "lambda_b": self.lambda_b,
            "bias": self.use_bias,
        }
        entry |= {} if self.loss == DEFAULT_LOSS else {"loss": self.loss}
        entry |= {} if self.class_weights is None else {"class_weights": list(self.class_weights)}
        return entry | ({} if self.classifier == DEFAULT_CLASSIFIER else {"classifier": self.classifier})

    def target_rows(self, multi_hot: np.ndarray) -> np.ndarray:
        """t_S of multi-hot rows, shape (S, K): of the objective's target, times its class weights."""
        return self._weigh(target_rows(multi_hot, self.target))

    def targets(self, distribution: LabelDistribution) -> np.ndarray:
        """t_S of the label sets, shape (S, K)."""
        return self._weigh(distribution.targets(self.target))

    def _weigh(self, rows: np.ndarray) -> np.ndarray:
        """Targets times class weights, shape (S, K)."""
        if self.class_weights is None:
            return rows
        if len(self.class_weights) != rows.shape[1]:
            raise InputError(
                f"class weights: found {len(self.class_weights)}; allowed: one for each of {rows.shape[1]} classes"
            )
        return rows * np.array(self.class_weights)

    def amplitude(self, distribution: LabelDistribution) -> np.ndarray:
        """s_S of the gradient s_S p_S − t_S, shape (S,): τ_S = 1ᵀt_S for pick-all-labels, 1 for the others."""
        if not self.facts.linear:
            return np.ones(len(distribution.counts))
        if self.class_weights is None:
            return distribution.tau(self.target)
        return self.targets(distribution).sum(axis=1)


def check_problem(distribution: LabelDistribution, objective: Objective) -> None:
    """Refuse what is not a label distribution and an objective for its classes.

    Raises
    ------
    InputError
        The message names the argument.
    """
    check_instance("distribution", distribution, LabelDistribution)
    check_instance("objective", objective, Objective)
    weights = objective.class_weights
    if weights is not None and len(weights) != distribution.classes:
        raise InputError(f"class_weights: found {len(weights)}; the distribution has {distribution.classes} classes")


def target_rows(multi_hot: np.ndarray, target: Target) -> np.ndarray:
    """Targets of multi-hot rows, shape (S, K): y/|y| (normalised) or y (raw)."""
    rows = np.asarray(multi_hot, dtype=np.float64)
    return rows / rows.sum(axis=1, keepdims=True) if target == "normalised" else rows
