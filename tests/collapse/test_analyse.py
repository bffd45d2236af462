"""Whole runs: what is written, what is refused and with which words, and the tables over all of them."""

from __future__ import annotations

import copy
import csv
import json
import logging
import math

import numpy as np
import pytest

from ncpipe.collapse.analyse import analyse_run
from ncpipe.collapse.optima import analyse_optimum
from ncpipe.collapse.run import split_samples
from ncpipe.collapse.tables import metric_rows, open_metrics, summarise
from ncpipe.errors import InputError, StoreError
from ncpipe.geometry.record import QUANTITIES
from ncpipe.objective.losses import softmax
from ncpipe.objective.terms import objective_terms, residual_matrix
from ncpipe.results.tables import METRICS, OPTIMUM, SYNTHESIS, read_table
from ncpipe.results.theory_file import write_theory_file
from ncpipe.results.verify import verify_results
from ncpipe.stores.files import read_json, write_json
from ncpipe.stores.zarr import Store
from ncpipe.theory.analysis import analyse

LOG = logging.getLogger("test")


@pytest.fixture(scope="module")
def analysed(run_maker, theory_path, tmp_path_factory):
    """Two runs, analysed: a network and the unconstrained features model."""
    root = tmp_path_factory.mktemp("results")
    folders = {}
    for network in ("mlp", "ufm"):
        run = run_maker.write(root / "train" / network, architecture=network)
        folders[network] = root / "collapse" / network
        analyse_run(run, theory_path, folders[network], LOG)
    return folders


def values(folder, metric, **where):
    rows = [r for r in metric_rows(open_metrics(folder)) if r["metric"] == metric]
    return [r["value"] for r in rows if all(r[k] == v for k, v in where.items())]


def test_every_metric_has_values_or_a_reason(analysed):
    for folder in analysed.values():
        store = open_metrics(folder)
        for row in metric_rows(store):
            if math.isnan(row["value"]):
                assert store.attrs["undefined"][row["metric"]], row
        assert {r["metric"] for r in metric_rows(store)} == set(QUANTITIES)


def test_epochs_are_those_of_the_run_and_collapse_proceeds(analysed):
    store = open_metrics(analysed["mlp"])
    assert store.static("epoch")["epoch"].values.tolist() == [0, 1, 2, 3]
    scatter = values(analysed["mlp"], "nc1", split="train", variant="definition")
    assert scatter == sorted(scatter, reverse=True)
    assert values(analysed["mlp"], "error", split="test") == [0.75**e for e in range(4)]


def test_gap_parts_sum_to_the_reference_gap_of_the_last_epoch(analysed):
    for folder in analysed.values():
        parts = [values(folder, f"gap_{part}")[0] for part in ("classifier", "scatter", "prototypes")]
        assert sum(parts) == pytest.approx(values(folder, "gap_reference")[-1], abs=1e-10)
        assert min(parts) >= 0


def test_optimality_of_an_epoch_by_direct_formulas(analysed, case, run_maker, tmp_path):
    """Recompute the last epoch of the free features from the store itself."""
    data = Store(run_maker.write(tmp_path / "ufm", architecture="ufm") / "features.zarr").epoch(3)
    label_set = np.repeat(np.arange(len(case.distribution.counts)), case.distribution.counts.astype(int))
    weight, bias, features = (
        data[n].values.astype(float) for n in ("classifier_weight", "classifier_bias", "features_train")
    )
    p = softmax(features @ weight.T + bias)
    mean = np.array([p[label_set == s].mean(axis=0) for s in range(len(case.distribution.counts))])
    sigma = (
        np.linalg.norm(residual_matrix(case.distribution, case.objective, probabilities=mean), 2) / case.objective.lam
    )
    assert values(analysed["ufm"], "residual_sigma_max")[-1] == pytest.approx(sigma, rel=1e-10)
    reference = np.array(case.theory["optimum"]["probabilities"])[label_set]
    distance = math.sqrt(np.mean((0.5 * np.abs(p - reference).sum(axis=1)) ** 2))
    assert values(analysed["ufm"], "total_variation")[-1] == pytest.approx(distance, rel=1e-10)
    gap = float(data["objective"]) - case.theory["optimum"]["dual_bound"]
    assert values(analysed["ufm"], "gap")[-1] == pytest.approx(gap, rel=1e-10)
    assert values(analysed["ufm"], "gap_reference")[-1] == pytest.approx(gap, rel=1e-10)
    classes = case.distribution.classes
    centred = np.sqrt(case.distribution.weights)[:, None] * (mean - 1 / classes)  # F of (20), tau = 1
    law = np.linalg.svd(centred, compute_uv=False)[classes - 2]
    assert values(analysed["ufm"], "prediction_sigma")[-1] == pytest.approx(law, rel=1e-10)
    targets = case.distribution.targets("normalised") - 1 / classes
    kappa = np.linalg.eigvalsh(targets.T @ (case.distribution.weights[:, None] * targets))[1]  # [0] is along 1
    bound = math.sqrt(kappa) - case.objective.lam - math.sqrt(gap)
    assert values(analysed["ufm"], "prediction_sigma_bound")[-1] == pytest.approx(bound, rel=1e-10)
    margins = [
        (features[label_set == s].mean(axis=0) @ weight.T + bias)[list(y)].min()
        - np.delete(features[label_set == s].mean(axis=0) @ weight.T + bias, y).max()
        for s, y in enumerate(case.distribution.label_sets)
        if len(y) == 2
    ]
    assert values(analysed["ufm"], "weakest_margin", multiplicity=2, split="train")[-1] == pytest.approx(min(margins))


def test_the_geometry_bound_is_never_violated(analysed):
    for folder in analysed.values():
        for m in (2, 3):
            where = {"multiplicity": m, "split": "train"}
            sigma, bound = values(folder, "geometry_sigma", **where), values(folder, "geometry_bound", **where)
            assert all(s >= b - 1e-9 for s, b in zip(sigma, bound, strict=True))


def test_store_has_named_dimensions_prototypes_and_names(analysed, case):
    store = open_metrics(analysed["mlp"])
    data = store.static()
    assert data["nc1"].dims == ("epoch", "split", "variant")
    assert data["angle"].dims == ("epoch", "split", "multiplicity")
    assert data["prototypes"].shape == (4, len(case.distribution.counts), 6)
    assert (data["label_sets"].values == case.distribution.multi_hot()).all()
    assert all(data[name].attrs["long_name"] for name in data.data_vars)
    sides = store.attrs["last_epoch"]["weakest_contrast_prototypes"]
    assert {name for side in sides for name in side} <= {"ant", "bee", "cat", "doe"}
    assert all(entry["ratio"] > 1 for entry in store.attrs["last_epoch"]["missing_directions"])


def test_free_features_are_measured_against_the_convex_optimum_and_have_no_test_split(analysed):
    assert open_metrics(analysed["ufm"]).attrs["reference"] == "convex"
    assert open_metrics(analysed["mlp"]).attrs["reference"] == "relu"
    assert np.isnan(values(analysed["ufm"], "nc1", split="test")).all()
    assert "no features of the test split" in json.dumps(open_metrics(analysed["ufm"]).attrs["undefined"]["nc1"])


def test_equal_input_gives_equal_bytes(analysed, run_maker, theory_path, tmp_path):
    run = run_maker.write(tmp_path / "run")
    analyse_run(run, theory_path, tmp_path / "out", LOG)
    assert (tmp_path / "out" / "manifest.json").read_bytes() == (analysed["mlp"] / "manifest.json").read_bytes()
    assert read_json(tmp_path / "out" / "manifest.json")["inputs"]["features"] == Store(run / "features.zarr").digest()


def test_what_is_written_passes_verification(analysed):
    for folder in analysed.values():
        assert [problems for _, problems in verify_results(folder)] == [[]]


def test_a_live_run_is_analysed_up_to_its_last_finished_epoch(run_maker, theory_path, tmp_path):
    run = run_maker.write(tmp_path / "run", finished=2)
    (run / "manifest.json").unlink()
    analyse_run(run, theory_path, tmp_path / "out", LOG)
    assert open_metrics(tmp_path / "out").static("epoch")["epoch"].values.tolist() == [0, 1]


def poison(array, value, count=3):
    def change(epoch, values):
        if epoch == 1:
            values[array] = values[array].copy()
            values[array].ravel()[:count] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (poison("features_train", np.nan), r"epoch 1, array features_train: 3 values are not finite"),
        (poison("features_test", np.inf, 2), r"epoch 1, array features_test: 2 values are not finite"),
        (poison("classifier_weight", -np.inf, 1), r"epoch 1, array classifier_weight: 1 values are not finite"),
        (poison("features_train", -1.0), r"epoch 1, array features_train: 3 values are negative"),
        (poison("features_train", 9.0, 40), r"epoch 1: training recorded the objective"),
    ],
)
def test_values_that_cannot_be_are_refused(change, words, run_maker, theory_path, tmp_path):
    run = run_maker.write(tmp_path / "run", change=change)
    with pytest.raises(InputError, match=words):
        analyse_run(run, theory_path, tmp_path / "out", LOG)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_run_without_a_finished_epoch_is_refused(run_maker, theory_path, tmp_path):
    run = run_maker.write(tmp_path / "run", finished=0)
    with pytest.raises(InputError, match="no epoch is finished"):
        analyse_run(run, theory_path, tmp_path / "out", LOG)


def edited(case, tmp_path, edit):
    payload = copy.deepcopy(case.theory)
    edit(payload)
    write_json(tmp_path / "theory.json", payload)
    return tmp_path / "theory.json"


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda t: t["distribution"]["counts"].__setitem__(1, 31), r"label set bee has 31 samples there and 30 here"),
        (lambda t: t["objective"].__setitem__("lambda_h", 0.06), r"was trained with"),
    ],
)
def test_theory_of_something_else_is_refused(edit, words, case, run_maker, tmp_path):
    run = run_maker.write(tmp_path / "run", epochs=1)
    with pytest.raises(InputError, match=words):
        analyse_run(run, edited(case, tmp_path, edit), tmp_path / "out", LOG)


def test_incomplete_theory_and_foreign_stores_are_refused(case, run_maker, theory_path, tmp_path):
    run = run_maker.write(tmp_path / "run", epochs=1)
    with pytest.raises(StoreError, match="'optimum' is missing"):
        analyse_run(run, edited(case, tmp_path, lambda t: t.pop("optimum")), tmp_path / "out", LOG)
    analyse_run(run, theory_path, tmp_path / "out", LOG)
    write_json(tmp_path / "out" / "manifest.json", {"store_digest": "other"})
    with pytest.raises(StoreError, match="analyse the run again"):
        open_metrics(tmp_path / "out")
    write_json(run / "manifest.json", {"store_digest": "other"})
    with pytest.raises(StoreError, match="train it again"):
        analyse_run(run, theory_path, tmp_path / "out", LOG)


def test_without_a_relu_optimum_what_needs_it_says_so(case, run_maker, tmp_path):
    run = run_maker.write(tmp_path / "run", epochs=1)
    analyse_run(run, edited(case, tmp_path, lambda t: t.update(relu=None)), tmp_path / "out", LOG)
    undefined = open_metrics(tmp_path / "out").attrs["undefined"]
    for metric in ("gap_reference", "excess_relu", "total_variation", "gap_classifier"):
        assert "no optimum for features >= 0" in undefined[metric][""]
        assert np.isnan(values(tmp_path / "out", metric)).all()
    assert np.isfinite(values(tmp_path / "out", "gap")).all()


def test_samples_without_a_label_are_refused():
    with pytest.raises(InputError, match="without a label"):
        split_samples(np.array([[1, 0], [0, 0]]), np.array([0, 1, 1]), ["a", "b"])


def test_optimum_rows_are_those_of_its_own_prototypes(theory_path, case):
    rows, synthesis = analyse_optimum(theory_path)
    table = {(r["reference"], r["metric"], r["variant"], r["multiplicity"]): r["value"] for r in rows}
    assert {(r["dataset"], r["setting"], r["objective"]) for r in rows} == {("toy", "step", "pal")}
    for reference, entry in (("convex", "optimum"), ("relu", "relu")):
        optimum = case.theory[entry]
        terms = objective_terms(
            np.array(optimum["weight"]),
            np.array(optimum["bias"]),
            np.array(optimum["prototypes"]),
            label_set=np.arange(len(case.distribution.counts)),
            multi_hot=case.distribution.multi_hot(),
            objective=case.objective,
            sample_weights=case.distribution.weights,
        )
        assert table[reference, "objective", "", ""] == pytest.approx(terms.total, rel=1e-12)
        assert terms.total == pytest.approx(optimum["objective"], rel=1e-9)
        assert table[reference, "nc1", "definition", ""] == 0
        assert table[reference, "total_variation", "", ""] == pytest.approx(0, abs=1e-9)
        assert (reference, "error", "", "") not in table
    assert table["convex", "residual_sigma_max", "", ""] == pytest.approx(1, abs=1e-4)
    assert table["convex", "prediction_sigma", "", ""] >= table["convex", "prediction_sigma_bound", "", ""]
    assert table["relu", "excess_relu", "", ""] == pytest.approx(0, abs=1e-12)
    keys = {"dataset": "toy", "setting": "step", "network": "optimum", "seed": ""}
    assert synthesis == [{**keys, **entry} for entry in case.theory["synthesis"]]


def test_files_of_the_theory_stage_are_read(case, run_maker, tmp_path):
    """The real thing: relu certified by (9a), which is above the convex bound that the made-up file uses."""
    path = tmp_path / "toy" / "step" / "pal.json"
    write_theory_file(path, analyse(case.distribution, case.objective))
    analyse_run(run_maker.write(tmp_path / "run", epochs=2), path, tmp_path / "out", LOG)
    gaps = zip(values(tmp_path / "out", "gap"), values(tmp_path / "out", "gap_reference"), strict=True)
    assert all(gap > reference >= 0 for gap, reference in gaps)
    rows, synthesis = analyse_optimum(path)
    table = {(r["reference"], r["metric"]): r["value"] for r in rows}
    assert table["relu", "gap_reference"] == pytest.approx(0, abs=1e-6)
    assert table["convex", "gap"] == pytest.approx(0, abs=1e-9)
    assert synthesis


def test_features_of_either_sign_are_measured_against_the_convex_optimum(run_maker, theory_path, tmp_path):
    def negative(epoch, values):
        values["features_test"][:, 0] = -0.1

    for architecture in ("resnet50", "vgg16"):
        run = run_maker.write(tmp_path / architecture, architecture=architecture, epochs=1, change=negative)
        with pytest.raises(InputError, match=r"array features_test: .* values are negative"):
            analyse_run(run, theory_path, tmp_path / "out" / architecture, LOG)
    run = run_maker.write(tmp_path / "vit", architecture="vit", epochs=1, change=negative)
    analyse_run(run, theory_path, tmp_path / "out/vit", LOG)
    assert open_metrics(tmp_path / "out/vit").attrs["reference"] == "convex"
    assert values(tmp_path / "out/vit", "gap_reference") == values(tmp_path / "out/vit", "gap")
    assert math.isfinite(values(tmp_path / "out/vit", "nc1", split="test", variant="definition")[0])


def test_tables_are_complete_sorted_and_byte_equal(analysed, theory_path, tmp_path):
    for name, order in (("one", ["mlp", "ufm"]), ("two", ["ufm", "mlp"])):
        summarise(
            [analysed[n] for n in order],
            [theory_path],
            metrics=tmp_path / name / "metrics.csv",
            optimum=tmp_path / name / "optimum.csv",
            synthesis=tmp_path / name / "synthesis.csv",
        )
    for table, columns in (("metrics", METRICS), ("optimum", OPTIMUM), ("synthesis", SYNTHESIS)):
        one, two = (tmp_path / name / f"{table}.csv" for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
        with one.open(newline="") as handle:
            assert tuple(next(csv.reader(handle))) == columns
        assert len(read_table(one, columns)) > 10
    frame = read_table(tmp_path / "one" / "metrics.csv", METRICS)
    keys = ["dataset", "setting", "network", "seed", "epoch", "split", "metric", "variant", "multiplicity"]
    assert not frame.duplicated(keys).any()
    stored = values(analysed["mlp"], "nc3", split="train", variant="li2024")
    chosen = frame[(frame.metric == "nc3") & (frame.variant == "li2024") & (frame.network == "mlp")]
    assert chosen[chosen.split == "train"].value.tolist() == stored
    # One row per multiplicity that the metric speaks of; a value that is not defined is an empty cell.
    assert set(frame[frame.metric == "angle"].multiplicity) == {2, 3}
    assert set(frame[frame.metric == "weakest_margin"].multiplicity) == {1, 2, 3}
    assert b",nan" not in one.read_bytes().lower()
