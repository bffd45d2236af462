"""SIGTERM: a run finishes its batch, writes its state and exits."""

from __future__ import annotations

import signal
from types import FrameType


class Stop:
    """Whether SIGTERM has asked the run to stop; use as a context manager around the training."""

    def __init__(self) -> None:
        self.requested = False

    def _request(self, signum: int, frame: FrameType | None) -> None:
        self.requested = True

    def __enter__(self) -> Stop:
        self._previous = signal.signal(signal.SIGTERM, self._request)
        return self

    def __exit__(self, *exc: object) -> None:
        signal.signal(signal.SIGTERM, self._previous)
