"""Arithmetic of a run: precision, deterministic algorithms, and the loss scale of float16. float32 is the reference."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from ncpipe.errors import InputError

AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}
AMPERE = 8  # compute capability: the first with TF32 and bfloat16
# Channels below which oneDNN's gradient of a residual network's convolutions writes outside its memory on CPUs without
# AVX-512 (torch 2.13: the process aborts): torch's own convolutions take over there.
_NARROW, _RESIDUAL = 8, ("resnet18", "resnet34", "resnet50")


def check_precision(precision: str, device: torch.device) -> None:
    """Check that the device has the precision of a recipe.

    Raises
    ------
    InputError
        For ``tf32`` on a CPU, or ``tf32`` and ``bfloat16`` on a CUDA device older than Ampere.
    """
    if device.type == "cpu":
        if precision == "tf32":
            raise InputError(
                "precision: found 'tf32' on a CPU, which has none; allowed here: float32, bfloat16, float16"
            )
    elif precision in ("tf32", "bfloat16") and (found := torch.cuda.get_device_capability(device)) < (AMPERE, 0):
        raise InputError(
            f"precision: found {precision!r} on {torch.cuda.get_device_name(device)}, of compute capability "
            f"{found[0]}.{found[1]} (it takes {AMPERE}.0); allowed here: float32, float16"
        )


@contextlib.contextmanager
def arithmetic(
    recipe: Mapping[str, Any], device: torch.device, network: Mapping[str, Any] | None = None
) -> Iterator[None]:
    """Set the switches of this process for a recipe's ``precision`` and ``deterministic``, and put them back.

    float32 is float32: torch by itself lets convolutions on CUDA round to TF32. Unless `deterministic`, cuDNN picks
    its algorithms by a race at the start, and the last bits of two runs on CUDA can differ.
    """
    tf32, deterministic = recipe.get("precision") == "tf32", recipe.get("deterministic", False)
    switches: list[tuple[Any, str, bool]] = [
        (torch.backends.cuda.matmul, "allow_tf32", tf32),
        (torch.backends.cudnn, "allow_tf32", tf32),
        (torch.backends.cudnn, "deterministic", deterministic),
        (torch.backends.cudnn, "benchmark", device.type == "cuda" and not deterministic),
    ]
    if device.type == "cpu" and network and network["architecture"] in _RESIDUAL and network["width"] < _NARROW:
        switches.append((torch.backends.mkldnn, "enabled", False))
    if deterministic:
        # Filling new memory would only show who reads what was never written; it costs a pass over everything.
        switches.append((torch.utils.deterministic, "fill_uninitialized_memory", False))
        if device.type == "cuda":
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA's first product is taken
    before = [getattr(owner, name) for owner, name, _ in switches]
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        for owner, name, value in switches:
            setattr(owner, name, value)
        if deterministic != was_deterministic:
            torch.use_deterministic_algorithms(deterministic)
        yield
    finally:
        for (owner, name, _), value in zip(switches, before, strict=True):
            setattr(owner, name, value)
        if torch.are_deterministic_algorithms_enabled() != was_deterministic:
            torch.use_deterministic_algorithms(was_deterministic)


def autocast(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """Context in which a backbone computes; one for each step, for it keeps rounded copies of the weights."""
    if precision in AUTOCAST:
        return torch.autocast(device.type, AUTOCAST[precision])
    return contextlib.nullcontext()


class LossScale:
    """Factor on the loss that keeps float16 gradients above zero, and what follows when they overflow.

    A step whose gradients are not finite is left out (parameters and momentum stay) and the factor halved; after
    `GROWTH_STEPS` steps in a row without that it is doubled. All of it happens on the device, without a wait, and is
    part of the resume state. A power of 2 from 1 to 2^24: below 1 nothing is left to scale, the values overflow.
    """

    FIRST, LARGEST, GROWTH_STEPS = 2.0**16, 2.0**24, 2000

    def __init__(self, device: torch.device) -> None:
        self.scale = torch.full((), self.FIRST, device=device)
        self.clean_steps = torch.zeros((), dtype=torch.int64, device=device)
        self.skipped_steps = torch.zeros((), dtype=torch.int64, device=device)

    @torch.no_grad()
    def overflow(self, gradients: Sequence[Tensor]) -> Tensor:
        """Whether a gradient is infinite or NaN, as 0. or 1. on the device; moves the scale for the next step."""
        norm = torch.nn.utils.get_total_norm(gradients, float("inf"))
        found = ~norm.isfinite()
        self.skipped_steps += found
        self.clean_steps.copy_(torch.where(found, 0, self.clean_steps + 1))
        grown = torch.where(self.clean_steps == self.GROWTH_STEPS, 2 * self.scale, self.scale).clamp(max=self.LARGEST)
        self.clean_steps.remainder_(self.GROWTH_STEPS)
        self.scale.copy_(torch.where(found, self.scale / 2, grown))
        return found.float()

    def tensors(self) -> dict[str, Tensor]:
        """What the next step depends on."""
        return {"scale": self.scale, "clean_steps": self.clean_steps, "skipped_steps": self.skipped_steps}
