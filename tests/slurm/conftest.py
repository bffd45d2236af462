"""Tests on a real SLURM: only with ``-m slurm``, and loudly skipped where there can be none."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster, missing, wait_for
from pipeline import Project, make_project


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect them where nobody asked: any other ``-m`` expression would select them too."""
    if "slurm" in config.getoption("markexpr"):
        return
    wanted = [item for item in items if item.get_closest_marker("slurm") is None]
    config.hook.pytest_deselected(items=[item for item in items if item not in wanted])
    items[:] = wanted


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A SLURM of two nodes with four CPUs each, one with a GPU."""
    reason = missing()
    if reason is not None:
        print(f"\n*** NO SLURM HERE: {reason}; its tests are skipped ***", file=sys.stderr)
        pytest.skip(f"no SLURM: {reason}")
    started = Cluster(Path(tempfile.mkdtemp(prefix="ncpipe-slurm-")))  # not in pytest's: munged is another user
    try:
        started.up()
        yield started
    finally:
        started.down()
        shutil.rmtree(started.folder)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose data set is made; left as it is."""
    made = make_project(tmp_path_factory.mktemp("prepared") / "project")
    outcome = made.snakemake("data", timeout=300)
    assert outcome.code == 0, outcome.text
    return made


@pytest.fixture
def project(cluster: Cluster, prepared: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy of that, and a SLURM profile edited as its comments say; whatever it left running is cancelled."""
    made = Project(tmp_path / "project", shared_checkout=prepared.checkout)
    made.folder.mkdir()
    subprocess.run(["cp", "-a", str(prepared.folder / "work"), str(made.folder)], check=True)
    edited = (made.checkout / "profiles/slurm/config.yaml").read_text()
    for line in ("slurm_partition: cpu", "slurm_account: lab"):
        assert f"# {line} " in edited
    edited = edited.replace("# slurm_partition: cpu ", "slurm_partition: cpu ")
    # What suits jobs of seconds: ask early, and do not wait for a network's file system.
    edited = re.sub(r"latency-wait: \d+", "latency-wait: 5", edited)
    profile = made.folder / "profile/config.yaml"
    profile.parent.mkdir()
    profile.write_text(f"{edited}slurm-status-command: squeue\nslurm-init-seconds-before-status-checks: 4\n")
    yield made
    cluster.call("scancel", "--full", "--user=root", check=False)
    wait_for(lambda: not cluster.jobs("R", "PD", "CG"), 60, "the end of all jobs")
