from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest

from ncpipe.errors import InputError
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.settings import Objective
from ncpipe.objective.terms import lower_bound, objective_terms
from ncpipe.results.theory_file import theory_content
from ncpipe.stores.files import read_json
from ncpipe.theory.analysis import analyse, write_theory

PAL = {"target": "normalised", "lambda_w": 5e-4, "lambda_h": 0.256, "lambda_b": 5e-4, "bias": True}
KEYS = {
    "distribution", "objective", "spectrum", "optimum", "relu", "bound", "thresholds", "laws", "synthesis", "tagwise",
}  # fmt: skip


def step_counts(ratio: float, *, classes: int = 10, single: int = 140, pair: int = 20) -> dict[str, int]:
    counts = {str(k): round(single * (1 if k < classes // 2 else ratio)) for k in range(classes)}
    return counts | {f"{a}+{b}": pair for a, b in combinations(range(classes), 2)}


def distribution_of(counts: dict[str, int], classes: int) -> LabelDistribution:
    return LabelDistribution.from_counts({tuple(map(int, s.split("+"))): n for s, n in counts.items()}, classes)


@pytest.fixture(scope="module")
def payload(tmp_path_factory):
    path = tmp_path_factory.mktemp("theory") / "digits" / "step-0.2" / "pal.json"
    write_theory(step_counts(0.2), 10, list("abcdefghij"), PAL, path)
    return read_json(path)


def test_the_default_run_is_described_whole(payload):
    assert set(payload) == KEYS
    assert payload["distribution"]["classes"] == 10
    assert payload["distribution"]["samples"] == 140 * 5 + 28 * 5 + 45 * 20
    assert payload["distribution"]["label_sets"][10] == [0, 1]
    assert payload["objective"] == PAL | {"lam": pytest.approx(0.0113137085)}
    assert payload["optimum"]["objective"] == pytest.approx(0.58047, abs=5e-6)
    assert payload["relu"]["objective"] == pytest.approx(0.59705, abs=5e-6)
    assert [entry["m"] for entry in payload["spectrum"]["multiplicities"]] == [1, 2]
    assert payload["spectrum"]["multiplicities"][0]["weakest"]["classes"] == [["f"], ["g", "h", "i", "j"]]
    assert len(payload["spectrum"]["pooled"]["eigenvalues"]) == 9


def test_what_is_written_can_be_checked_from_the_file_alone(payload):
    entry = payload["distribution"]
    distribution = LabelDistribution.from_json(entry)
    objective = Objective.from_config(payload["objective"])
    bound = lower_bound(distribution, objective, dual_point=np.array(payload["optimum"]["dual_point"]))
    assert bound == pytest.approx(payload["optimum"]["dual_bound"], rel=1e-14)
    for reference, lower in (("optimum", "dual_bound"), ("relu", "lower_bound")):
        found = payload[reference]
        terms = objective_terms(
            np.array(found["weight"]),
            np.array(found["bias"]),
            np.array(found["prototypes"]),
            label_set=np.arange(len(distribution.counts)),
            multi_hot=distribution.multi_hot(),
            objective=objective,
            sample_weights=distribution.weights,
        )
        assert terms.total == pytest.approx(found["objective"], rel=1e-13)
        assert found[lower] <= terms.total
    assert np.array(payload["relu"]["prototypes"]).min() >= 0
    assert payload["optimum"]["objective"] < payload["relu"]["lower_bound"]
    assert payload["bound"]["value"] <= payload["optimum"]["objective"]
    assert payload["bound"]["ratio"] == payload["bound"]["value"] / payload["optimum"]["objective"]


def test_equal_input_gives_equal_bytes(tmp_path):
    counts = step_counts(0.1, classes=5, single=30, pair=4)
    for name in ("first", "second"):
        write_theory(counts, 5, list("abcde"), PAL, tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


@pytest.mark.parametrize("bias", [(True, 5e-4), (True, 0.0), (False, 0.0)])
@pytest.mark.parametrize("target", ["normalised", "raw"])
@pytest.mark.parametrize(
    ("counts", "classes"),
    [
        ({"0": 3, "1": 2}, 2),
        ({"0": 3, "1": 2, "0+1+2": 1}, 4),  # an unseen class, multiplicity two missing, m < K
        ({"0+1": 1, "0+1+2": 2}, 3),  # no class alone; all classes at once
        ({"2": 1}, 3),  # one label set
        ({"0": 1, "1": 1, "2": 1, "3": 1, "0+1": 1, "2+3": 1}, 4),  # equal counts: exponents not identified
    ],
)
def test_every_distribution_and_bias_can_be_written(counts, classes, target, bias):
    objective = Objective(target, 0.05, 0.05, bias[1], bias[0])
    result = theory_content(analyse(distribution_of(counts, classes), objective))
    assert set(result) == KEYS
    json.dumps(result, allow_nan=False)


def test_undefined_numbers_are_null():
    result = theory_content(analyse(distribution_of({"0+1+2": 1, "0": 2}, 3), Objective.from_config(PAL)))
    assert result["spectrum"]["multiplicities"][1]["anisotropy"] is None
    assert result["tagwise"][0]["residual"] is None


def test_counts_that_are_no_distribution_are_refused(tmp_path):
    with pytest.raises(InputError, match="no labelled sample"):
        write_theory({"0": 0}, 3, list("abc"), PAL, tmp_path / "none.json")
    assert not (tmp_path / "none.json").exists()
