"""Shared by the tests of the data stage."""

from __future__ import annotations

from pathlib import Path

import pytest
from shared import shared_file


@pytest.fixture(scope="session")
def shared_data() -> Path:
    return shared_file("mnist").parent
