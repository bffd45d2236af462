"""A setting with sampling weights: its own weights, theory, runs and metrics, and nothing new for the others."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pipeline import Outcome, Project

from ncpipe.results.sampling_file import read_sampling
from ncpipe.stores.zarr import Store

HEAVY = "mlab_digits/heavy/mlp/seed-0"
WEIGHTS = "theory/mlab_digits/heavy/sampling/normalised.json"


def copied(project: Project, folder: Path) -> Project:
    """A copy of the results, run from the same checkout: its modules are inputs of rules."""
    folder.mkdir()
    subprocess.run(["cp", "-a", str(project.folder / "work"), str(folder)], check=True)
    return Project(folder, json.loads(json.dumps(project.overlay)), project.checkout)


@pytest.fixture(scope="module")
def added(stages, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Outcome, dict]:
    """The project with everything made, to which a setting like `thin`, but with weights, is added and run."""
    project = copied(stages[0], tmp_path_factory.mktemp("weighted") / "my project")
    before = project.files()
    project.overlay["settings"]["heavy"] = {"profile": "step", "ratio": 0.5, "sampling": "max_kappa"}
    project.overlay["runs"].append(
        {"datasets": ["mlab_digits"], "settings": ["heavy"], "networks": ["mlp"], "seeds": [0]}
    )
    outcome = project.snakemake("collapse")
    assert outcome.code == 0, outcome.text
    return project, outcome, before


@pytest.fixture
def weighted(added, tmp_path: Path) -> Project:
    """A copy of it, to change."""
    return copied(added[0], tmp_path / "my project")


def test_natural_runs_and_their_theory_are_not_touched(added) -> None:
    project, outcome, before = added
    assert outcome.jobs == {
        "theory_sampling": 1, "theory_optimum": 1, "train_run": 1, "collapse_run": 1, "collapse_tables": 1,
        "collapse": 1,
    }  # fmt: skip
    assert outcome.trained == {HEAVY}
    after = project.files()
    changed = {name for name in before if after[name] != before[name]}
    tables = {f"collapse/{table}.csv" for table in ("metrics", "optimum", "synthesis")}
    assert changed == tables | {f"{table}.sha256" for table in tables} | {"logs/collapse/tables.log"}
    assert project.snakemake("collapse", "--dry-run").jobs == {}


def test_weights_theory_run_and_metrics_belong_together(added) -> None:
    project = added[0]
    weights = read_sampling(project.results / WEIGHTS)
    assert weights.kappa["max_kappa"] > weights.kappa["natural"]
    store = Store(project.manifest(HEAVY).with_name("features.zarr"))
    found, label_sets = store.static()["label_set_weight"].values, store.static()["label_sets"].values
    factors = dict(zip(weights.natural.label_sets, weights.factors, strict=True))
    assert found.tolist() == [factors[tuple(np.flatnonzero(row).tolist())] for row in label_sets]
    theory = json.loads((project.results / "theory/mlab_digits/heavy/pal.json").read_text())
    assert theory["distribution"]["natural_counts"] == weights.natural.counts.tolist()
    assert theory["spectrum"]["pooled"]["kappa"] == pytest.approx(weights.kappa["max_kappa"], rel=1e-9)
    metrics = Store(project.results / "collapse" / HEAVY / "metrics.zarr").static()
    assert (metrics["gap"].values >= 0).all()
    identity = json.loads(project.manifest(HEAVY).read_text())["identity"]
    assert identity["settings"]["sampling"] == {"method": "max_kappa", "cap": 2.0}
    assert len(identity["label_set_weight"]) == 64


def test_other_weights_retrain_their_setting_alone(weighted) -> None:
    before = weighted.files("train")
    weighted.overlay["settings"]["heavy"]["cap"] = 3
    outcome = weighted.snakemake("train")
    assert outcome.code == 0, outcome.text
    assert outcome.jobs == {"theory_sampling": 1, "train_run": 1, "train": 1}
    assert outcome.trained == {HEAVY}
    assert "settings.sampling.cap: was 2.0, now 3.0" in weighted.log(HEAVY)
    assert "label_set_weight: was" in weighted.log(HEAVY)
    after = weighted.files("train")
    assert {name for name in after if after[name] != before.get(name)} == {n for n in after if n.startswith(HEAVY)}


def test_weights_made_again_to_the_same_bytes_cost_a_look_at_their_run(weighted) -> None:
    before = {name: content for name, (_, content) in weighted.files("train").items()}
    outcome = weighted.snakemake("train", "--forcerun", "theory_sampling")
    assert outcome.code == 0, outcome.text
    assert outcome.jobs == {"theory_sampling": 1, "train_run": 1, "train": 1}
    assert "already finished: all stored digests verified" in weighted.log(HEAVY)
    assert {name: content for name, (_, content) in weighted.files("train").items()} == before
