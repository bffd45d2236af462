"""Runs one training in a process of its own that may be told to die; `test_resume` starts it by path.

Given as globals: `ARGUMENTS` of `train_run`; `FATAL`: None, or (name of a signal, the kind of event it strikes at, the
number of the event); `BESIDE`: whether checkpoints are written beside the training, as on CUDA. Events are what a run
does to itself or to the world: batches, arrays written, files synced and moved into place.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from typing import Any

import zarr

from ncpipe.train import loop, trainer

fatal: tuple[str, str, int] | None = globals()["FATAL"]
EVENTS = {"batch": (trainer, "batch_loss"), "write": (zarr.Array, "__setitem__"), "sync": (os, "fsync"),
          "move": (os, "replace")}  # fmt: skip


def strike(real: Callable, kind: str) -> Callable:
    """Wrap an event so that the signal comes just before the one that is counted down to."""

    def event(*args: Any, **kwargs: Any) -> Any:
        global left  # noqa: PLW0603
        if fatal is not None and fatal[1] in (kind, "any"):
            if left == 0:
                os.kill(os.getpid(), getattr(signal, fatal[0]))
            left -= 1
        return real(*args, **kwargs)

    return event


if fatal is not None:
    left = fatal[2]
    for kind, (owner, name) in EVENTS.items():
        setattr(owner, name, strike(getattr(owner, name), kind))
loop.STATE_SECONDS = 0.0
if globals()["BESIDE"]:
    loop.writes_beside = lambda _: True
loop.train_run(log=logging.getLogger("ncpipe"), **globals()["ARGUMENTS"])
