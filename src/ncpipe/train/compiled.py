"""The step compiled: torch.compile, on CUDA with CUDA graphs, and a fallback that says why."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Forward:
    """A backbone's forward pass in training.

    Attributes
    ----------
    function : callable
        Compiled, or the backbone itself.
    kind : str
        For the manifest: ``inductor``, ``inductor, CUDA graphs`` or ``no: <kind of error>``.
    reason : str
        Why it is not compiled, or nothing.
    """

    function: Callable[[Any], Tensor]
    kind: str
    reason: str = ""


def compile_backbone(backbone: nn.Module, example: Tensor, autocast: AbstractContextManager[None]) -> Forward:
    """Compile a backbone for batches like `example`, and try it forward and backward; its state stays as it was.

    Whatever a compiler, or the lack of one, raises leads to the uncompiled backbone: what is wrong with the backbone
    itself is raised there again. Out of memory is not the compiler's fault and is raised.
    """
    graphs = example.is_cuda
    buffers = [buffer.clone() for buffer in backbone.buffers()]
    backbone.train()
    try:
        torch.compiler.reset()  # torch compiles one module's code eight times in a process, and then no more
        function = torch.compile(backbone, fullgraph=True, dynamic=False, mode="reduce-overhead" if graphs else None)
        for _ in range(3 if graphs else 1):  # a CUDA graph is warmed up, recorded, replayed
            with autocast:
                features = function(example)
            features.float().sum().backward()
            del features
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        forward = Forward(backbone, f"no: {type(error).__name__}", " ".join(str(error).split()))
    else:
        forward = Forward(function, "inductor, CUDA graphs" if graphs else "inductor")
    finally:
        with torch.no_grad():
            for buffer, value in zip(backbone.buffers(), buffers, strict=True):
                buffer.copy_(value)
        for parameter in backbone.parameters():
            parameter.grad = None
    return forward
