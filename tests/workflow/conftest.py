"""Projects that the workflow tests run Snakemake in."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from pipeline import Outcome, Project, make_project


@pytest.fixture
def fresh(tmp_path: Path) -> Project:
    """A project in which nothing has been run."""
    return make_project(tmp_path / "fresh project")


@pytest.fixture(scope="session")
def stages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, list[tuple[Outcome, set[str]]]]:
    """A project run stage by stage, `data`, `train`, `collapse`; and the results that were there after each."""
    project = make_project(tmp_path_factory.mktemp("staged") / "my project")
    history = []
    for stage in ("data", "train", "collapse"):
        outcome = project.snakemake(stage)
        assert outcome.code == 0, outcome.text
        history.append((outcome, set(project.files())))
    return project, history


@pytest.fixture
def trained(stages: tuple[Project, list], tmp_path: Path) -> Project:
    """A copy of the results with all runs trained and measured, times and Snakemake's own records included."""
    folder = tmp_path / "my project"
    folder.mkdir()
    subprocess.run(["cp", "-a", str(stages[0].folder / "work"), str(folder)], check=True)
    # The checkout stays where it is: modules are inputs of rules, and other paths would be other inputs.
    return Project(folder, shared_checkout=stages[0].checkout)
