"""The pipeline through a real SLURM: what happens in the night changes no bit of what is there in the morning."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster, wait_for
from pipeline import REPOSITORY, Project

from ncpipe import config as plan
from ncpipe.stores import Store, read_json
from ncpipe.train.loop import train_run
from ncpipe.verify import verify_results

pytestmark = pytest.mark.slurm

# One sample a batch: many steps, each of which ends soon after SIGTERM.
RECIPE = {"batch": 1, "lr": 0.002, "momentum": 0.9, "weight_decay": 0.0, "schedule": "constant"}


def recipe(epochs: int) -> dict[str, Any]:
    return {**RECIPE, "epochs": epochs, "checkpoints": list(range(0, epochs + 1, 20))}


def select(project: Project, recipes: dict[str, int], runs: list[tuple[str, list[int]]]) -> None:
    """Train `runs` (network, seeds); each network is trained for as many epochs as its recipe says."""
    for name, epochs in recipes.items():
        project.overlay["recipes"][name] = recipe(epochs)
        network = {"architecture": "mlp", "hidden": [8], "features": 4, "objective": "pal", "recipe": name}
        project.overlay["networks"][name] = network
    project.overlay["runs"] = [
        {"datasets": ["mlab_digits"], "settings": ["balanced"], "networks": [network], "seeds": seeds}
        for network, seeds in runs
    ]


def folder(project: Project, run: str) -> Path:
    return project.results / "train" / run


def at_work(project: Project, run: str) -> tuple[int, str]:
    """Wait until a run has written its first state; process and SLURM job of its writer, from the lock's record."""
    lock = folder(project, run) / "writer.lock"
    wait_for((folder(project, run) / "state/state.npz").exists, 120, f"{run} to begin")
    found = re.search(r"process (\d+), SLURM job (\d+)", lock.read_text())
    assert found is not None
    return int(found[1]), found[2]


def assert_uninterrupted(project: Project, runs: list[str], tmp_path: Path) -> None:
    """Each run has the bytes of one that is trained here, in one go."""
    config = plan.load_config(project.checkout / "config.yaml", project.folder / "overlay.yaml")
    by_name = {run.name: run for run in plan.plan_runs(config)}
    for name in runs:
        whole = tmp_path / "whole" / name
        data = project.results / "data/mlab_digits"
        train_run(plan.train_settings(config, by_name[name]), data=data, folder=whole, log=logging.getLogger("ncpipe"),
                  device="cpu")  # fmt: skip
        found = folder(project, name)
        assert Store(found / "features.zarr").verify() == []
        assert Store(found / "features.zarr").digest() == Store(whole / "features.zarr").digest()
        for file in ("manifest.json", "history.csv"):
            assert (found / file).read_bytes() == (whole / file).read_bytes()


def edit_profile(project: Project, pattern: str, replacement: str) -> None:
    profile = project.checkout / "profiles/slurm/config.yaml"
    edited, count = re.subn(pattern, replacement, profile.read_text())
    assert count == 1
    profile.write_text(edited)


def test_the_whole_pipeline_in_few_jobs(project: Project, cluster: Cluster) -> None:
    """Ten runs: ten training jobs, and one each for data, theory, metrics, and all that follows."""
    smoke = project.checkout / "config/smoke.yaml"
    before = submitted(cluster)
    outcome = project.snakemake(*at(project), configfile=smoke, timeout=900)
    assert outcome.code == 0, outcome.text
    results = project.folder / "work/results-smoke"
    assert (results / "report/index.html").is_file()
    assert not any(faults for _, faults in verify_results(results))
    assert len(plan.plan_runs(plan.load_config(project.checkout / "config.yaml", smoke))) == 10
    assert submitted(cluster) - before == 10 + 1 + 1 + 1 + 1
    assert "Nothing to be done" in project.snakemake(*at(project), configfile=smoke).text


def at(project: Project) -> tuple[str, str]:
    return "--profile", str(project.checkout / "profiles/slurm")


def submitted(cluster: Cluster) -> int:
    """Jobs submitted so far: SLURM counts them up."""
    return max((int(job) for job in cluster.call("squeue", "-h", "-t", "all", "-o", "%A").split()), default=0)


def test_cancelled_timed_out_requeued_killed_and_hung_jobs_go_on(
    project: Project, cluster: Cluster, tmp_path: Path
) -> None:
    cancelled, requeued, killed, hung = (f"mlab_digits/balanced/medium/seed-{seed}" for seed in range(4))
    timed_out = "mlab_digits/balanced/long/seed-0"
    select(project, {"medium": 300, "long": 2600}, [("medium", [0, 1, 2, 3]), ("long", [0])])
    edit_profile(project, r"runtime: 240 \* attempt", "runtime: 1 * attempt")
    log = tmp_path / "snakemake.log"
    with project.start("train", *at(project), "--retries", "4", log=log) as process:
        cluster.call("scancel", at_work(project, cancelled)[1])
        requeued_job = at_work(project, requeued)[1]
        cluster.call("scontrol", "requeue", requeued_job)
        os.kill(at_work(project, killed)[0], signal.SIGKILL)
        hung_pid, hung_job = at_work(project, hung)
        os.kill(hung_pid, signal.SIGSTOP)
        first = at_work(project, timed_out)[1]
        wait_for(lambda: requeued_job in cluster.jobs("PD"), 30, "the requeued job")
        cluster.call("scontrol", "update", f"JobId={requeued_job}", "StartTime=now")  # SLURM itself waits two minutes
        assert process.wait(timeout=900) == 0, log.read_text()
    states = dict(line.split() for line in cluster.call("squeue", "-h", "-t", "all", "-o", "%i %T").splitlines())
    assert states[first] == states[hung_job] == "TIMEOUT"
    assert "CANCELLED" in states.values()
    assert "Restarts=1" in cluster.call("scontrol", "show", "job", requeued_job)
    for run in (cancelled, requeued, killed, hung, timed_out):
        assert "going on from epoch" in project.log(run), run
    assert_uninterrupted(project, [cancelled, requeued, killed, hung, timed_out], tmp_path)


def test_the_gpu_request_reaches_the_job(project: Project, cluster: Cluster, tmp_path: Path) -> None:
    run = "mlab_digits/balanced/medium/seed-0"
    select(project, {"medium": 500}, [("medium", [0])])
    edit_profile(project, "gpu: 0 ", "gpu: 1 ")
    edit_profile(project, "# slurm_partition: gpu ", "slurm_partition: gpu ")
    with project.start("train", *at(project), log=tmp_path / "log") as process:
        pid, job = at_work(project, run)
        record = cluster.call("scontrol", "show", "job", job)
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        assert process.wait(timeout=300) == 0, (tmp_path / "log").read_text()
    assert "Partition=gpu" in record
    assert re.search(r"TresPerJob=gres:gpu:1|Gres=gpu:1|gres/gpu=1", record)
    assert b"CUDA_VISIBLE_DEVICES=0" in environment


def test_the_controller_may_die_and_come_back(project: Project, cluster: Cluster, tmp_path: Path) -> None:
    run = "mlab_digits/balanced/medium/seed-0"
    select(project, {"medium": 900}, [("medium", [0])])
    with project.start("train", *at(project), log=tmp_path / "log") as process:
        _, job = at_work(project, run)
        cluster.wait_for_saved_state()  # what it has not yet saved it does not know of afterwards
        cluster.kill_controller()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=6)
        cluster.start_controller()
        assert process.wait(timeout=300) == 0, (tmp_path / "log").read_text()
    assert "going on" not in project.log(run)  # the job itself noticed nothing
    assert read_json(folder(project, run) / "manifest.json")["epochs"][-1] == 900
    assert job in cluster.jobs("CD")


def recovery_commands() -> str:
    """The lines of docs/cluster.md that cancel the jobs of a killed Snakemake."""
    page = (REPOSITORY / "docs/cluster.md").read_text()
    block = re.search(r"<!-- recovery -->\n+```bash\n(.*?)```", page, flags=re.DOTALL)
    assert block is not None
    return block[1].split("snakemake --unlock")[0]


def test_snakemake_killed_and_started_again_beside_its_old_job(
    project: Project, cluster: Cluster, tmp_path: Path
) -> None:
    run = "mlab_digits/balanced/medium/seed-0"
    select(project, {"medium": 2500}, [("medium", [0])])
    with project.start("train", *at(project), log=tmp_path / "log") as process:
        pid, job = at_work(project, run)
        process.kill()
    locked = project.snakemake("train", *at(project))
    assert locked.code == 1
    assert "--unlock" in locked.text
    assert project.snakemake("train", "--unlock").code == 0
    # Snakemake does not know of its old job and submits the run again: the second writer is refused.
    refused = project.snakemake("train", *at(project), "--retries", "0")
    assert job in cluster.jobs("R")
    assert refused.code == 1
    assert re.search(rf"another writer is at work here: host \S+, process {pid}, SLURM job {job}", refused.text)
    # The recipe of the page: cancel what the old one left, then run again.
    script = f"cd {project.folder / 'work'}\n{recovery_commands()}"
    subprocess.run(["bash", "-euc", script], check=True, timeout=120)
    assert job not in cluster.jobs("R", "CG")
    outcome = project.snakemake("train", *at(project), timeout=400)
    assert outcome.code == 0, outcome.text
    assert "going on from epoch" in project.log(run)
    assert_uninterrupted(project, [run], tmp_path)
