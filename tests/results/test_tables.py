"""Reading tidy tables, choosing rows, summarising over seeds, and what a setting is called."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ncpipe.errors import InputError, StoreError
from ncpipe.experiment.setting import Setting, baseline, settings_from_config
from ncpipe.results.tables import METRICS, last_epoch, metric_rows, over_seeds, read_table, select, write_table


def metrics(rows):
    return pd.DataFrame(rows, columns=list(METRICS))


ROW = ("digits", "balanced", "cnn", 0, 9, "train", "nc1", "definition", np.nan, 0.1)


def test_what_is_written_is_read_back_to_the_last_bit(tmp_path):
    values = [0.1 + 0.2, 1e-300, np.pi, np.nan]
    frame = metrics([(*ROW[:3], i, *ROW[4:9], v) for i, v in enumerate(values)])
    write_table(tmp_path / "m.csv", frame)
    found = read_table(tmp_path / "m.csv", METRICS)
    np.testing.assert_array_equal(found["value"], values)
    assert found["variant"].tolist() == ["definition"] * 4
    assert b"\r" not in (tmp_path / "m.csv").read_bytes()


def test_names_that_look_like_numbers_or_nothing_stay_text(tmp_path):
    write_table(tmp_path / "m.csv", metrics([("007", "NA", "1e3", *ROW[3:])]))
    found = read_table(tmp_path / "m.csv", METRICS).iloc[0]
    assert (found["dataset"], found["setting"], found["network"]) == ("007", "NA", "1e3")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "missing"),
        ("", "not a CSV table"),
        ("dataset,setting\na,b\n", "lacks the columns network, seed"),
        (",".join(METRICS) + "\n" + "a," * 9 + "x\n", "must hold numbers"),
    ],
)
def test_what_cannot_be_read_names_the_file(tmp_path, content, message):
    if content is not None:
        (tmp_path / "m.csv").write_text(content)
    with pytest.raises(InputError, match=rf"m\.csv: .*{message}"):
        read_table(tmp_path / "m.csv", METRICS)


def test_an_empty_selection_says_what_was_sought():
    frame = metrics([ROW])
    assert len(select(frame, "figure", metric=["nc1", "nc3"], network="cnn")) == 1
    with pytest.raises(InputError, match="figure: the table has no row with metric nc2, network cnn"):
        select(frame, "figure", metric="nc2", network="cnn")


def test_metric_rows_take_variant_training_split_and_multiplicity_two():
    rows = [
        ROW,
        (*ROW[:7], "li2024", np.nan, 0.2),
        (*ROW[:5], "test", *ROW[6:]),
        (*ROW[:6], "angle", "", 2, 0.3),
        (*ROW[:6], "angle", "", 3, 0.4),
    ]
    frame = metrics(rows)
    assert metric_rows(frame, "nc1")["value"].tolist() == [0.1]
    assert metric_rows(frame, "nc1", variant="li2024")["value"].tolist() == [0.2]
    assert metric_rows(frame, "angle", variant="li2024")["value"].tolist() == [0.3]
    assert metric_rows(frame, "nothing").empty


def test_the_last_epoch_is_that_of_each_group_and_one_for_all_its_seeds():
    rows = [(*ROW[:1], setting, "cnn", seed, epoch, *ROW[5:]) for setting, ends in (("a", (0, 5)), ("b", (0, 7)))
            for seed in (0, 1) for epoch in ends]  # fmt: skip
    found = last_epoch(metrics(rows))
    assert sorted(found["epoch"]) == [5, 5, 7, 7]
    with pytest.raises(InputError, match=r"digits / b / cnn: seeds end at epochs 0 to 7"):
        last_epoch(metrics(rows[:-1]))


def test_over_seeds_gives_means_and_geometric_means_with_t_intervals():
    values = np.array([0.1, 0.2, 0.4])
    frame = metrics([(*ROW[:3], i, *ROW[4:9], v) for i, v in enumerate(values)])
    plain = over_seeds(frame, ["metric"]).iloc[0]
    low, high = stats.t.interval(0.95, 2, loc=values.mean(), scale=stats.sem(values))
    np.testing.assert_allclose(plain[["value", "low", "high"]].astype(float), [values.mean(), low, high])
    logs = np.log(values)
    low, high = stats.t.interval(0.95, 2, loc=logs.mean(), scale=stats.sem(logs))
    geometric = over_seeds(frame, ["metric"], log=True).iloc[0]
    np.testing.assert_allclose(geometric[["value", "low", "high"]].astype(float), np.exp([logs.mean(), low, high]))
    assert geometric["value"] == pytest.approx(0.2)


def test_over_seeds_counts_the_values_that_exist():
    frame = metrics([(*ROW[:3], i, *ROW[4:9], v) for i, v in enumerate([0.1, np.nan, 0.0])])
    assert over_seeds(frame, ["metric"])["seeds"].tolist() == [2]
    assert over_seeds(frame, ["metric"], log=True)["seeds"].tolist() == [1]
    assert over_seeds(frame.iloc[1:2], ["metric"])["value"].isna().all()


@pytest.mark.parametrize(
    ("entry", "label", "imbalanced", "controlled"),
    [
        ({"profile": "balanced"}, "balanced", False, False),
        ({"profile": "step", "ratio": 0.2}, "step r = 0.2", True, False),
        ({"profile": "step", "ratio": 1.0}, "step r = 1", False, False),
        ({"profile": "step", "ratio": 0.1, "budget": "steps"}, "step r = 0.1, equal steps", False, True),
        ({"profile": "step", "ratio": 0.1, "total": "fixed"}, "step r = 0.1, fixed shares", False, True),
        ({"profile": "step", "ratio": 0.1, "sampling": "natural"}, "step r = 0.1", True, False),
        ({"profile": "step", "ratio": 0.1, "sampling": "max_kappa"}, "step r = 0.1, max-κ weights, cap 2", False, True),
        (
            {"profile": "exponential", "ratio": 0.1, "sampling": "class_balanced"},
            "exponential r = 0.1, class-balanced weights",
            False,
            True,
        ),
        ({"profile": "uniform", "ratio": 0.6}, "uniform r = 0.6", False, False),
        ({"profile": "exponential", "ratio": 0.1}, "exponential r = 0.1", True, False),
        ({"profile": "explicit", "counts": {"0": 3}}, "mine", False, False),
    ],
)
def test_settings_say_their_reading_of_r(entry, label, imbalanced, controlled):
    setting = Setting.from_config("mine", entry)
    assert (setting.label, setting.imbalanced, setting.controlled) == (label, imbalanced, controlled)


def test_the_baseline_is_balanced_and_no_control():
    entries = {
        "step": {"profile": "step", "ratio": 0.1},
        "steps": {"profile": "balanced", "budget": "steps"},
        "balanced": {"profile": "balanced"},
    }
    found = baseline(settings_from_config(entries))
    assert found is not None
    assert found.name == "balanced"
    assert baseline(settings_from_config({"step": entries["step"]})) is None


def test_no_row_is_read_from_a_table_that_was_damaged(tmp_path):
    """A digit that changed is a table all the same."""
    path = tmp_path / "m.csv"
    write_table(path, metrics([ROW]))
    path.write_text(path.read_text().replace("0.1", "0.9"))
    with pytest.raises(StoreError, match=r"m\.csv: damaged"):
        read_table(path, METRICS)
