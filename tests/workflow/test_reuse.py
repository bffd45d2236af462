"""What is run again, and what is not: one behaviour each."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from ncpipe.results.verify import verify_results, without_digest
from ncpipe.stores.zarr import Store

MLP, THIN, SLOW = "mlab_digits/balanced/mlp/seed-0", "mlab_digits/thin/mlp/seed-0", "mlab_digits/balanced/slow/seed-0"


def test_data_stops_at_the_data_sets(stages) -> None:
    outcome, files = stages[1][0]
    assert outcome.jobs == {"data": 1, "data_images": 1, "data_picture": 1}
    assert "data/mlab_digits/manifest.json" in files
    assert "data/mlab_digits/samples.png" in files
    assert {name.split("/")[0] for name in files} <= {"data", "logs", "benchmarks"}


def test_train_goes_on_from_there_and_stops_at_the_runs(stages) -> None:
    project, ((_, before), (outcome, files), _) = stages
    assert outcome.jobs == {"train": 1, "train_run": 3}
    assert outcome.trained == {MLP, THIN, SLOW}
    assert {name.split("/")[0] for name in files - before} <= {"train", "logs", "benchmarks"}
    for run in (MLP, THIN, SLOW):
        assert json.loads(project.manifest(run).read_text())["epochs"] == [0, 2]
        assert "epoch 2/2" in project.log(run)


def test_collapse_goes_on_from_there_and_stops_at_the_tables(stages) -> None:
    _, (_, (_, before), (outcome, files)) = stages
    assert outcome.jobs == {"theory_optimum": 2, "collapse_run": 3, "collapse_tables": 1, "collapse": 1}
    assert {name.split("/")[0] for name in files - before} <= {"theory", "collapse", "logs", "benchmarks"}


def test_results_pass_verification_under_a_path_with_spaces(stages) -> None:
    project, _ = stages
    checked = dict(verify_results(project.results))
    assert sum(path.suffix == ".zarr" for path in checked) == 1 + 3 + 3  # images, features, metrics
    assert sum(path.suffix != ".zarr" for path in checked) == 1 + 2 + 3  # picture, theory files, tables
    assert not any(checked.values())
    assert without_digest(project.results) == []
    assert " " in str(project.results)


def test_second_run_does_nothing_and_says_so(trained) -> None:
    before = trained.files()
    outcome = trained.snakemake("collapse")
    assert outcome.code == 0
    assert "Nothing to be done" in outcome.text
    assert outcome.jobs == {}
    assert trained.files() == before


CHANGES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "a recipe": ({"recipes": {"slow": {"lr": 0.02}}}, {SLOW}),
    "checkpoints": ({"recipes": {"mlp": {"checkpoints": [0, 1, 2]}}}, {MLP, THIN}),
    "a network": ({"networks": {"mlp": {"features": 5}}}, {MLP, THIN}),
    "a setting": ({"settings": {"thin": {"ratio": 0.75}}}, {THIN}),
    "an objective": ({"objectives": {"pal": {"lambda_h": 0.3}}}, {MLP, THIN, SLOW}),
    "a definition that no run uses": ({"settings": {"step-0.1": {"ratio": 0.3}}}, set()),
}


@pytest.mark.parametrize(("change", "retrained"), CHANGES.values(), ids=CHANGES)
def test_a_changed_key_retrains_the_runs_that_it_touches(trained, change: dict, retrained: set[str]) -> None:
    ((section, entries),) = change.items()
    for name, keys in entries.items():
        trained.overlay.setdefault(section, {}).setdefault(name, {}).update(keys)
    outcome = trained.snakemake("train", "--dry-run")
    assert outcome.code == 0, outcome.text
    assert outcome.trained == retrained
    assert "data_images" not in outcome.jobs


def test_a_retrained_run_is_a_new_one_and_the_others_keep_their_bytes(trained) -> None:
    before = trained.files("train")
    old = Store(trained.manifest(SLOW).with_name("features.zarr")).digest()
    trained.overlay["recipes"]["slow"]["lr"] = 0.02
    outcome = trained.snakemake("train")
    assert outcome.code == 0, outcome.text
    assert outcome.jobs == {"train": 1, "train_run": 1}
    log = trained.log(SLOW)
    assert "starting afresh, the state belongs to other settings: settings.recipe.lr: was 0.01, now 0.02" in log
    assert Store(trained.manifest(SLOW).with_name("features.zarr")).digest() != old
    after = trained.files("train")
    assert {name for name in after if after[name] != before.get(name)} == {n for n in after if n.startswith(SLOW)}


def test_a_changed_data_set_retrains_everything_on_it(trained) -> None:
    old = {run: json.loads(trained.manifest(run).read_text()) for run in (MLP, THIN, SLOW)}
    trained.overlay["datasets"]["mlab_digits"]["seed"] = 1
    outcome = trained.snakemake("train")
    assert outcome.code == 0, outcome.text
    assert outcome.jobs == {"data_images": 1, "train": 1, "train_run": 3}
    data = Store(trained.results / "data/mlab_digits/images.zarr").digest()
    for run, manifest in old.items():
        new = json.loads(trained.manifest(run).read_text())
        assert new["identity"]["data"] == data != manifest["identity"]["data"]
        assert new["store_digest"] != manifest["store_digest"]
        assert "starting afresh, the state belongs to other settings: data: was" in trained.log(run)


def test_memory_and_time_limits_retrain_nothing(trained) -> None:
    outcome = trained.snakemake(
        "train", "--dry-run", "--set-resources", "train_run:mem_mb=9999", "train_run:runtime=7", "data_images:mem_mb=1"
    )
    assert outcome.code == 0, outcome.text
    assert outcome.jobs == {}


def test_a_touched_training_script_costs_a_look_at_each_run(trained) -> None:
    """Snakemake sees other code and asks again; the runs find themselves finished and write the same bytes.

    So nothing behind them is made again. (Asked for both stages at once, Snakemake plans the later one before it can
    know that.)
    """
    before = {name: content for name, (_, content) in trained.files("train").items()}
    script = trained.checkout / "workflow/scripts/train_run.py"
    times = script.stat()
    os.utime(script)
    try:
        outcome = trained.snakemake("train")
        afterwards = trained.snakemake("collapse", "--dry-run")
    finally:
        os.utime(script, ns=(times.st_atime_ns, times.st_mtime_ns))  # other tests share it
    assert outcome.code == 0, outcome.text
    assert outcome.jobs == {"train": 1, "train_run": 3}
    assert afterwards.code == 0
    assert afterwards.jobs == {}
    for run in (MLP, THIN, SLOW):
        assert "already finished: all stored digests verified" in trained.log(run)
        assert "epoch" not in trained.log(run)
    assert {name: content for name, (_, content) in trained.files("train").items()} == before
