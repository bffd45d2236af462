"""Writing beside training: checkpoints copied to the host, and written there by a thread of their own.

Used with CUDA, where the device trains on while the host writes. On a CPU both want the same cores, and it gains
nothing.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

WAITING = 1  # checkpoints that wait while one is written: beyond them training waits, and host memory is bounded


def writes_beside(device: torch.device) -> bool:
    """Whether checkpoints of a run on this device are written in the background."""
    return device.type == "cuda"


class HostCopy:
    """Host copies of tensors as they are now; on CUDA through pinned memory, without waiting for the device."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        cuda = any(tensor.is_cuda for tensor in tensors.values())
        self._copies = {}
        for name, tensor in tensors.items():
            copy = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda, requires_grad=False)
            self._copies[name] = copy.copy_(tensor.detach(), non_blocking=True)
        self._copied = torch.cuda.Event() if cuda else None
        if self._copied is not None:
            self._copied.record()

    def arrays(self) -> dict[str, np.ndarray]:
        """Wait until the copies are made, and hand them out."""
        if self._copied is not None:
            self._copied.synchronize()
        return {name: copy.numpy() for name, copy in self._copies.items()}


class Background:
    """Does jobs in the order in which they come, in one thread; use as a context manager.

    An error of a job is raised in the main thread, by the next `submit` or `drain`; the jobs behind it are not done.
    At the end whatever waits is done first, also when the main thread raises: what was checkpointed is kept.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(WAITING)
        self._error: BaseException | None = None
        self._log = log
        self._thread = threading.Thread(target=self._work, name="checkpoints")

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                if self._error is None:
                    job()
            except BaseException as error:  # raised again in the main thread
                self._error = error
            finally:
                self._jobs.task_done()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def submit(self, job: Callable[[], None]) -> None:
        """Have a job done; waits while too many do already."""
        self._raise()
        self._jobs.put(job)

    def drain(self) -> None:
        """Wait until everything submitted is done."""
        self._jobs.join()
        self._raise()

    def __enter__(self) -> Background:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._jobs.put(None)
        self._thread.join()
        if error is None:
            self._raise()
        elif self._error is not None and self._error is not error:
            self._log.error("a checkpoint could not be written either: %s", self._error)
