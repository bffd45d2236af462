"""The terminal objective (7): its settings, shared by training, theory and collapse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ncpipe.labels import Target

Bias = Literal["none", "penalised", "free"]


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
    """

    target: Target
    lambda_w: float
    lambda_h: float
    lambda_b: float = 0.0
    use_bias: bool = True

    @property
    def lam(self) -> float:
        """λ = sqrt(λ_W λ_H), the nuclear-norm weight of (8)."""
        return float(np.sqrt(self.lambda_w * self.lambda_h))

    @property
    def bias(self) -> Bias:
        """The bias mode of (9)."""
        if not self.use_bias:
            return "none"
        return "penalised" if self.lambda_b > 0 else "free"

    @classmethod
    def from_config(cls, entry: dict[str, Any]) -> Objective:
        """Build from a validated entry of ``objectives`` in the configuration."""
        return cls(
            target=entry["target"],
            lambda_w=float(entry["lambda_w"]),
            lambda_h=float(entry["lambda_h"]),
            lambda_b=float(entry["lambda_b"]),
            use_bias=bool(entry["bias"]),
        )
