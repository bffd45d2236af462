"""Several objectives in one configuration: the whole DAG runs, and each network is measured against its own optimum."""

from __future__ import annotations

import json

import pytest
from pipeline import Project, make_project

from ncpipe.collapse.tables import metric_rows, open_metrics
from ncpipe.objective.settings import Objective
from ncpipe.results.tables import METRICS, read_table

PENALTIES = {"lambda_w": 0.01, "lambda_h": 0.05, "lambda_b": 0.01, "bias": True}
OBJECTIVES = {
    "weighted": {"loss": "pal", "target": "normalised", "class_weights": "balanced", **PENALTIES},
    "bce": {"loss": "bce", "target": "raw", **PENALTIES},
    "mse": {"loss": "mse", "target": "normalised", **PENALTIES},
    "etf": {"loss": "pal", "target": "normalised", "classifier": "etf", **PENALTIES},
    "bce-etf": {"loss": "bce", "target": "raw", "classifier": "etf", **PENALTIES},
}
pytestmark = pytest.mark.slow
GAP = 1e-4  # relative, of free features after 600 epochs


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with an MLP and free features for each objective, run to the page."""
    project = make_project(tmp_path_factory.mktemp("objectives") / "my project")
    overlay = project.overlay
    overlay["studies"] = None
    overlay["datasets"]["mlab_digits"]["train_counts"] = [4, 4]
    overlay["objectives"] = OBJECTIVES
    overlay["settings"]["twin"] = {"profile": "step", "ratio": 0.5, "total": "fixed"}
    overlay["recipes"]["free"] = {
        "epochs": 600, "batch": "full", "lr": 0.2, "momentum": 0.9, "weight_decay": 0.0, "schedule": "cosine",
        "checkpoints": [0, 600],
    }  # fmt: skip
    overlay["networks"] = {}
    for name in OBJECTIVES:
        overlay["networks"][f"free-{name}"] = {
            "architecture": "ufm", "features": 12, "objective": name, "recipe": "free"
        }  # fmt: skip
    overlay["networks"]["mlp-bce-etf"] = {
        "architecture": "mlp", "hidden": [8], "features": 10, "objective": "bce-etf", "recipe": "mlp"
    }  # fmt: skip
    overlay["runs"] = [
        {"datasets": ["mlab_digits"], "settings": ["balanced"], "networks": [*overlay["networks"]], "seeds": [0]},
        {"datasets": ["mlab_digits"], "settings": ["thin", "twin"], "networks": ["free-weighted"], "seeds": [0]},
    ]
    outcome = project.snakemake("--quiet", "rules", timeout=900)
    assert outcome.code == 0, outcome.text
    return project


def test_the_whole_dag_ends_in_a_page_with_every_figure(project: Project) -> None:
    assert (project.results / "report/index.html").is_file()
    for network in project.overlay["networks"]:
        assert (project.results / f"figures/gap-{network}.svg").is_file()
    assert project.snakemake("--dry-run").jobs == {}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_free_features_reach_the_certified_optimum_of_their_objective(project: Project, name: str) -> None:
    theory = json.loads((project.results / f"theory/mlab_digits/balanced/{name}.json").read_text())
    assert theory["optimum"]["certified"]
    run = project.results / f"collapse/mlab_digits/balanced/free-{name}/seed-0"
    rows = {(r["metric"], r["epoch"]): r["value"] for r in metric_rows(open_metrics(run)) if r["split"] == "train"}
    assert 0 <= rows["gap", 600] <= GAP * theory["optimum"]["objective"]
    assert rows["gap", 0] > 100 * rows["gap", 600]
    undefined = open_metrics(run).attrs["undefined"]
    defined = "bce" not in name and "mse" not in name
    assert (rows["total_variation", 600] < 0.05) == defined  # NaN is not
    assert ("total_variation" in undefined) != defined
    assert ("score" in undefined) != defined or undefined["score"].keys() == {"split test"}
    assert ("residual_sigma_max" in undefined) == name.endswith("etf")
    if name.endswith("etf"):
        assert "fixed" in str(undefined["residual_sigma_max"])
        assert rows["nc2_w", 600] < 1e-6
    else:
        assert rows["residual_sigma_max", 600] == pytest.approx(1, abs=0.05)


def test_balanced_weights_are_those_of_each_setting(project: Project) -> None:
    weights = {}
    for setting in ("balanced", "thin", "twin"):
        theory = json.loads((project.results / f"theory/mlab_digits/{setting}/weighted.json").read_text())
        weights[setting] = Objective.from_config(theory["objective"]).class_weights
        run = project.manifest(f"mlab_digits/{setting}/free-weighted/seed-0")
        trained = json.loads(run.read_text())["identity"]["settings"]
        assert tuple(trained["objective"]["class_weights"]) == weights[setting]
    assert weights["balanced"] == pytest.approx([1.0] * 10)
    assert weights["thin"][0] < 1 < weights["thin"][9]
    assert weights["twin"][9] > weights["thin"][9]  # fewer pairs leave the rare classes rarer
    assert trained["counts"]["0+1"] == 3


def test_networks_are_never_below_the_bound_of_their_own_features(project: Project) -> None:
    metrics = read_table(project.results / "collapse/metrics.csv", METRICS)
    gaps = metrics.loc[metrics["metric"].isin(["gap", "gap_reference"])]
    assert set(gaps["network"]) == set(project.overlay["networks"])
    assert (gaps["value"].dropna() >= 0).all()
    assert gaps.loc[gaps["network"].str.startswith("mlp"), "value"].notna().all()
