"""A project with everything up to the tables made, to do damage to."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from pipeline import Project, make_project


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Three runs, trained and measured; left as it is."""
    project = make_project(tmp_path_factory.mktemp("whole") / "project")
    outcome = project.snakemake("collapse")
    assert outcome.code == 0, outcome.text
    return project


@pytest.fixture
def copy(whole: Project, tmp_path: Path) -> Project:
    """A copy of it, times and Snakemake's own records included."""
    folder = tmp_path / "project"
    folder.mkdir()
    subprocess.run(["cp", "-a", str(whole.folder / "work"), str(folder)], check=True)
    # The checkout stays where it is: modules are inputs of rules, and other paths would be other inputs.
    return Project(folder, shared_checkout=whole.checkout)
