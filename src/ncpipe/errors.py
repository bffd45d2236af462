"""Everything that ncpipe raises on purpose, and the checks at its doors.

The message of each is written for the user, not for the traceback. Imports nothing heavy.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


class NcpipeError(Exception):
    """Base of all errors whose message tells the user what was found, where, and what is allowed.

    Examples
    --------
    >>> try:
    ...     nc2_w("no matrix")
    ... except NcpipeError as error:
    ...     print(error)
    weight: found dtype <U9; allowed: numbers
    """


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
    """A file or value given by the user cannot be what it should be.

    Examples
    --------
    >>> try:
    ...     Objective("normalized", 0.1, 0.1)
    ... except InputError as error:
    ...     print(error)
    target: found 'normalized'; did you mean 'normalised'? allowed: normalised, raw
    """


class StoreError(NcpipeError, RuntimeError):
    """A store is missing, unfinished, damaged, or of an unknown format version.

    Examples
    --------
    >>> try:
    ...     Store("nowhere.zarr")
    ... except StoreError as error:
    ...     print(str(error)[:12])
    nowhere.zarr
    """


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


def check_whole(name: str, found: object, *, least: int, most: int | None = None) -> int:
    """Refuse what is no whole number in its range; return it as an int.

    Raises
    ------
    InputError
        The message names the parameter, what was found and the range.
    """
    number = int(found) if isinstance(found, Integral) and not isinstance(found, bool) else least - 1
    if number < least or (most is not None and number > most):
        limits = f">= {least}" if most is None else f"from {least} to {most}"
        raise InputError(f"{name}: found {found!r}; allowed: a whole number {limits}")
    return number


def check_instance(name: str, found: object, kind: type) -> None:
    """Refuse what is not of this class.

    Raises
    ------
    InputError
        The message names the parameter, the class that was found and the one that is allowed.
    """
    if not isinstance(found, kind):
        raise InputError(f"{name}: found {type(found).__name__}; allowed: {kind.__name__}")


def check_array(
    name: str, found: Any, axes: Sequence[str], *, sizes: Sequence[int | None] | None = None, finite: bool = True
) -> np.ndarray:
    """Refuse what is no array of finite numbers with these axes; return it as float32 or float64.

    Parameters
    ----------
    name : str
        What messages call it.
    found : array-like
        Also a torch tensor, on any device, with or without gradients. Whole numbers, booleans and float16 become
        float64; float32 and float64 stay what they are, without a copy.
    axes : sequence of str
        Name of each axis, for instance ``("sample", "feature")``. None of them may be empty.
    sizes : sequence of int or None, optional
        Length that each axis must have; None for any.
    finite : bool
        Whether NaN and infinity are refused.

    Raises
    ------
    InputError
        The message names the array, what was found (shape, dtype, or value and position) and what is allowed.
    """
    import numpy as np

    array = _plain_array(name, found, axes)
    if array.dtype.kind not in "fiub":
        raise InputError(f"{name}: found dtype {array.dtype}; allowed: numbers")
    if array.ndim != len(axes):
        raise InputError(f"{name}: found shape {array.shape}; allowed: {_axes_in_words(axes)}")
    if 0 in array.shape:
        raise InputError(f"{name}: found shape {array.shape}; allowed: at least one {axes[array.shape.index(0)]}")
    if sizes is not None and any(size not in (None, length) for size, length in zip(sizes, array.shape, strict=True)):
        wanted = " x ".join("any" if size is None else str(size) for size in sizes)
        turned = "; the other way round it would fit" * (array.shape[::-1] == tuple(sizes))
        raise InputError(f"{name}: found shape {array.shape}; allowed: {wanted} ({' x '.join(axes)}){turned}")
    array = array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
    with np.errstate(all="ignore"):
        suspect = finite and not np.isfinite(array.sum())  # finite only if every value is; cheaper than a look at each
    if suspect and not np.isfinite(array).all():
        position = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        where = ", ".join(f"{axis} {i}" for axis, i in zip(axes, position, strict=True))
        raise InputError(f"{name}: found {array[position]} at {where}; allowed: finite numbers")
    return array


def check_positions(name: str, found: Any, axis: str, *, length: int, limit: int) -> np.ndarray:
    """Refuse what is no vector of whole numbers from 0 to `limit` - 1; return it as an integer array.

    Parameters
    ----------
    name : str
        What messages call it.
    found : array-like of int
        Also a torch tensor.
    axis : str
        What there is one number for.
    length : int
        How many there must be.
    limit : int
        Every number lies below.

    Raises
    ------
    InputError
        The message names the vector, what was found (shape, dtype, or value and position) and what is allowed.
    """
    array = _plain_array(name, found, (axis,))
    if array.dtype.kind not in "iu":
        raise InputError(f"{name}: found dtype {array.dtype}; allowed: whole numbers from 0 to {limit - 1}")
    if array.shape != (length,):
        raise InputError(f"{name}: found shape {array.shape}; allowed: ({length},), one number for each {axis}")
    if length and (array.min() < 0 or array.max() >= limit):
        position = int(((array < 0) | (array >= limit)).argmax())
        raise InputError(f"{name}: found {array[position]} at {axis} {position}; allowed: 0 to {limit - 1}")
    return array


def _plain_array(name: str, found: Any, axes: Sequence[str]) -> np.ndarray:
    """An array of whatever is array-like; torch tensors come off their device."""
    import numpy as np

    if hasattr(found, "detach"):
        found = found.detach().cpu()
        found = found.float() if str(found.dtype) == "torch.bfloat16" else found
    if np.ma.is_masked(found):
        raise InputError(f"{name}: found masked values; allowed: numbers")
    try:
        return np.asarray(found)
    except (ValueError, TypeError) as error:
        shape = f"{_axes_in_words(axes)} of numbers"
        raise InputError(f"{name}: found rows of different lengths; allowed: {shape}") from error


def _axes_in_words(axes: Sequence[str]) -> str:
    return f"{len(axes)} dimension{'s' * (len(axes) != 1)} ({' x '.join(axes)})"
