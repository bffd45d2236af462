"""The resume state: everything that the next step depends on, in one file without pickles.

A state is an ``.npz`` of plain arrays (parameters, buffers, momentum, running loss, digests of the finished epochs)
and one JSON header (epoch, step, identity), behind the SHA-256 of itself: nothing of a damaged file is parsed. It is
replaced atomically.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from ncpipe.errors import StoreError
from ncpipe.stores.files import read_sealed, write_sealed

STATE_VERSION = 1


def save_state(path: Path, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write the state so that it is the old one or the new one, never half of either."""
    buffer = io.BytesIO()
    encoded = np.frombuffer(json.dumps({**header, "state_version": STATE_VERSION}).encode(), np.uint8)
    np.savez(buffer, allow_pickle=False, header=encoded, **arrays)
    write_sealed(path, buffer.getvalue())


def load_state(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """Read a state; None where there is none.

    Raises
    ------
    StoreError
        If the file is truncated, damaged or of another version.
    """
    try:
        content = read_sealed(path, "resume state")
    except FileNotFoundError:
        return None
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as members:
            arrays = {name: members[name] for name in members.files}
    except ValueError as error:
        raise StoreError(f"{path}: not a resume state of ncpipe ({error})") from error
    header = json.loads(arrays.pop("header").tobytes())
    if header.get("state_version") != STATE_VERSION:
        raise StoreError(f"{path}: resume state of version {header.get('state_version')}, expected {STATE_VERSION}")
    return header, arrays
