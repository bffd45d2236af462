"""Whatever label distribution the configuration admits ends in tables in which every gap has its reason."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from configurations import CASES, Configuration, configurations, make_results
from hypothesis import given, settings

from ncpipe.collapse.tables import metric_rows, open_metrics
from ncpipe.geometry.record import QUANTITIES
from ncpipe.results.tables import METRICS, read_table


def check(root: Path, configuration: Configuration) -> None:
    results = make_results(root, configuration)
    for folder in results.collapse:
        store = open_metrics(folder)
        undefined = store.attrs["undefined"]
        for row in metric_rows(store):
            if math.isnan(row["value"]):
                place = [f"{d} {row[d]}" for d in QUANTITIES[row["metric"]].dims if d != "epoch"]
                reasons = undefined.get(row["metric"], {})
                # Where a split is missing as a whole, that is the reason for all of it.
                assert reasons.get(", ".join(place)) or reasons.get(place[0]), f"{row}: no value, and no reason"
    frame = read_table(results.table("metrics"), METRICS)
    assert set(frame["seed"]) == set(range(configuration.seeds))
    assert frame.loc[frame["metric"] == "objective", "value"].notna().all()
    assert not frame["value"].map(math.isinf).any()


@pytest.mark.parametrize("name", CASES)
def test_labels_of_every_kind_are_measured(name, tmp_path):
    check(tmp_path, CASES[name])


@settings(max_examples=5)
@given(configuration=configurations())
def test_drawn_configurations_are_measured(configuration, tmp_path_factory):
    check(tmp_path_factory.mktemp("drawn"), configuration)
