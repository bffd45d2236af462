"""The optimiser: SGD with momentum over groups of parameters, and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.sgd import sgd


def learning_rate(recipe: Mapping[str, Any], epoch: int, epochs: int) -> float:
    """Learning rate of the epoch that follows `epoch` finished ones: cosine from lr to lr / 1000, or constant."""
    peak = float(recipe["lr"])
    if recipe["schedule"] == "constant":
        return peak
    floor = peak / 1000
    return floor + 0.5 * (peak - floor) * (1 + math.cos(math.pi * epoch / epochs))


class ParameterGroup:
    """Parameters that share a weight decay, and their momentum.

    The step is `torch.optim.SGD`'s own fused one without its class, whose constructor alone imports the whole of
    torch's compiler: 1.4 s in every job.
    """

    def __init__(self, parameters: Sequence[Tensor], *, weight_decay: float, lr_scale: float = 1.0) -> None:
        self.parameters, self.weight_decay, self.lr_scale = list(parameters), weight_decay, lr_scale
        self.momentum = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self, lr: float, momentum: float, *, scale: Tensor | None = None, overflow: Tensor | None = None) -> None:
        """Take one step down the gradients, and drop them.

        Gradients are divided by `scale`, and where `overflow` is 1 no step is taken: see `LossScale`.
        """
        gradients = [cast(Tensor, p.grad) for p in self.parameters]
        sgd(
            self.parameters, gradients, cast(list[Tensor | None], self.momentum), fused=True, lr=lr * self.lr_scale,
            momentum=momentum, weight_decay=self.weight_decay, dampening=0.0, nesterov=False, maximize=False,
            grad_scale=scale, found_inf=overflow,
        )  # fmt: skip
        for parameter in self.parameters:
            parameter.grad = None
