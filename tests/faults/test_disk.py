"""A full disk and results that may only be read: one plain line, nothing half-written, and the same command goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pipeline import OVERLAY, REPOSITORY, Project, make_project

from ncpipe.results.verify import verify_results

STAGES = ("data", "theory", "studies", "train", "collapse", "figures", "report")
NOBODY = 65534


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Project]:
    """A project whose results lie on a disk of 48 MB."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small disk")
    project = make_project(tmp_path / "project")
    project.overlay["studies"] = yaml.safe_load((REPOSITORY / "config/smoke.yaml").read_text())["studies"]
    project.results.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(project.results)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"needs to mount a small disk: {mounted.stderr.decode().strip()}")
    yield project
    subprocess.run(["umount", "--lazy", str(project.results)], check=True)


def fill(folder: Path, leave: int) -> Path:
    """Fill the disk up to `leave` bytes."""
    filler = folder / "filler"
    free = shutil.disk_usage(folder).free
    with filler.open("wb") as file:
        file.write(b"\0" * max(0, free - leave))
    return filler


@pytest.mark.slow
def test_a_full_disk_in_every_stage(small_disk: Project) -> None:
    for stage in STAGES:
        before = {name for name in small_disk.files() if not name.startswith("logs/")}
        filler = fill(small_disk.results, 16 << 10)  # enough for logs
        if stage in ("data", "train"):
            refused = small_disk.snakemake(stage)
            assert refused.code == 1
            assert "still to be written" in refused.stderr
        # As if the disk had been filled after the job looked at it.
        full = small_disk.snakemake(stage, "--set-resources", "data_images:disk_mb=0", "train_run:disk_mb=0")
        assert full.code == 1, (stage, full.text)
        assert "o space left on" in full.text, (stage, full.text)
        assert "Traceback" not in full.text, (stage, full.text)
        whole = {n for n in small_disk.files() if n.startswith(("data/", "train/", "collapse/"))} - before
        for manifest in (small_disk.results / n for n in whole if n.endswith("manifest.json")):
            assert not any(faults for _, faults in verify_results(manifest.parent)), manifest
        filler.unlink()
        outcome = small_disk.snakemake(stage)
        assert outcome.code == 0, (stage, outcome.text)
    assert (small_disk.results / "report/index.html").stat().st_size > 0
    assert not any(faults for _, faults in verify_results(small_disk.results))
    assert not list(small_disk.results.rglob("*.partial"))


@pytest.fixture
def foreign(whole: Project) -> Iterator[Path]:
    """Results that belong to somebody else, where everybody may read."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv, to drop privileges")
    folder = Path(tempfile.mkdtemp(prefix="ncpipe-foreign-"))  # not in pytest's folder, which nobody else may enter
    shutil.copytree(whole.results, folder / "results")
    subprocess.run(["chmod", "-R", "a+rX,go-w", str(folder)], check=True)
    (folder / "work").mkdir()
    shutil.chown(folder / "work", NOBODY, NOBODY)
    probe = as_nobody(folder / "work", "-c", "import ncpipe")
    if probe.returncode:
        shutil.rmtree(folder)
        pytest.skip("needs an environment that others may read")
    yield folder
    shutil.rmtree(folder)


def as_nobody(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", sys.executable, *arguments],
        cwd=folder, env={**os.environ, "HOME": str(folder), "XDG_CACHE_HOME": str(folder)}, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_results_that_may_only_be_read(foreign: Path) -> None:
    """They can be verified; what would write says so, and changes nothing."""
    results, before = foreign / "results", contents(foreign / "results")
    verified = as_nobody(foreign / "work", str(Path(sys.executable).with_name("ncpipe")), "verify", str(results))
    assert verified.returncode == 0, verified.stdout + verified.stderr
    overlay = {**json.loads(json.dumps(OVERLAY)), "results": str(results)}
    overlay["runs"][0]["seeds"] = [1]
    (foreign / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    os.chmod(foreign / "overlay.yaml", 0o644)
    arguments = ["-m", "snakemake", "-s", str(REPOSITORY / "Snakefile"), "--cores", "1", "train"]
    refused = as_nobody(foreign / "work", *arguments, "--configfile", str(foreign / "overlay.yaml"))
    assert refused.returncode != 0
    assert "ermission denied" in refused.stdout + refused.stderr
    assert contents(results) == before
