"""Runs with sampling weights: what training minimises counts samples as they weigh, geometry as they are."""

from __future__ import annotations

import logging
import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncpipe.collapse.analyse import analyse_run
from ncpipe.collapse.optima import analyse_optimum
from ncpipe.collapse.tables import metric_rows, open_metrics
from ncpipe.errors import InputError
from ncpipe.geometry.optimality import total_variation
from ncpipe.geometry.synthesis import fit_synthesis
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.labels.sampling import resampled
from ncpipe.objective.losses import softmax
from ncpipe.objective.settings import Objective
from ncpipe.objective.terms import network_logits, network_terms, objective_terms
from ncpipe.optimum.optimum import solve
from ncpipe.results.theory_file import write_theory_file
from ncpipe.stores.files import write_json
from ncpipe.stores.zarr import Array, EpochArray, EpochWriter, Store
from ncpipe.theory.analysis import analyse

LOG = logging.getLogger("test")
ENTRY = {"target": "normalised", "lambda_w": 0.01, "lambda_h": 0.05, "lambda_b": 0.01, "bias": True}
OBJECTIVE = Objective.from_config(ENTRY)
COUNTS = {(0,): 12, (1,): 9, (2,): 4, (3,): 4} | dict.fromkeys(combinations(range(4), 2), 3)
NATURAL = LabelDistribution.from_counts(COUNTS, 4)
REPEATS = np.array([1, 1, 2, 3, 1, 1, 2, 1, 3, 2])  # of each sample of a label set
REPEATED = LabelDistribution(NATURAL.indicator, NATURAL.counts * REPEATS, NATURAL.class_names)
WEIGHTED = resampled(NATURAL, REPEATED.weights)
FACTORS = WEIGHTED.weights / NATURAL.weights

OPTIMALITY = {
    "objective", "objective_loss", "objective_classifier", "objective_feature", "objective_bias", "gap", "relative_gap",
    "gap_reference", "excess_relu", "total_variation", "residual_sigma_max", "prediction_sigma",
    "prediction_sigma_bound", "gap_classifier", "gap_scatter", "gap_prototypes",
}  # fmt: skip


def write_run(folder: Path, features: np.ndarray, label_set: np.ndarray, factors: np.ndarray | None = None) -> Path:
    """A network's run of one epoch; the store knows a label set more than the training split has."""
    rng = np.random.default_rng(1)
    weight, bias = rng.standard_normal((4, 6)).astype(np.float32), rng.standard_normal(4).astype(np.float32)
    multi_hot = NATURAL.multi_hot()
    terms = objective_terms(
        weight, bias, features, label_set=label_set, multi_hot=multi_hot, objective=OBJECTIVE,
        sample_weights=None if factors is None else factors[label_set] / len(label_set),
    )  # fmt: skip
    label_sets = np.vstack([multi_hot, [[1, 1, 1, 0]]]).astype(np.uint8)
    static = {
        "label_sets": Array(("label_set", "class"), label_sets, "multi-hot label sets"),
        "label_set_train": Array(("train_sample",), label_set.astype(np.int32), "label set"),
        "label_set_test": Array(("test_sample",), np.arange(10, dtype=np.int32), "label set"),
    }
    if factors is not None:
        static["label_set_weight"] = Array(("label_set",), np.append(factors, np.nan), "weight")
    values = {
        "features_train": (("train_sample", "feature"), features),
        "features_test": (("test_sample", "feature"), features[np.searchsorted(label_set, np.arange(10))]),
        "classifier_weight": (("class", "feature"), weight),
        "classifier_bias": (("class",), bias),
        **{name: ((), np.float64(0.5)) for name in ("error_train", "score_train", "error_test", "score_test")},
        "objective": ((), np.float64(terms.total)),
    }
    arrays = {n: EpochArray(dims, np.shape(v), str(v.dtype), n) for n, (dims, v) in values.items()}
    names = {"dataset": "toy", "setting": "step", "network": "mlp", "seed": 0, "objective": ENTRY,
             "architecture": "mlp", "class_names": list(NATURAL.class_names)}  # fmt: skip
    folder.mkdir(parents=True)
    store = folder / "features.zarr"
    writer = EpochWriter.create(store, epochs=[0], arrays=arrays, static=static, attributes=names)
    writer.write(0, {n: v for n, (_, v) in values.items()})
    write_json(folder / "manifest.json", {"kind": "train", "store": store.name, "store_digest": Store(store).digest()})
    return folder


@pytest.fixture(scope="module")
def analysed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same features three times: samples with weights, samples repeated as often as they weigh, samples alone."""
    root = tmp_path_factory.mktemp("results")
    label_set = np.repeat(np.arange(10), NATURAL.counts.astype(int))
    features = np.maximum(np.random.default_rng(0).standard_normal((len(label_set), 6)), 0).astype(np.float32)
    again = np.repeat(np.arange(len(label_set)), REPEATS[label_set])
    write_theory_file(root / "theory/toy/weighted/pal.json", analyse(WEIGHTED, OBJECTIVE, natural=NATURAL))
    write_theory_file(root / "theory/toy/repeated/pal.json", analyse(REPEATED, OBJECTIVE))
    write_theory_file(root / "theory/toy/natural/pal.json", analyse(NATURAL, OBJECTIVE))
    runs = {
        "weighted": write_run(root / "train/weighted", features, label_set, FACTORS),
        "repeated": write_run(root / "train/repeated", features[again], label_set[again]),
        "natural": write_run(root / "train/natural", features, label_set),
    }
    for name, run in runs.items():
        analyse_run(run, root / f"theory/toy/{name}/pal.json", root / name, LOG)
    return {name: root / name for name in runs} | {"root": root}


def table(folder: Path) -> dict[tuple, float]:
    keys = ("metric", "split", "variant", "multiplicity")
    return {tuple(row[k] for k in keys): row["value"] for row in metric_rows(open_metrics(folder))}


def test_what_training_minimises_is_that_of_repeated_samples(analysed) -> None:
    weighted, repeated, natural = (table(analysed[n]) for n in ("weighted", "repeated", "natural"))
    compared = {key for key in weighted if key[0] in OPTIMALITY}
    assert {key[0] for key in compared} == OPTIMALITY
    for key in compared:
        # optima are known to their certified gap, about 1e-9
        assert weighted[key] == pytest.approx(repeated[key], rel=1e-6, abs=1e-8), key
    for metric in ("objective", "total_variation", "residual_sigma_max", "gap_scatter"):
        assert abs(weighted[metric, "train", "", ""] - natural[metric, "train", "", ""]) > 1e-4, metric


def test_geometry_and_synthesis_count_every_sample_once(analysed) -> None:
    weighted, natural = table(analysed["weighted"]), table(analysed["natural"])
    for key, value in natural.items():
        if key[0] not in OPTIMALITY | {"gap_slack"}:
            assert weighted[key] == value or math.isnan(value), key
    stores = [open_metrics(analysed[n]) for n in ("weighted", "natural")]
    assert stores[0].attrs["synthesis"] == stores[1].attrs["synthesis"]
    np.testing.assert_array_equal(stores[0].static("label_set_weight")["label_set_weight"], FACTORS)
    np.testing.assert_array_equal(stores[0].static("label_set_count")["label_set_count"], NATURAL.counts)
    assert "label_set_weight" not in stores[1].static()


def test_metrics_of_the_optimum_are_those_of_its_prototypes_and_weights(analysed) -> None:
    rows, synthesis = analyse_optimum(analysed["root"] / "theory/toy/weighted/pal.json")
    values = {(r["reference"], r["metric"], r["variant"], r["multiplicity"]): r["value"] for r in rows}
    optimum = solve(WEIGHTED, OBJECTIVE)
    assert values["convex", "objective", "", ""] == pytest.approx(optimum.objective, rel=1e-9)
    assert abs(values["convex", "gap", "", ""]) < 1e-8
    assert values["convex", "residual_sigma_max", "", ""] == pytest.approx(1, abs=1e-3)
    sigma = np.linalg.svd(np.sqrt(NATURAL.weights)[:, None] * (optimum.logits - optimum.logits.mean(1)[:, None]))[1]
    assert values["convex", "sigma_min_logits", "", ""] == pytest.approx(sigma[2], rel=1e-6)
    expected = fit_synthesis(optimum.prototypes, optimum.weight, NATURAL)
    assert [row["residual"] for row in synthesis] == [row["residual"] for row in expected]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.0, 3.0), width=st.integers(1, 6))
def test_no_network_is_below_the_bound_of_its_weights(seed: int, scale: float, width: int) -> None:
    """Gap >= 0 under any weights, at any width, and it bounds the rms total variation that they weight."""
    rng = np.random.default_rng(seed)
    label_set = np.repeat(np.arange(10), NATURAL.counts.astype(int))
    sampled = resampled(NATURAL, NATURAL.weights * rng.uniform(0.3, 3, 10))
    factors = (sampled.weights / NATURAL.weights)[label_set]
    weight, bias = scale * rng.standard_normal((4, width)), scale * rng.standard_normal(4)
    features = (scale * rng.standard_normal((len(label_set), width))).astype(np.float32)
    optimum = solve(sampled, OBJECTIVE)
    terms = network_terms(
        weight, bias, features, label_set=label_set, multi_hot=NATURAL.multi_hot(), objective=OBJECTIVE,
        factors=factors,
    )  # fmt: skip
    gap = terms.total - optimum.lower_bound
    assert gap >= 0
    probabilities = softmax(network_logits(weight, bias, features))
    distance = total_variation(probabilities, optimum.probabilities, label_set, factors)
    assert distance <= math.sqrt(gap / 2) + math.sqrt(max(optimum.objective - optimum.lower_bound, 0) / 2)


def test_theory_of_other_weights_is_refused(analysed, tmp_path: Path) -> None:
    for name, words in (("natural", "other sampling weights"), ("repeated", "about other labels")):
        theory = analysed["root"] / f"theory/toy/{name}/pal.json"
        with pytest.raises(InputError, match=words):
            analyse_run(analysed["root"] / "train/weighted", theory, tmp_path / "out", LOG)
    with pytest.raises(InputError, match="other sampling weights"):
        analyse_run(
            analysed["root"] / "train/natural", analysed["root"] / "theory/toy/weighted/pal.json", tmp_path / "out", LOG
        )
