"""Named random streams: every random draw belongs to a stream that is a function of (seed, names) alone."""

from __future__ import annotations

import hashlib

import numpy as np


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return the generator of one named stream.

    The same (seed, names) gives the same draws on every machine and whatever ran before; streams of different names
    are independent.

    Parameters
    ----------
    seed : int
        >= 0.
    *names : str or int
        What the draws are for, for example ``("train", "3+7", "shift")``.
    """
    keys = [int.from_bytes(hashlib.sha256(f"{type(n).__name__}:{n}".encode()).digest()[:4], "little") for n in names]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=tuple(keys))))
