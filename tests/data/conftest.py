"""Shared by the tests of the data stage."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

SHARED_DATA = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip("the real data sets (../shared/data, seen from the repository) are not here")
    return SHARED_DATA


@pytest.fixture
def log() -> logging.Logger:
    return logging.getLogger("test")


@pytest.fixture
def tiny_spec() -> dict[str, Any]:
    return {
        "dataset": "tiny",
        "base": "digits",
        "folder": None,
        "style": "mnist",
        "placement": "reference",
        "train_counts": [5, 3],
        "test_counts": [2, 1],
        "seed": 0,
    }
