"""Shared by the tests of the data stage."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from shared import shared_file


@pytest.fixture(scope="session")
def shared_data() -> Path:
    return shared_file("mnist").parent


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
