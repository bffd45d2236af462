"""Out of GPU memory: said in one line, with what to lower."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from ncpipe.errors import DeviceMemoryError
from ncpipe.experiment.plan import Run


@contextlib.contextmanager
def memory_errors(settings: Mapping[str, Any]) -> Iterator[None]:
    """Turn torch's error into one that names the batch and what to lower; what was kept before it stays.

    No state is written then: a step that ended half-way has already moved the statistics of batch norm.

    Raises
    ------
    DeviceMemoryError
        In place of `torch.OutOfMemoryError`.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        recipe, network = settings["recipe"], settings["network"]
        batch = "all" if recipe["batch"] == "full" else recipe["batch"]
        advice = ["its recipe's batch"] + (["its network's width"] if "width" in network else [])
        if recipe.get("precision", "float32") in ("float32", "tf32"):
            advice.append("its recipe's precision (bfloat16)")
        raise DeviceMemoryError(
            f"{Run(**settings['run']).name}: out of GPU memory with a batch of {batch} samples; lower "
            f"{', or '.join(advice)}, or free the device of other work. What was checkpointed is kept: on a larger "
            f"device the same command goes on from there. torch says: {' '.join(str(error).split())}"
        ) from error
