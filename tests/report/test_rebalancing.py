"""What rebalancing did to the networks: paired by seed, with the interval of a plain t-test, beside both optima."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ncpipe.experiment.setting import Setting, settings_from_config
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.labels.sampling import Sampling
from ncpipe.report.rebalancing import COLUMNS, compare, natural_twin, write_rebalancing
from ncpipe.results.sampling_file import write_sampling
from ncpipe.results.tables import METRICS, OPTIMUM, read_table, write_table
from ncpipe.stores.files import read_json

STEP = {"profile": "step", "ratio": 0.1}
ENTRIES = {
    "balanced": {"profile": "balanced"},
    "step-equal": {**STEP, "budget": "steps"},
    "step": STEP,
    "step-max": {**STEP, "sampling": "max_kappa", "cap": 3},
    "alone": {"profile": "exponential", "ratio": 0.1, "sampling": "class_balanced"},
}
SETTINGS = settings_from_config(ENTRIES)
NETWORKS = {
    "mlp": {"architecture": "mlp", "objective": "pal"},
    "ufm": {"architecture": "ufm", "objective": "pal"},
}
RAISED = {
    "weakest_contrast_prototypes": 0.1,
    "weakest_contrast_classifier": 0.0,
    "prediction_sigma": 0.05,
    "sigma_min_logits": -0.5,
}


def metric_rows(network: str, seeds: range, noise: np.random.Generator) -> list[tuple]:
    """Each statistic at two epochs; weights raise the first, leave the second, lower the third, and cut the error."""
    rows = []
    for setting in ("step", "step-max", "step-equal"):
        weighted = setting == "step-max"
        for seed in seeds:
            for epoch in (0, 9):
                for metric, raised in RAISED.items():
                    value = 0.3 + weighted * raised + 0.02 * noise.standard_normal()
                    rows.append(("toy", setting, network, seed, epoch, "train", metric, "", np.nan, value))
                    rows.append(("toy", setting, network, seed, epoch, "test", metric, "", np.nan, 77.0))
                error = np.nan if network == "ufm" else 0.2 - 0.1 * weighted + 0.01 * noise.standard_normal()
                rows.append(("toy", setting, network, seed, epoch, "test", "error", "", np.nan, error))
                rows.append(("toy", setting, network, seed, epoch, "train", "error", "", np.nan, 0.0))
    return rows


@pytest.fixture(scope="module")
def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    noise = np.random.default_rng(0)
    rows = metric_rows("mlp", range(5), noise) + metric_rows("ufm", range(1), noise)
    optimum = [
        ("toy", setting, "pal", reference, metric, "", np.nan, value + (reference == "relu"))
        for setting, value in (("step", 0.1), ("step-max", 0.2))
        for reference in ("convex", "relu")
        for metric in RAISED
    ]
    return pd.DataFrame(rows, columns=list(METRICS)), pd.DataFrame(optimum, columns=list(OPTIMUM))


def test_changes_are_paired_t_tests_at_the_last_epoch(tables) -> None:
    metrics, optimum = tables
    found = compare(metrics, optimum, SETTINGS, NETWORKS).set_index(["network", "metric"])
    last = metrics[(metrics.epoch == 9) & (metrics.network == "mlp")]
    for metric, split in (*((m, "train") for m in RAISED), ("error", "test")):
        here = last[(last.metric == metric) & (last.split == split)].pivot_table("value", "seed", "setting")
        row, change = found.loc["mlp", metric], here["step-max"] - here["step"]
        interval = stats.t.interval(0.95, 4, loc=change.mean(), scale=stats.sem(change))
        np.testing.assert_allclose([row["change"], row["low"], row["high"]], [change.mean(), *interval], rtol=1e-12)
        np.testing.assert_allclose([row["before"], row["after"]], here[["step", "step-max"]].mean(), rtol=1e-12)
        assert (row["setting"], row["natural"], row["seeds"], row["reason"]) == ("step-max", "step", 5, "")
    says = found.loc["mlp", "says"]
    assert says["weakest_contrast_prototypes"] == "better"
    assert says["weakest_contrast_classifier"] == "undecided"
    assert says["sigma_min_logits"] == "worse"
    assert says["error"] == "better"  # a smaller one is


def test_optima_are_those_that_fit_the_features(tables) -> None:
    found = compare(*tables, SETTINGS, NETWORKS).set_index(["network", "metric"])
    for network, offset in (("mlp", 1.0), ("ufm", 0.0)):
        row = found.loc[network, "sigma_min_logits"]
        assert (row["optimum_before"], row["optimum_after"]) == (0.1 + offset, 0.2 + offset)
    assert found.loc[("mlp", "error"), ["optimum_before", "optimum_after"]].isna().all()


def test_few_seeds_decide_nothing_and_say_so(tables) -> None:
    found = compare(*tables, SETTINGS, NETWORKS)
    found = found[found.network == "ufm"]
    assert set(found["metric"]) == set(RAISED)  # free features have no test split
    assert set(found["says"]) == {"undecided"}
    assert set(found["reason"]) == {"1 seed; at least 5 are needed"}
    assert found["low"].isna().all()


def test_only_seeds_trained_both_ways_count(tables) -> None:
    metrics, optimum = tables
    apart = metrics[(metrics.setting != "step") | (metrics.seed > 1)]
    found = compare(apart, optimum, SETTINGS, NETWORKS)
    assert found.loc[found.network == "mlp", "seeds"].tolist() == [3] * 5
    ufm = found[found.network == "ufm"]
    assert ufm.empty


def test_the_twin_differs_in_weights_alone() -> None:
    assert natural_twin(SETTINGS["step-max"], SETTINGS.values()) is SETTINGS["step"]
    assert natural_twin(SETTINGS["alone"], SETTINGS.values()) is None
    counts = [{"profile": "explicit", "counts": {"0": n, "1": 2}} for n in (3, 4)]
    explicit = [Setting.from_config(str(i), entry) for i, entry in enumerate(counts)]
    weighted = Setting.from_config("w", {**counts[1], "sampling": "max_kappa"})
    assert natural_twin(weighted, [*explicit, weighted]) is explicit[1]


def test_files_hold_what_the_labels_say_and_the_comparisons(tables, tmp_path: Path) -> None:
    metrics, optimum = tmp_path / "metrics.csv", tmp_path / "optimum.csv"
    write_table(metrics, tables[0])
    write_table(optimum, tables[1])
    natural = LabelDistribution.from_counts({(0,): 3, (1,): 1}, 2)
    kappa = {"natural": 0.1, "class_balanced": 0.2, "effective_number": 0.15, "max_kappa": 0.3}
    paths = []
    for setting, method in (("step-max", "max_kappa"), ("alone", "class_balanced")):
        paths.append(tmp_path / f"theory/toy/{setting}/sampling/normalised.json")
        weights = np.array([0.6, 0.4])
        write_sampling(paths[-1], Sampling(natural, weights, method, "normalised", 3.0, kappa, 0.31))
    for name in ("one", "two"):
        write_rebalancing(
            tmp_path / f"{name}.json",
            tmp_path / f"{name}.csv",
            metrics=metrics,
            optimum=optimum,
            weights=paths,
            settings=ENTRIES,
            networks=NETWORKS,
        )
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    content = read_json(tmp_path / "one.json")
    by_setting = {entry["setting"]: entry for entry in content["settings"]}
    assert by_setting["step-max"]["kappa"]["sampled"] == 0.3
    assert by_setting["alone"]["kappa"]["sampled"] == 0.2
    assert by_setting["step-max"]["factors"] == pytest.approx([0.8, 1.6])
    assert by_setting["step-max"]["natural_label"] == "step r = 0.1"
    assert by_setting["alone"]["natural"] is None
    assert len(content["comparisons"]) == 9
    assert content["comparisons"][0]["statistic"] == "weakest contrast of the class means"
    numbers = tuple(c for c in COLUMNS if c not in ("natural", "says"))
    assert len(read_table(tmp_path / "one.csv", numbers)) == 9


def test_a_run_without_weights_compares_nothing(tables, tmp_path: Path) -> None:
    write_table(tmp_path / "m.csv", tables[0])
    write_table(tmp_path / "o.csv", tables[1])
    write_rebalancing(
        tmp_path / "r.json",
        tmp_path / "r.csv",
        metrics=tmp_path / "m.csv",
        optimum=tmp_path / "o.csv",
        weights=[],
        settings={"step": STEP},
        networks=NETWORKS,
    )
    assert read_json(tmp_path / "r.json") == {"settings": [], "comparisons": []}
    assert (tmp_path / "r.csv").read_text() == ",".join(COLUMNS) + "\n"
