"""kill -9 at any moment, of the trainer or of Snakemake: the same command ends with an uninterrupted run's bytes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from pipeline import Project, make_project

from ncpipe.stores.zarr import Store

RUN = "mlab_digits/balanced/slow/seed-0"
KILLS = 20
EPOCHS = 2400  # one sample a batch: a checkpoint takes about as long as a kill is apart from the next


def long_run(folder: Path) -> Project:
    project = make_project(folder)
    checkpoints = list(range(0, EPOCHS + 1, 10))
    project.overlay["recipes"]["slow"] |= {"epochs": EPOCHS, "checkpoints": checkpoints, "batch": 8, "lr": 0.005}
    project.overlay["runs"] = project.overlay["runs"][1:]
    return project


def trainer(project: Project) -> int | None:
    """Process that is at work on the run, if there is one."""
    lock = project.manifest(RUN).with_name("writer.lock")
    found = re.search(r"process (\d+)", lock.read_text()) if lock.exists() else None
    if found is None:
        return None
    command = Path(f"/proc/{found[1]}/cmdline")
    return int(found[1]) if command.exists() and b"train_run" in command.read_bytes() else None


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        time.sleep(0.01)


@pytest.mark.slow
def test_killed_at_twenty_random_moments(tmp_path: Path) -> None:
    """Snakemake tries again by itself where its trainer is killed, and is started again where it is killed itself."""
    project, rng = long_run(tmp_path / "killed"), np.random.default_rng(11)
    state = project.manifest(RUN).with_name("state") / "state.npz"
    kills = {"trainer": 0, "snakemake": 0}
    process: subprocess.Popen | None = None
    try:
        while sum(kills.values()) < KILLS:
            if process is None:
                process = project.start("train", "--nolock", "--retries", str(KILLS), log=tmp_path / "log")
            before = state.stat().st_mtime_ns if state.exists() else 0
            while not state.exists() or state.stat().st_mtime_ns == before:
                assert process.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.3))
            victim = "snakemake" if rng.random() < 0.25 else "trainer"
            orphan = trainer(project)
            assert orphan is not None
            if victim == "snakemake":
                process.kill()
                process.wait()
                time.sleep(rng.uniform(0, 0.3))
            kill(orphan)
            if victim == "snakemake":
                process = None
            kills[victim] += 1
        process = process or project.start("train", "--nolock", log=tmp_path / "log")
        assert process.wait(timeout=600) == 0, (tmp_path / "log").read_text()
    finally:
        if process is not None and process.poll() is None:
            process.terminate()
    assert kills["trainer"] >= 10
    assert kills["snakemake"] >= 3
    whole = long_run(tmp_path / "whole")
    assert whole.snakemake("train").code == 0
    killed = Store(project.manifest(RUN).with_name("features.zarr"))
    assert killed.verify() == []
    assert killed.digest() == Store(whole.manifest(RUN).with_name("features.zarr")).digest()
    for name in ("manifest.json", "history.csv"):
        assert project.manifest(RUN).with_name(name).read_bytes() == whole.manifest(RUN).with_name(name).read_bytes()
    assert not list(project.results.rglob("*.partial"))


def test_two_snakemakes_in_one_folder(tmp_path: Path) -> None:
    """The second is refused by Snakemake itself, and the first does not notice."""
    project = long_run(tmp_path / "project")
    with project.start("train", log=tmp_path / "log") as first:
        while trainer(project) is None:
            assert first.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.01)
        second = project.snakemake("train")
        assert second.code == 1
        assert "--unlock" in second.text
        assert first.wait(timeout=600) == 0
    assert "going on" not in project.log(RUN)
