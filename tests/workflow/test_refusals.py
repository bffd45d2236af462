"""What cannot be run says so in plain lines before anything is made; what fails later keeps what it had."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
import yaml
from pipeline import RESULTS

from ncpipe.experiment import disk
from ncpipe.experiment.plan import plan_runs
from ncpipe.experiment.reading import load_config
from ncpipe.results.layout import Layout
from ncpipe.stores.zarr import Store
from ncpipe.train import TRAIN_VERSION

MLP, THIN, SLOW = "mlab_digits/balanced/mlp/seed-0", "mlab_digits/thin/mlp/seed-0", "mlab_digits/balanced/slow/seed-0"


def assert_refused(outcome, *lines: str) -> None:
    assert outcome.code == 1
    stderr = outcome.stderr.splitlines()
    start = stderr.index("The configuration cannot be used:")
    assert stderr[start + 1 :] == [f"  {line}" for line in lines]
    for fragment in ("Traceback", "Exception", "additionalProperties", "$ref", "File "):
        assert fragment not in outcome.text, outcome.text


def test_all_faults_of_a_configuration_are_plain_lines_and_nothing_is_made(fresh) -> None:
    fresh.overlay["recipes"]["slow"]["momemtum"] = 0.9
    fresh.overlay["settings"]["thin"]["ratio"] = 0
    fresh.overlay["networks"]["mlp"]["recipe"] = "mpl"
    fresh.overlay["datasets"]["mlab_digits"]["train_counts"] = [141]
    outcome = fresh.snakemake()
    assert_refused(
        outcome,
        "recipes.slow.momemtum: unknown key; did you mean 'momentum'? allowed: epochs, batch, lr, momentum, "
        "weight_decay, schedule, feature_penalty, precision, compile, deterministic, checkpoints, features",
        "settings.thin.ratio: found 0; allowed: a number > 0 and <= 1",
        "datasets.mlab_digits.train_counts[0]: found 141; the train split of digits has 140 images in its smallest "
        "class, allowed: 0 to 140",
        "networks.mlp.recipe: found 'mpl'; did you mean 'mlp'? allowed: mlp, slow, cnn, ufm",
    )
    assert not fresh.results.exists()


def test_a_key_that_stands_twice_is_refused_though_snakemake_read_it_first(fresh) -> None:
    overlay = fresh.folder / "twice.yaml"
    overlay.write_text(f"results: {RESULTS}\nrecipes:\n  mlp: {{epochs: 1}}\n  mlp: {{epochs: 2}}\n")
    outcome = fresh.snakemake("--dry-run", configfile=overlay)
    assert_refused(outcome, f"{overlay}: line 4: found the key 'mlp' again, first in line 3")


def test_nested_values_of_the_command_line_are_numbers(fresh) -> None:
    """Snakemake leaves them as text."""
    outcome = fresh.snakemake("train", "--dry-run", "--config", "recipes={mlp: {epochs: 3, checkpoints: [0, 3]}}")
    assert outcome.code == 0, outcome.text
    refused = fresh.snakemake("train", "--dry-run", "--config", "recipes={mlp: {epochs: 3.0}}")
    assert_refused(refused, "recipes.mlp.epochs: found 3.0; allowed: a whole number >= 1 and <= 1000000")


def test_a_missing_folder_of_base_images(fresh) -> None:
    fresh.overlay["datasets"]["mlab_digits"] |= {"base": "cifar10", "folder": "nowhere/cifar", "style": "cifar"}
    outcome = fresh.snakemake("train")
    assert_refused(
        outcome,
        "datasets.mlab_digits: nowhere/cifar: missing; allowed is the path where the files of cifar10 lie, "
        "ncpipe fetch cifar10 downloads them",
    )
    assert not fresh.results.exists()


def test_a_diverging_run_fails_alone_in_one_line_and_keeps_its_checkpoints(trained) -> None:
    """The others are trained all the same; the old store stays aside until its successor has finished."""
    old = Store(trained.manifest(SLOW).with_name("features.zarr")).digest()
    trained.overlay["recipes"]["slow"]["lr"] = 1.0e30
    trained.overlay["settings"]["thin"]["ratio"] = 0.75
    outcome = trained.snakemake("train", "--retries", "1")
    assert outcome.code == 1
    assert outcome.trained == {SLOW, THIN}
    line, again = [line for line in outcome.stderr.splitlines() if line.startswith("ncpipe: ")]
    assert again.startswith(f"{line} (Seen before: to train it again, remove ")
    assert line.startswith(f"ncpipe: {SLOW}: the training loss is ")
    assert "in epoch 1 of 2" in line
    assert line.removeprefix("ncpipe: ") in trained.log(SLOW)
    assert "Traceback" not in outcome.text
    assert trained.manifest(THIN).exists()
    assert not trained.manifest(SLOW).exists()
    folder = trained.manifest(SLOW).parent
    assert Store(folder / "features.zarr").epochs == [0]
    assert Store(folder / "superseded/features.zarr").digest() == old


def test_the_orphan_of_a_killed_snakemake_is_no_second_writer(trained) -> None:
    """kill -9 of Snakemake leaves its training job at work: the next is refused, and later goes on where that was."""
    trained.overlay["recipes"]["slow"] |= {"epochs": 4000, "checkpoints": [0, 1, 4000]}
    folder = trained.manifest(SLOW).parent
    state = folder / "state/state.npz"
    old = state.stat().st_mtime_ns
    with trained.start("train") as process:
        while not state.exists() or state.stat().st_mtime_ns == old:
            assert process.poll() is None
            time.sleep(0.01)
        orphan = int(re.search(r"process (\d+)", (folder / "writer.lock").read_text())[1])
        os.kill(orphan, signal.SIGSTOP)
        process.kill()
    try:
        locked = trained.snakemake("train")
        assert locked.code == 1
        assert "--unlock" in locked.text
        assert trained.snakemake("train", "--unlock").code == 0
        refused = trained.snakemake("train")
        assert refused.code == 1
        (line,) = [line for line in refused.stderr.splitlines() if line.startswith("ncpipe: ")]
        assert line.endswith(f"process {orphan}")
        assert "another writer is at work here: host" in line
    finally:
        os.kill(orphan, signal.SIGCONT)
        os.kill(orphan, signal.SIGTERM)
    while Path(f"/proc/{orphan}/cmdline").exists() and Path(f"/proc/{orphan}/cmdline").read_bytes():
        time.sleep(0.01)
    outcome = trained.snakemake("train")
    assert outcome.code == 0, outcome.text
    assert "going on from epoch" in trained.log(SLOW)
    assert json.loads(trained.manifest(SLOW).read_text())["epochs"] == [0, 1, 4000]


def disk_lines(outcome) -> list[str]:
    return [line for line in outcome.stderr.splitlines() if line.startswith("Disk: ")]


def test_a_run_that_the_disk_cannot_hold_refuses_before_it_trains(fresh) -> None:
    """Terabytes of features; the stages that write none of them are not refused, nor is what only looks."""
    fresh.overlay["networks"]["mlp"]["features"] = 65536
    fresh.overlay["recipes"]["mlp"] |= {"epochs": 1_000_000, "checkpoints": {"every": 1}}
    planned = fresh.snakemake("train", "--dry-run")
    assert planned.code == 0
    (line,) = disk_lines(planned)
    assert re.fullmatch(rf"Disk: [0-9.]+ TB still to be written under {RESULTS} \(.* free, too little\)", line)
    outcome = fresh.snakemake("train")
    assert outcome.code == 1
    assert len(disk_lines(outcome)) == 1
    refusals = [line for line in outcome.stderr.splitlines() if line.startswith("ncpipe: ")]
    assert refusals
    for refusal in refusals:
        assert re.match(
            rf"ncpipe: {RESULTS}/train/\S+/seed-0: [0-9.]+ TB still to be written, .* free; free some, name another",
            refusal,
        )
        assert refusal.endswith("recipes.<name>.features (moments, float16), fewer recipes.<name>.checkpoints")
    assert "Traceback" not in outcome.text
    assert not list(fresh.results.glob("train/*/*/mlp/*/features.zarr"))


def test_what_is_still_to_be_written_is_an_upper_bound_of_what_is_written(stages) -> None:
    """Of stores so small that whole blocks and metadata are most of them."""
    project, _ = stages
    config = load_config(project.checkout / "config.yaml", project.folder / "overlay.yaml")
    sizes = sum(f.stat().st_blocks * 512 for stage in ("data", "train", "collapse") for f in stores(project, stage))
    before = disk.disk_need(config, plan_runs(config), Layout(project.folder / "nowhere").manifest, TRAIN_VERSION)
    assert 1.0 <= before / sizes <= 1.5
    assert disk.disk_need(config, plan_runs(config), Layout(project.results).manifest, TRAIN_VERSION) == 0
    assert disk_lines(project.snakemake("collapse")) == []


def stores(project, stage: str) -> list[Path]:
    files = (f for f in (project.results / stage).rglob("*") if f.is_file())
    return [f for f in files if any(part.endswith(".zarr") or part == "state" for part in f.parts)]


@pytest.fixture
def official_files(fresh) -> Path:
    """A folder and an archive, which nobody opens in a dry run."""
    folder = fresh.folder / "work/resources"
    (folder / "mnist").mkdir(parents=True)
    (folder / "cifar-10-binary.tar.gz").write_bytes(b"")
    return folder


def test_the_paper_is_planned(fresh, official_files: Path) -> None:
    paper = fresh.checkout / "config/paper.yaml"
    outcome = fresh.snakemake("train", "--dry-run", configfile=paper)
    assert outcome.code == 0, outcome.text
    assert outcome.jobs == {"data_images": 2, "train": 1, "train_run": 2 * 3 * 5}
    assert len(outcome.trained) == 30
    assert {"mlab_cifar10/step-0.1/resnet18/seed-4", "mlab_mnist/balanced/resnet18/seed-0"} <= outcome.trained
    assert yaml.safe_load(paper.read_text())["results"] == "results-paper"
    assert not (fresh.folder / "work/results-paper").exists()
