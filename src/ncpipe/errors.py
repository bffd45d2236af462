"""Everything that ncpipe raises on purpose. The message of each is written for the user, not for the traceback."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


class NcpipeError(Exception):
    """Base of all errors whose message tells the user what was found, where, and what is allowed."""


class ConfigError(NcpipeError):
    """One or more faults of a configuration, collected.

    Parameters
    ----------
    problems : sequence of str
        One plain line for each fault: key, what was found, what is allowed.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class InputError(NcpipeError):
    """A file or value given by the user cannot be what it should be."""


class StoreError(NcpipeError):
    """A store is missing, unfinished, damaged, or of an unknown format version."""


class LockedError(StoreError):
    """Another writer holds the store; the message carries that writer's record."""


class StateMismatchError(StoreError):
    """A resume state belongs to other settings or other data."""


class RangeError(NcpipeError):
    """A value does not fit in the dtype that it is to be stored in."""


class DeviceMemoryError(NcpipeError):
    """The GPU's memory does not hold the run."""


class DivergenceError(NcpipeError):
    """The training loss is no longer finite."""


def near_match(word: str, allowed: Sequence[str]) -> str:
    """``; did you mean 'x'?`` or nothing."""
    close = difflib.get_close_matches(word, allowed, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
