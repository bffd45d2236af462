"""Named random streams: the same numbers for the same names, whatever was drawn before, on every machine.

numpy promises that `SeedSequence` and the raw output of `PCG64` never change, but not that the methods of
`Generator` do not. What a data set is made of is therefore drawn with `integers` and `permutations` below, which
use raw 64-bit words only, in order: a larger draw begins with the smaller one.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Open the random stream of a seed and a path of names.

    The spawn key is the SHA-256 of the names (as JSON, so that ``1`` and ``"1"``, or ``"ab"`` and ``"a", "b"``, differ)
    as eight 32-bit words.

    Raises
    ------
    ValueError
        If the seed is negative.
    """
    digest = hashlib.sha256(json.dumps(names).encode()).digest()
    key = tuple(np.frombuffer(digest, dtype="<u4").tolist())
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def _words(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return generator.bit_generator.random_raw(int(np.prod(shape))).reshape(shape)


def integers(generator: np.random.Generator, bound: int, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform integers in 0..bound-1, int64; one word each (the bias is below bound / 2^32)."""
    high = _words(generator, shape) >> np.uint64(32)
    return ((high * np.uint64(bound)) >> np.uint64(32)).astype(np.int64)


def permutations(generator: np.random.Generator, rows: int, size: int) -> np.ndarray:
    """Uniform random permutations of 0..size-1, one in each row, shape (rows, size), int64."""
    return np.argsort(_words(generator, (rows, size)), axis=1, kind="stable")
