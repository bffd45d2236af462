"""The front door: lazy names, an example of each that runs, and a door that checks behind every one."""

from __future__ import annotations

import doctest
import itertools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

import ncpipe
from ncpipe import InputError, LabelDistribution, Objective, collapse_metrics, condense

SOURCE = Path(__file__).parents[1] / "src" / "ncpipe"


NAMES = {"ncpipe": ncpipe} | {name: getattr(ncpipe, name) for name in ncpipe.__all__}


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_ncpipe_imports_nothing_heavy():
    heavy = "('numpy', 'scipy', 'torch', 'zarr', 'xarray', 'pandas', 'matplotlib', 'ncpipe.errors')"
    assert run(f"import sys, ncpipe\nprint([m for m in {heavy} if m in sys.modules])") == "[]"


def test_no_name_of_the_front_door_imports_torch():
    code = "import sys, ncpipe\nfor n in ncpipe.__all__: getattr(ncpipe, n)\nprint('torch' in sys.modules)"
    assert run(code) == "False"


def test_the_stub_says_what_there_is():
    stub = (SOURCE / "__init__.pyi").read_text(encoding="utf-8")
    assert re.findall(r'^    "(\w+)",$', stub, re.MULTILINE) == ncpipe.__all__
    assert dir(ncpipe) == sorted([*ncpipe.__all__, "__version__"])
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        ncpipe.nonsense  # noqa: B018


ORDERS = list(itertools.permutations(["import ncpipe.optimum.laws", "from ncpipe import optimum", "import ncpipe"]))


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order[0])
def test_the_optimum_can_be_called_in_every_order_of_imports(order):
    code = [*order, "from ncpipe import optimum", "import ncpipe.optimum.thresholds"]
    code += [
        "labels = ncpipe.LabelDistribution.from_counts({(0,): 2, (1,): 1}, 2)",
        "objective = ncpipe.Objective('normalised', 0.1, 0.1)",
        "assert optimum(labels, objective).certified and ncpipe.optimum(labels, objective).certified",
        "print(optimum is ncpipe.optimum, ncpipe.optimum.laws.__name__, ncpipe.optimum.optimum.solve.__name__)",
    ]
    assert run("\n".join(code)) == "True ncpipe.optimum.laws solve"


def test_nothing_inside_the_package_comes_in_by_the_front_door():
    """A rule's dependencies are read from import statements; a lazy name would hide one."""
    for path in SOURCE.rglob("*.py"):
        for names in re.findall(r"^\s*from ncpipe import \(?([^\n)]+)", path.read_text(encoding="utf-8"), re.MULTILINE):
            assert names.strip() in {"__version__"}, path


@pytest.mark.parametrize("name", ncpipe.__all__)
def test_every_name_has_an_example_that_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    document = getattr(ncpipe, name).__doc__
    assert re.search(r"^ *Examples\n *-+$", document, re.MULTILINE), "no Examples section"
    test = doctest.DocTestParser().get_doctest(document, {**NAMES, "np": np}, name, None, None)
    assert test.examples
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    output: list[str] = []
    runner.run(test, out=output.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(output)


# --- collapse_metrics ---------------------------------------------------------------------------------------------

LABELS = [[0], [1], [2]] * 6 + [[0, 1], [0, 2], [1, 2]] * 2
OBJECTIVE = Objective("normalised", lambda_w=0.01, lambda_h=0.02, lambda_b=0.01)
RNG = np.random.default_rng(0)
FEATURES = np.array([np.eye(3, 4)[s].sum(axis=0) for s in LABELS]) + 0.1 * RNG.standard_normal((24, 4))
WEIGHT, BIAS = RNG.standard_normal((3, 4)), RNG.standard_normal(3)
MATRIX = np.array([[k in s for k in range(3)] for s in LABELS], dtype=int)


@pytest.mark.parametrize(
    "labels",
    [MATRIX, MATRIX.astype(bool), sparse.csr_array(MATRIX), torch.tensor(MATRIX), pd.DataFrame(MATRIX)],
    ids=["whole", "bool", "sparse", "torch", "frame"],
)
def test_labels_of_every_kind_give_the_same_metrics(labels):
    expected = collapse_metrics(FEATURES, LABELS, WEIGHT, BIAS)
    found = collapse_metrics(torch.tensor(FEATURES), labels, torch.tensor(WEIGHT, requires_grad=True), BIAS)
    assert dict(found) == pytest.approx(dict(expected), nan_ok=True, rel=1e-12)
    assert found.undefined == expected.undefined


def test_each_metric_has_a_value_or_a_reason():
    metrics = collapse_metrics(FEATURES, LABELS, WEIGHT, BIAS, OBJECTIVE)
    assert {key for key, value in metrics.items() if np.isnan(value)} == set(metrics.undefined) == {"excess_relu"}
    alone = collapse_metrics(FEATURES, LABELS)
    for key in ("nc2_w", "nc3", ("nc3", "li2024"), ("weakest_margin", 2), "gap", "error", "sigma_min_logits"):
        assert alone.undefined[key] == "no classifier is given"
    assert alone["nc1"] == metrics["nc1"]
    singles = collapse_metrics(FEATURES[:18], LABELS[:18])
    assert singles.undefined["angle"] == "no label set of two or more classes"


def test_the_gap_is_that_to_the_certified_optimum_and_its_parts_sum_to_it():
    metrics = collapse_metrics(FEATURES, LABELS, WEIGHT, BIAS, OBJECTIVE)
    optimum = ncpipe.optimum(metrics.distribution, OBJECTIVE)
    assert metrics["gap"] == pytest.approx(metrics["objective"] - optimum.lower_bound, rel=1e-12)
    parts = sum(metrics[f"gap_{part}"] for part in ("classifier", "scatter", "prototypes"))
    assert parts == pytest.approx(metrics["gap"], rel=1e-9)
    at = collapse_metrics(
        optimum.prototypes[condensed_positions(metrics.distribution)], LABELS, optimum.weight, optimum.bias, OBJECTIVE
    )
    assert at["gap"] == pytest.approx(0, abs=1e-8)
    assert at["total_variation"] == pytest.approx(0, abs=1e-8)
    relu = collapse_metrics(np.abs(FEATURES), LABELS, WEIGHT, BIAS, OBJECTIVE, relu=True)
    assert relu["gap_reference"] < relu["gap"]
    assert set(relu.optima) == {"convex", "relu"}


def condensed_positions(distribution: LabelDistribution) -> list[int]:
    return [distribution.label_sets.index(tuple(s)) for s in LABELS]


def test_samples_without_a_label_are_left_out():
    more, labels = np.vstack([FEATURES, np.full((2, 4), 7.0)]), [*LABELS, [], []]
    assert dict(collapse_metrics(more, labels)) == pytest.approx(dict(collapse_metrics(FEATURES, LABELS)), nan_ok=True)


def test_the_frame_has_a_row_for_each_metric():
    metrics = collapse_metrics(FEATURES, LABELS, WEIGHT)
    frame = metrics.to_frame()
    assert list(frame.columns) == ["metric", "variant", "multiplicity", "value", "reason"]
    assert len(frame) == len(metrics)
    row = frame[(frame.metric == "angle") & (frame.multiplicity == 2)]
    assert row.value.item() == metrics["angle", 2]
    assert ((frame.reason == "") == frame.value.notna()).all()


# --- wrong inputs -------------------------------------------------------------------------------------------------

DISTRIBUTION = LabelDistribution.from_counts({(0,): 6, (1,): 6, (2,): 6, (0, 1): 2, (0, 2): 2, (1, 2): 2}, 3)
POSITIONS = condensed_positions(DISTRIBUTION)
CONDENSED = condense(FEATURES, POSITIONS, DISTRIBUTION)
PROTOTYPES = CONDENSED.prototypes

WRONG_MATRICES = {
    "not a number": lambda a: np.where(np.arange(a.size).reshape(a.shape) == 1, np.nan, a),
    "infinite": lambda a: np.full(a.shape, np.inf, np.float16),
    "complex": lambda a: a + 1j,
    "object": lambda a: a.astype(object),
    "text": lambda a: a.astype(str),
    "empty": lambda a: a[:0],
    "vector": lambda a: a.ravel(),
    "three axes": lambda a: a[None],
    "surplus rows": lambda a: np.vstack([a, a]),
    "frame with text": lambda a: pd.DataFrame(a).assign(name="x"),
    "nothing": lambda a: None,
}
MATRIX_DOORS = {
    "collapse_metrics features": (lambda a: collapse_metrics(a, LABELS), FEATURES, "features|labels"),
    "collapse_metrics weight": (lambda a: collapse_metrics(FEATURES, MATRIX, a, BIAS), WEIGHT, "weight|bias"),
    "condense": (
        lambda a: condense(a, condensed_positions(DISTRIBUTION), DISTRIBUTION),
        FEATURES,
        "features|label_set",
    ),
    "nc2_w": (lambda a: ncpipe.nc2_w(a, classes=3), WEIGHT, "weight"),
    "nc3": (lambda a: ncpipe.nc3(a, CONDENSED, "definition"), WEIGHT, "weight"),
    "fit_synthesis prototypes": (lambda a: ncpipe.fit_synthesis(a, WEIGHT, DISTRIBUTION), PROTOTYPES, "prototypes"),
    "fit_synthesis weight": (lambda a: ncpipe.fit_synthesis(PROTOTYPES, a, DISTRIBUTION), WEIGHT, "weight"),
    "geometry_bound": (lambda a: ncpipe.geometry_bound(a, DISTRIBUTION, 2), PROTOTYPES, "prototypes"),
}


@pytest.mark.parametrize("kind", WRONG_MATRICES)
@pytest.mark.parametrize("door", MATRIX_DOORS)
def test_a_wrong_matrix_is_refused_by_name(door, kind):
    call, right, names = MATRIX_DOORS[door]
    call(right)
    with pytest.raises(InputError, match=f"^({names}): "):
        call(WRONG_MATRICES[kind](right))


@pytest.mark.parametrize(
    "wrong",
    [[0] * 23, [-1] * 24, [6] * 24, [0.0] * 24, [[0]] * 24, [0] * 24, [None] * 24],
    ids=["short", "negative", "beyond", "float", "matrix", "other counts", "objects"],
)
def test_wrong_positions_of_label_sets_are_refused_by_name(wrong):
    with pytest.raises(InputError, match=r"^label_set: "):
        condense(FEATURES, wrong, DISTRIBUTION)


WRONG_VALUES = {
    "variant of nc1": ("variant", lambda: ncpipe.nc1(CONDENSED, "defintion")),
    "variant of nc2_h": ("variant", lambda: ncpipe.nc2_h(CONDENSED, "defintion")),
    "variant of nc3": ("variant", lambda: ncpipe.nc3(WEIGHT, CONDENSED, "defintion")),
    "condensed of nc1": ("condensed", lambda: ncpipe.nc1(FEATURES, "definition")),
    "condensed of nc2_h": ("condensed", lambda: ncpipe.nc2_h(FEATURES, "definition")),
    "condensed of angle_metric": ("condensed", lambda: ncpipe.angle_metric(FEATURES, 2)),
    "multiplicity of angle_metric": ("multiplicity", lambda: ncpipe.angle_metric(CONDENSED, 2.0)),
    "multiplicity of geometry_bound": ("multiplicity", lambda: ncpipe.geometry_bound(PROTOTYPES, DISTRIBUTION, "2")),
    "transposed classifier": ("weight", lambda: ncpipe.nc2_w(np.ones((3, 10)).T)),
    "distribution of condense": ("distribution", lambda: condense(FEATURES, [0] * 24, MATRIX)),
    "distribution of geometry_bound": ("distribution", lambda: ncpipe.geometry_bound(PROTOTYPES, MATRIX, 2)),
    "replicates": ("replicates", lambda: ncpipe.fit_synthesis(PROTOTYPES, WEIGHT, DISTRIBUTION, replicates=0)),
    "frequencies": (
        r"frequencies\['n'\]",
        lambda: ncpipe.fit_synthesis(PROTOTYPES, WEIGHT, DISTRIBUTION, frequencies={"n": [1.0, -1.0, 1.0]}),
    ),
    "bias alone": ("bias", lambda: collapse_metrics(FEATURES, LABELS, bias=BIAS)),
    "bias of other length": ("bias", lambda: collapse_metrics(FEATURES, LABELS, WEIGHT, BIAS[:2])),
    "bias against the objective": (
        "bias",
        lambda: collapse_metrics(FEATURES, LABELS, WEIGHT, BIAS, Objective("normalised", 0.1, 0.1, use_bias=False)),
    ),
    "classifier against the objective": (
        "weight",
        lambda: collapse_metrics(FEATURES, LABELS, WEIGHT, objective=Objective("raw", 1, 1, classifier="etf")),
    ),
    "objective that is none": ("objective", lambda: collapse_metrics(FEATURES, LABELS, WEIGHT, BIAS, {"lambda_w": 1})),
    "negative features": ("features", lambda: collapse_metrics(FEATURES, LABELS, relu=True)),
    "labels that are counts": ("label", lambda: collapse_metrics(FEATURES, MATRIX * 2)),
    "labels in words": ("labels", lambda: collapse_metrics(FEATURES, ["a"] * 24)),
    "target": ("target", lambda: Objective("normalized", 1, 1)),
    "loss": ("loss", lambda: Objective("normalised", 1, 1, loss="BCE")),
    "classifier": ("classifier", lambda: Objective("normalised", 1, 1, classifier="ETF")),
    "lambda_w": ("lambda_w", lambda: Objective("normalised", 0, 1)),
    "lambda_b": ("lambda_b", lambda: Objective("normalised", 1, 1, lambda_b=-1)),
    "cap": ("cap", lambda: ncpipe.rebalance(DISTRIBUTION, "normalised", cap=0.5)),
    "target of rebalance": ("target", lambda: ncpipe.rebalance(DISTRIBUTION, "normalized", cap=2)),
    "target of spectrum": ("target", lambda: ncpipe.spectrum(DISTRIBUTION, "normalized")),
    "distribution of spectrum": ("distribution", lambda: ncpipe.spectrum(MATRIX)),
    "scheme": ("scheme", lambda: ncpipe.frequency_weights(DISTRIBUTION, "balanced")),
    "rtol": ("rtol", lambda: ncpipe.lambda_critical(DISTRIBUTION, OBJECTIVE, rtol=0)),
} | {
    f"{argument} of {name}": (
        argument,
        lambda name=name, argument=argument: getattr(ncpipe, name)(
            *((MATRIX, OBJECTIVE) if argument == "distribution" else (DISTRIBUTION, "normalised"))
        ),
    )
    for name in ("optimum", "relu_optimum", "spectral_bound", "lambda_critical", "minority_collapse", "zero_threshold")
    for argument in ("distribution", "objective")
}


@pytest.mark.parametrize("case", WRONG_VALUES)
def test_a_wrong_value_is_refused_by_name(case):
    name, call = WRONG_VALUES[case]
    with pytest.raises(InputError, match=rf"(?i)\b{name}" if name.isidentifier() else name):
        call()
