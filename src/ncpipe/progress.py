"""Progress of long work: short lines on a terminal, plain lines in the log."""

from __future__ import annotations

import logging
import sys
import time


def clock(seconds: float) -> str:
    """Format a duration as ``0:07``, ``12:30`` or ``3:05:00``."""
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


class Progress:
    """Reports epochs of one run: to the log every `log_seconds`, to a terminal every `terminal_seconds`.

    Parameters
    ----------
    name : str
        Put in front of terminal lines, since several runs share the terminal.
    total : int
        Epochs of the whole run.
    images_per_epoch : int
    start : int
        Epochs already done by an earlier process.
    log : logging.Logger
    """

    def __init__(
        self,
        name: str,
        total: int,
        images_per_epoch: int,
        *,
        start: int,
        log: logging.Logger,
        log_seconds: float = 10.0,
        terminal_seconds: float = 5.0,
    ) -> None:
        self._name, self._total, self._images, self._log = name, total, images_per_epoch, log
        self._start, self._began = start, time.monotonic()
        self._log_seconds, self._terminal_seconds = log_seconds, terminal_seconds
        self._logged = self._shown = self._began

    def epoch(self, epoch: int, loss: float, *, force: bool = False) -> None:
        """Report that `epoch` epochs are done and the mean loss of the last; `force` always writes a log line."""
        now = time.monotonic()
        done, spent = epoch - self._start, now - self._began
        rate = done * self._images / spent if spent > 0 else 0.0
        left = spent / done * (self._total - epoch) if done else 0.0
        line = f"epoch {epoch}/{self._total}  {rate:,.0f} images/s  loss {loss:.6g}  left {clock(left)}"
        if force or now - self._logged >= self._log_seconds:
            self._logged = now
            self._log.info("%s", line)
        if sys.stderr.isatty() and (now - self._shown >= self._terminal_seconds or epoch == self._total):
            self._shown = now
            print(f"{self._name}  {line}", file=sys.stderr, flush=True)
