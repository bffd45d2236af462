"""Where the real data sets lie: in NCPIPE_SHARED_DATA, or in ../shared/data seen from the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED_DATA = Path(os.environ.get("NCPIPE_SHARED_DATA", Path(__file__).parents[2].parent / "shared/data"))


def shared_file(name: str) -> Path:
    """A file or folder of the real data sets; the test that asks is skipped, saying so, where it is not there."""
    path = SHARED_DATA / name
    if not path.exists():
        pytest.skip(f"{path}: no real data here; NCPIPE_SHARED_DATA names their folder")
    return path
