"""Everything that ncpipe raises on purpose, and the checks at its doors.

The message of each is written for the user, not for the traceback. Imports nothing heavy.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


class NcpipeError(Exception):
    """Base of all errors whose message tells the user what was found, where, and what is allowed."""


class ConfigError(NcpipeError, ValueError):
    """One or more faults of a configuration, collected.

    Parameters
    ----------
    problems : sequence of str
        One plain line for each fault: key, what was found, what is allowed.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class InputError(NcpipeError, ValueError):
    """A file or value given by the user cannot be what it should be."""


class StoreError(NcpipeError, RuntimeError):
    """A store is missing, unfinished, damaged, or of an unknown format version."""


class LockedError(StoreError):
    """Another writer holds the store; the message carries that writer's record."""


class StateMismatchError(StoreError):
    """A resume state belongs to other settings or other data."""


class RangeError(NcpipeError, OverflowError):
    """A value does not fit in the dtype that it is to be stored in."""


class DeviceMemoryError(NcpipeError, MemoryError):
    """The GPU's memory does not hold the run."""


class DivergenceError(NcpipeError, ArithmeticError):
    """The training loss is no longer finite."""


def near_match(word: str, allowed: Sequence[str]) -> str:
    """``; did you mean 'x'?`` or nothing."""
    close = difflib.get_close_matches(word, allowed, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def check_choice(name: str, found: object, allowed: Sequence[str]) -> None:
    """Refuse a word that is not among the allowed ones.

    Raises
    ------
    InputError
        The message names the parameter, what was found, a near match, and what is allowed.
    """
    if not (isinstance(found, str) and found in allowed):
        hint = near_match(found.lower(), allowed) if isinstance(found, str) else ""
        raise InputError(f"{name}: found {found!r}{hint or ';'} allowed: {', '.join(allowed)}")


def check_number(
    name: str, found: object, *, above: float | None = None, least: float | None = None, most: float | None = None
) -> float:
    """Refuse what is no finite number in its range; return it as a float.

    Raises
    ------
    InputError
        The message names the parameter, what was found and the range.
    """
    limits = [f"{sign} {limit:g}" for sign, limit in ((">", above), (">=", least), ("<=", most)) if limit is not None]
    number = float(found) if isinstance(found, Real) and not isinstance(found, bool) else math.nan
    fits = (above is None or number > above) and (least is None or number >= least) and (most is None or number <= most)
    if not (math.isfinite(number) and fits):
        raise InputError(f"{name}: found {found!r}; allowed: a finite number {' and '.join(limits)}".rstrip())
    return number


def check_array(name: str, found: Any, axes: Sequence[str], *, finite: bool = True) -> np.ndarray:
    """Refuse what is no array of finite numbers with these axes; return it as float32 or float64.

    Parameters
    ----------
    name : str
        What messages call it.
    found : array-like
        Also a torch tensor, on any device, with or without gradients. Whole numbers, booleans and float16 become
        float64; float32 and float64 stay what they are, without a copy.
    axes : sequence of str
        Name of each axis, for instance ``("sample", "feature")``.
    finite : bool
        Whether NaN and infinity are refused.

    Raises
    ------
    InputError
        The message names the array, what was found (shape, dtype, or value and position) and what is allowed.
    """
    import numpy as np

    if hasattr(found, "detach"):
        found = found.detach().cpu()
        found = found.float() if str(found.dtype) == "torch.bfloat16" else found
    shape = f"{len(axes)} dimension{'s' * (len(axes) != 1)} ({' x '.join(axes)})"
    try:
        array = np.asarray(found)
    except (ValueError, TypeError) as error:
        raise InputError(f"{name}: found rows of different lengths; allowed: {shape} of numbers") from error
    if array.dtype.kind not in "fiub":
        raise InputError(f"{name}: found dtype {array.dtype}; allowed: numbers")
    if array.ndim != len(axes):
        raise InputError(f"{name}: found shape {array.shape}; allowed: {shape}")
    array = array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
    if finite and not np.isfinite(array).all():
        position = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        where = ", ".join(f"{axis} {i}" for axis, i in zip(axes, position, strict=True))
        raise InputError(f"{name}: found {array[position]} at {where}; allowed: finite numbers")
    return array
