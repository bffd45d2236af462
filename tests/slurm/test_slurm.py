"""The pipeline through a real SLURM: what happens in the night changes no bit of what is there in the morning.

No test depends on how fast the machine is: a run keeps a CPU of this one busy for some seconds (`epochs`), and its
process is stopped while something is done to its job.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from cluster import Cluster, wait_for
from pipeline import REPOSITORY, Project

from ncpipe.experiment import plan
from ncpipe.experiment.reading import load_config
from ncpipe.results.verify import verify_results
from ncpipe.stores.files import read_json
from ncpipe.stores.locks import at_work
from ncpipe.stores.zarr import Store
from ncpipe.train.loop import train_run
from ncpipe.train.splits import load_split
from ncpipe.train.stop import Stop
from ncpipe.train.trainer import Trainer

pytestmark = pytest.mark.slurm

# One sample a batch: many steps, each of which ends soon after SIGTERM.
RECIPE = {"batch": 1, "lr": 0.002, "momentum": 0.9, "weight_decay": 0.0, "schedule": "constant"}
SECONDS = 6


def select(project: Project, epochs: int, seeds: list[int], **recipe: Any) -> list[str]:
    """Train one small network for `epochs`, once per seed; names of the runs."""
    project.overlay["recipes"]["long"] = {
        **RECIPE,
        "epochs": epochs,
        "checkpoints": list(range(0, epochs + 1, 20)),
        **recipe,
    }
    network = {"architecture": "mlp", "hidden": [8], "features": 4, "objective": "pal", "recipe": "long"}
    project.overlay["networks"]["long"] = network
    project.overlay["runs"] = [
        {"datasets": ["mlab_digits"], "settings": ["balanced"], "networks": ["long"], "seeds": seeds}
    ]
    return [f"mlab_digits/balanced/long/seed-{seed}" for seed in seeds]


def train_settings(project: Project) -> dict[str, dict[str, Any]]:
    """Settings of the selected runs, by name."""
    overlay = project.folder / "selected.yaml"
    overlay.write_text(yaml.safe_dump(project.overlay))
    config = load_config(project.checkout / "config.yaml", overlay)
    return {run.name: plan.train_settings(config, run) for run in plan.plan_runs(config)}


@pytest.fixture
def epochs(project: Project) -> int:
    """Epochs that take a CPU of this machine `SECONDS` or more (checkpoints come on top), by those of half a second."""
    (run,) = select(project, 1, [0])
    settings, cpu = train_settings(project)[run], torch.device("cpu")
    split, _ = load_split(project.results / "data/mlab_digits", "train", settings, cpu)
    trainer, stop = Trainer(settings, split, cpu), Stop()
    trainer.run_epoch(stop)  # the first is slower
    began = time.process_time()
    while (spent := time.process_time() - began) < 0.5:
        trainer.run_epoch(stop)
    return math.ceil(SECONDS * (trainer.epoch - 1) / spent)


def folder(project: Project, run: str) -> Path:
    return project.results / "train" / run


@contextlib.contextmanager
def started(project: Project, *arguments: str, log: Path) -> Iterator[subprocess.Popen[str]]:
    """Snakemake at work on the training, with the project's SLURM profile; killed if it is still there afterwards."""
    process = project.start("train", *profile(project), *arguments, log=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def when_begun(project: Project, actions: Mapping[str, Callable[[int, str], object]]) -> None:
    """Stop the process of each run when it has written its first state, and do something to it: (process, SLURM job).

    SLURM lets a stopped process go on to end it: CONT, TERM, and KILL after `KillWait`.
    """
    left = dict(actions)

    def all_begun() -> bool:
        for run in list(left):
            where = folder(project, run)
            if (where / "state/state.npz").exists() and at_work(where):
                record = (where / "writer.lock").read_text()
                owner = re.search(r"process (\d+), SLURM job (\d+)", record)
                assert owner is not None, record
                os.kill(int(owner[1]), signal.SIGSTOP)
                assert not (where / "manifest.json").exists()
                left.pop(run)(int(owner[1]), owner[2])
        return not left

    wait_for(all_begun, 600, f"{list(left)} to begin")


def stopped(project: Project, run: str) -> tuple[int, str]:
    """Process and SLURM job of a run, which has begun and is stopped."""
    found: list[tuple[int, str]] = []
    when_begun(project, {run: lambda *owner: found.append(owner)})
    return found[0]


def work_until_its_limit(cluster: Cluster, pid: int, job: str) -> None:
    """Let a stopped process work for 20 ms of each second, until its job is ended."""
    with contextlib.suppress(ProcessLookupError):
        while job in cluster.jobs("R"):
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.02)
            os.kill(pid, signal.SIGSTOP)
            time.sleep(1)
        os.kill(pid, signal.SIGCONT)  # SLURM's own came before our last STOP, or after it


def train_here(project: Project, runs: list[str], below: Path) -> None:
    """Train the runs in this process, each in one go, into folders below `below`."""
    settings = train_settings(project)
    for run in runs:
        train_run(
            settings[run], data=project.results / "data/mlab_digits", folder=below / run, device="cpu",
            log=logging.getLogger("ncpipe"),
        )  # fmt: skip


def assert_same(project: Project, runs: list[str], below: Path) -> None:
    """Each run has the bytes of the one that was trained here."""
    for run in runs:
        found, whole = folder(project, run), below / run
        assert Store(found / "features.zarr").verify() == []
        assert Store(found / "features.zarr").digest() == Store(whole / "features.zarr").digest()
        for file in ("manifest.json", "history.csv"):
            assert (found / file).read_bytes() == (whole / file).read_bytes()


def profile(project: Project) -> tuple[str, str]:
    return "--profile", str(project.folder / "profile")


def edit_profile(project: Project, pattern: str, replacement: str) -> None:
    path = project.folder / "profile/config.yaml"
    edited, count = re.subn(pattern, replacement, path.read_text())
    assert count == 1
    path.write_text(edited)


def submitted(cluster: Cluster) -> int:
    """Jobs submitted so far: SLURM counts them up."""
    return max((int(job) for job in cluster.call("squeue", "-h", "-t", "all", "-o", "%A").split()), default=0)


def test_the_whole_pipeline_in_few_jobs(project: Project, cluster: Cluster) -> None:
    """Ten runs: ten training jobs, and one each for data, theory, metrics, and all that follows."""
    smoke = project.checkout / "config/smoke.yaml"
    before = submitted(cluster)
    outcome = project.snakemake(*profile(project), configfile=smoke, timeout=1800)
    assert outcome.code == 0, outcome.text
    results = project.folder / "work/results-smoke"
    assert (results / "report/index.html").is_file()
    assert not any(faults for _, faults in verify_results(results))
    assert len(plan.plan_runs(load_config(project.checkout / "config.yaml", smoke))) == 10
    assert submitted(cluster) - before == 10 + 1 + 1 + 1 + 1
    assert "Nothing to be done" in project.snakemake(*profile(project), configfile=smoke).text


def test_cancelled_timed_out_requeued_killed_and_hung_jobs_go_on(
    project: Project, cluster: Cluster, tmp_path: Path, epochs: int
) -> None:
    runs = select(project, epochs, [0, 1, 2, 3, 4])
    log = tmp_path / "snakemake.log"
    cancelled, requeued, killed, hung, timed_out = runs
    jobs: dict[str, str] = {}
    work: list[Future[None]] = []

    def act(run: str, pid: int, job: str) -> None:
        jobs[run] = job
        if run in (hung, timed_out):  # not before: a busy machine may take longer than that to begin
            cluster.call("scontrol", "update", f"JobId={job}", "TimeLimit=1")
        if run == cancelled:
            cluster.call("scancel", job)
        elif run == requeued:
            cluster.call("scontrol", "requeue", job)
        elif run == killed:
            os.kill(pid, signal.SIGKILL)
        elif run == timed_out:
            work.append(pool.submit(work_until_its_limit, cluster, pid, job))

    with started(project, "--retries", "4", log=log) as process, ThreadPoolExecutor(1) as pool:
        when_begun(project, {run: partial(act, run) for run in runs})
        wait_for(lambda: jobs[requeued] in cluster.jobs("PD"), 60, "the requeued job")
        # SLURM itself waits two minutes.
        cluster.call("scontrol", "update", f"JobId={jobs[requeued]}", "StartTime=now")
        train_here(project, runs, tmp_path / "whole")
        work[0].result()
        assert process.wait(timeout=1200) == 0, log.read_text()
    table = [line.split() for line in cluster.call("squeue", "-h", "-t", "all", "-o", "%i %T %l %k").splitlines()]
    states = {job: state for job, state, *_ in table}
    assert states[jobs[cancelled]] == "CANCELLED"
    assert states[jobs[hung]] == states[jobs[timed_out]] == "TIMEOUT"
    limits = {limit for *_, limit, comment in table if comment.endswith(("_long_3", "_long_4"))}
    assert limits == {"1:00", "8:00:00"}  # with each attempt the profile gives more
    assert "Restarts=1" in cluster.call("scontrol", "show", "job", jobs[requeued])
    for run in runs:
        assert "going on from epoch" in project.log(run), run
    assert_same(project, runs, tmp_path / "whole")


def test_the_gpu_request_reaches_the_job(project: Project, cluster: Cluster, tmp_path: Path, epochs: int) -> None:
    (run,) = select(project, epochs, [0])
    edit_profile(project, "gpu: 0 ", "gpu: 1 ")
    edit_profile(project, "# slurm_partition: gpu ", "slurm_partition: gpu ")
    with started(project, log=tmp_path / "log"):
        pid, job = stopped(project, run)
        record = cluster.call("scontrol", "show", "job", job)
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert "Partition=gpu" in record
    assert re.search(r"TresPerJob=gres:gpu:1|Gres=gpu:1|gres/gpu=1", record)
    assert b"CUDA_VISIBLE_DEVICES=0" in environment


def test_the_controller_may_die_and_come_back(project: Project, cluster: Cluster, tmp_path: Path, epochs: int) -> None:
    (run,) = select(project, epochs, [0])
    with started(project, log=tmp_path / "log") as process:
        pid, job = stopped(project, run)
        cluster.save_state(job)  # what it has not yet saved it does not know of afterwards
        cluster.kill_controller()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=6)
        cluster.start_controller()
        os.kill(pid, signal.SIGCONT)
        assert process.wait(timeout=600) == 0, (tmp_path / "log").read_text()
    assert "going on" not in project.log(run)  # the job itself noticed nothing
    assert read_json(folder(project, run) / "manifest.json")["epochs"][-1] == epochs
    assert job in cluster.jobs("CD")


def recovery_commands() -> str:
    """The lines of docs/cluster.md that cancel the jobs of a killed Snakemake."""
    page = (REPOSITORY / "docs/cluster.md").read_text()
    block = re.search(r"<!-- recovery -->\n+```bash\n(.*?)```", page, flags=re.DOTALL)
    assert block is not None
    return block[1].split("snakemake --unlock")[0]


def test_snakemake_killed_and_started_again_beside_its_old_job(
    project: Project, cluster: Cluster, tmp_path: Path, epochs: int
) -> None:
    (run,) = runs = select(project, epochs, [0])
    with started(project, log=tmp_path / "log"):
        pid, job = stopped(project, run)
    locked = project.snakemake("train", *profile(project))
    assert locked.code == 1
    assert "--unlock" in locked.text
    assert project.snakemake("train", "--unlock").code == 0
    # Snakemake does not know of its old job and submits the run again: the second writer is refused.
    refused = project.snakemake("train", *profile(project), "--retries", "0")
    assert job in cluster.jobs("R")
    assert refused.code == 1
    assert re.search(rf"another writer is at work here: host \S+, process {pid}, SLURM job {job}", refused.text)
    # The recipe of the page: cancel what the old one left, then run again.
    script = f"cd {project.folder / 'work'}\n{recovery_commands()}"
    subprocess.run(["bash", "-euc", script], check=True, timeout=120)
    assert job not in cluster.jobs("R", "CG")
    outcome = project.snakemake("train", *profile(project))
    assert outcome.code == 0, outcome.text
    assert "going on from epoch" in project.log(run)
    train_here(project, runs, tmp_path / "whole")
    assert_same(project, runs, tmp_path / "whole")
