"""Training: the steps against numpy, what a checkpoint holds, and how a run ends that cannot go on."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ncpipe.errors import DivergenceError, InputError, StoreError
from ncpipe.experiment.plan import setting_counts
from ncpipe.labels.names import parse_label_counts
from ncpipe.objective import terms as numpy_objective
from ncpipe.objective.settings import Objective
from ncpipe.progress import Progress, clock
from ncpipe.results.datasets import select
from ncpipe.stores.files import read_json
from ncpipe.stores.zarr import Store
from ncpipe.streams import permutations, stream
from ncpipe.train import TRAIN_VERSION, trainer
from ncpipe.train.loop import resolve_device
from ncpipe.train.optimiser import learning_rate
from ncpipe.train.splits import Split, load_split, pixels
from ncpipe.train.stop import Stop
from ncpipe.train.trainer import Trainer

Train = Callable[..., Path]
Make = Callable[..., dict[str, Any]]
LOG = logging.getLogger("ncpipe")
SAMPLES, TEST_SAMPLES = 10 * 8 + 45, 10 * 2 + 45


# --- steps ----------------------------------------------------------------------------------------------------------


def test_learning_rate_is_the_cosine_from_peak_to_a_thousandth() -> None:
    recipe = {"lr": 0.4, "schedule": "cosine"}
    rates = [learning_rate(recipe, epoch, 100) for epoch in range(101)]
    assert rates[0] == 0.4
    assert rates[50] == pytest.approx((0.4 + 0.0004) / 2, rel=1e-14)
    assert rates[100] == pytest.approx(0.0004, rel=1e-12)
    steps = np.arange(101)
    np.testing.assert_allclose(rates, 0.0004 + 0.3996 * np.cos(np.pi * steps / 200) ** 2, rtol=1e-12)
    assert {learning_rate({"lr": 0.4, "schedule": "constant"}, e, 100) for e in range(100)} == {0.4}


def softmax_residual(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    p = np.exp(logits - logits.max(1, keepdims=True))
    return targets.sum(1, keepdims=True) * p / p.sum(1, keepdims=True) - targets


class NumpyRun:
    """One linear layer with ReLU, one linear classifier, trained in float64 from the run's own initial values."""

    def __init__(self, settings: Mapping[str, Any], images: np.ndarray, labels: np.ndarray) -> None:
        self.settings = settings
        self.x = images.reshape(len(images), -1) / 255
        raw = settings["objective"]["target"] == "raw"
        self.t = labels.astype(float) if raw else labels / labels.sum(1, keepdims=True)

    def train(self, parameters: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        objective, recipe = self.settings["objective"], self.settings["recipe"]
        decay = {
            "V": recipe["weight_decay"], "c": recipe["weight_decay"], "W": objective["lambda_w"],
            "b": objective["lambda_b"],
        }  # fmt: skip
        values = {name: value.astype(float) for name, value in parameters.items()}
        momentum = {name: np.zeros_like(value) for name, value in values.items()}
        for epoch in range(self.settings["epochs"]):
            lr = learning_rate(recipe, epoch, self.settings["epochs"])
            order = permutations(stream(self.settings["seed"], "order", epoch), 1, len(self.x))[0]
            for start in range(0, len(order), recipe["batch"]):
                batch = order[start : start + recipe["batch"]]
                gradients = self.gradients(values, batch)
                for name, gradient in gradients.items():
                    momentum[name] = recipe["momentum"] * momentum[name] + gradient + decay[name] * values[name]
                    values[name] -= lr * momentum[name]
        return values

    def gradients(self, p: Mapping[str, np.ndarray], batch: np.ndarray) -> dict[str, np.ndarray]:
        x, t, n = self.x[batch], self.t[batch], len(batch)
        before = x @ p["V"].T + p["c"]
        h = np.maximum(before, 0)
        residual = softmax_residual(h @ p["W"].T + p.get("b", 0), t) / n
        back = (residual @ p["W"] + self.settings["objective"]["lambda_h"] * h / n) * (before > 0)
        gradients = {"V": back.T @ x, "c": back.sum(0), "W": residual.T @ h}
        return gradients | ({"b": residual.sum(0)} if "b" in p else {})


@pytest.mark.parametrize("target", ["normalised", "raw"])
@pytest.mark.parametrize("bias", [True, False])
def test_training_agrees_with_numpy(
    data: Path, train: Train, target: str, bias: bool, make_settings: Make, spec: dict[str, Any]
) -> None:
    """Order, batches (the last one short), momentum, each penalty on what it is on, cosine; four steps an epoch."""
    settings = make_settings(
        epochs=3, checkpoints=[0, 3], network__hidden=[], objective__target=target, objective__bias=bias,
        objective__lambda_w=0.02, objective__lambda_b=0.03, recipe__weight_decay=0.01,
        counts=setting_counts(spec, {"profile": "step", "ratio": 0.5}),
    )  # fmt: skip
    store = Store(data / "images.zarr").load()
    counts = parse_label_counts(settings["counts"])
    chosen = select(store["label_set_train"].values, store["label_sets"].values, counts)
    labels = store["label_sets"].values[store["label_set_train"].values[chosen]]
    assert len(chosen) == 105  # 32 + 32 + 32 + 9

    split = Split(store["images_train"].values[chosen], labels, target, torch.device("cpu"))
    initial = Trainer(settings, split, torch.device("cpu"))
    parameters = {"V": initial.backbone[1].weight, "c": initial.backbone[1].bias, "W": initial.classifier.weight}
    parameters |= {"b": initial.classifier.bias} if bias else {}
    reference = NumpyRun(settings, store["images_train"].values[chosen], labels)
    expected = reference.train({name: value.detach().numpy() for name, value in parameters.items()})

    run = Store(train(settings) / "features.zarr")
    first, last = run.epoch(0), run.epoch(3)
    np.testing.assert_array_equal(first["classifier_weight"], parameters["W"].detach())
    np.testing.assert_allclose(last["classifier_weight"], expected["W"], rtol=2e-4, atol=2e-6)
    np.testing.assert_allclose(last["classifier_bias"], expected.get("b", np.zeros(10)), rtol=2e-4, atol=2e-6)
    features = np.maximum(reference.x @ expected["V"].T + expected["c"], 0)
    np.testing.assert_allclose(last["features_train"], features, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("lambda_b", [0.0, 0.02])
def test_free_features_agree_with_numpy(data: Path, train: Train, lambda_b: float, make_settings: Make) -> None:
    """The feature penalty is their only decay, and their learning rate is N times the classifier's."""
    settings = make_settings(
        "ufm", epochs=5, checkpoints=[0, 5], recipe__weight_decay=0.5, objective__lambda_b=lambda_b,
        objective__lambda_w=0.02,
    )  # fmt: skip
    run = Store(train(settings) / "features.zarr")
    first, loaded = run.epoch(0), run.static()
    labels = loaded["label_sets"].values[loaded["label_set_train"].values]
    t, n = labels / labels.sum(1, keepdims=True), len(labels)
    h, w, b = (first[k].values.astype(float) for k in ("features_train", "classifier_weight", "classifier_bias"))
    v_h, v_w, v_b = np.zeros_like(h), np.zeros_like(w), np.zeros_like(b)
    for epoch in range(5):
        lr = learning_rate(settings["recipe"], epoch, 5)
        residual = softmax_residual(h @ w.T + b, t) / n
        gradients = residual @ w + 0.05 * h / n, residual.T @ h + 0.02 * w, residual.sum(0) + lambda_b * b
        v_h, v_w, v_b = (0.9 * v + g for v, g in zip((v_h, v_w, v_b), gradients, strict=True))
        h, w, b = h - lr * n * v_h, w - lr * v_w, b - lr * v_b
    last = run.epoch(5)
    np.testing.assert_allclose(last["features_train"], h, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(last["classifier_weight"], w, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(last["classifier_bias"], b, rtol=1e-4, atol=1e-6)


def test_history_is_the_mean_loss_and_learning_rate_of_each_epoch(train: Train, make_settings: Make) -> None:
    """With one batch an epoch, the loss of the first is the objective at epoch 0 without its parameter penalties."""
    settings = make_settings(recipe__batch="full", epochs=3, checkpoints=[0, 1, 2, 3])
    folder = train(settings)
    rows = [line.split(",") for line in (folder / "history.csv").read_text().splitlines()]
    assert rows[0] == ["epoch", "learning_rate", "loss"]
    assert [int(row[0]) for row in rows[1:]] == [1, 2, 3]
    store = Store(folder / "features.zarr")
    for before, (_, rate, loss) in enumerate(rows[1:]):
        assert float(rate) == learning_rate(settings["recipe"], before, 3)
        values = store.epoch(before)
        assert float(loss) == pytest.approx(float(values["objective_loss"] + values["objective_feature"]), rel=1e-5)


def test_training_reaches_no_error_and_a_lower_objective(train: Train, make_settings: Make) -> None:
    store = Store(train(make_settings(epochs=60, checkpoints=[0, 60])) / "features.zarr")
    first, last = store.epoch(0), store.epoch(60)
    assert float(first["error_train"]) > 0.5
    assert float(last["error_train"]) < 0.1
    assert float(last["objective"]) < 0.6 * float(first["objective"])


def test_seed_decides_the_run_and_settings_take_the_first_samples(train: Train, make_settings: Make) -> None:
    def weight(settings: dict[str, Any], folder: str) -> np.ndarray:
        return Store(train(settings, folder) / "features.zarr").epoch(2)["classifier_weight"].values

    settings = make_settings(epochs=2, checkpoints=[2])
    np.testing.assert_array_equal(weight(settings, "a"), weight(settings, "b"))
    assert not np.array_equal(weight(settings, "c"), weight({**settings, "seed": 1}, "d"))


def test_no_host_sync_inside_an_epoch(data: Path, monkeypatch: pytest.MonkeyPatch, make_settings: Make) -> None:
    """A device never waits for the host: the losses are fetched once, at the end of the epoch."""
    settings = make_settings(recipe__batch=8)
    train, _ = load_split(data, "train", settings, torch.device("cpu"))
    run = Trainer(settings, train, torch.device("cpu"))
    fetched = []
    for name in ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__"):
        real = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda *args, real=real, name=name: fetched.append(name) or real(*args))
    with Stop() as stop:
        run.run_epoch(stop)
    assert fetched == ["tolist"]


# --- what is stored -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["mlp", "cnn", "resnet18", "resnet50", "vit", "ufm"])
def test_store_holds_what_later_stages_read(data: Path, train: Train, network: str, make_settings: Make) -> None:
    settings = make_settings(network, epochs=2, checkpoints=[0, 2])
    store = Store(train(settings) / "features.zarr")
    width = 32 if network == "resnet50" else 8
    dims = {
        "features_train": ("train_sample", "feature"),
        "features_test": ("test_sample", "feature"),
        "classifier_weight": ("class", "feature"),
        "classifier_bias": ("class",),
    }
    terms = ["objective", *(f"objective_{term}" for term in ("loss", "classifier", "feature", "bias"))]
    dims |= dict.fromkeys([*terms, "error_train", "score_train", "error_test", "score_test"], ())
    static = {"label_sets", "label_set_train", "label_set_test"}
    if network == "ufm":
        dims = {name: value for name, value in dims.items() if "test" not in name}
        static.remove("label_set_test")
    assert store.epochs == [0, 2]
    values = store.epoch(2)
    assert {name: values[name].dims for name in values.data_vars} == dims
    assert values["features_train"].shape == (SAMPLES, width)
    assert values["features_train"].dtype == np.float32
    assert set(store.static().data_vars) == static
    if network != "ufm":
        assert values["features_test"].shape == (TEST_SAMPLES, width)
        assert (values["features_train"] >= 0).all() == (network != "vit")
    assert store.attrs["objective"] == settings["objective"]
    assert store.attrs["architecture"] == network
    assert store.attrs["class_names"] == list("0123456789")
    assert {k: store.attrs[k] for k in ("dataset", "setting", "network", "seed")} == settings["run"]
    assert values["features_train"].attrs["long_name"]


@pytest.mark.parametrize("network", ["cnn", "ufm"])
@pytest.mark.parametrize(
    ("target", "bias", "lambda_b"), [("normalised", True, 0.01), ("raw", True, 0.0), ("raw", False, 1.0)]
)
def test_stored_terms_are_those_of_the_stored_features(
    train: Train, network: str, target: str, bias: bool, lambda_b: float, make_settings: Make
) -> None:
    entry = {"objective__target": target, "objective__bias": bias, "objective__lambda_b": lambda_b}
    store = Store(train(make_settings(network, epochs=2, checkpoints=[0, 2], **entry)) / "features.zarr")
    static = store.static()
    objective = Objective.from_config(store.attrs["objective"])
    for epoch in store.epochs:
        values = store.epoch(epoch)
        terms = numpy_objective.objective_terms(
            values["classifier_weight"].values, values["classifier_bias"].values, values["features_train"].values,
            label_set=static["label_set_train"].values, multi_hot=static["label_sets"].values, objective=objective,
        )  # fmt: skip
        for name in ("loss", "classifier", "feature", "bias"):
            assert float(values[f"objective_{name}"]) == pytest.approx(getattr(terms, name), rel=1e-12), (name, epoch)
        assert float(values["objective"]) == pytest.approx(terms.total, rel=1e-12)
        assert bias or not values["classifier_bias"].any()
        for split in ("train", "test") if network != "ufm" else ("train",):
            labels = static["label_sets"].values[static[f"label_set_{split}"].values].astype(bool)
            logits = values[f"features_{split}"].values @ values["classifier_weight"].values.T
            logits = logits + values["classifier_bias"].values
            wrong = [
                set(np.argsort(-z)[: y.sum()]) != set(np.flatnonzero(y)) for z, y in zip(logits, labels, strict=True)
            ]
            assert float(values[f"error_{split}"]) == pytest.approx(np.mean(wrong), abs=0.02)  # float32 near-ties


def test_evaluation_does_not_depend_on_its_batches(
    train: Train, monkeypatch: pytest.MonkeyPatch, make_settings: Make
) -> None:
    settings = make_settings("cnn", epochs=2, checkpoints=[2])
    whole = Store(train(settings, "whole") / "features.zarr").epoch(2)
    monkeypatch.setattr(trainer, "EVALUATION_BATCH", 50)
    parts = Store(train(settings, "parts") / "features.zarr").epoch(2)
    np.testing.assert_array_equal(whole["classifier_weight"], parts["classifier_weight"])
    np.testing.assert_allclose(whole["features_test"], parts["features_test"], rtol=1e-5, atol=1e-6)


def test_labels_and_samples_are_those_of_the_data_set(
    data: Path, train: Train, make_settings: Make, spec: dict[str, Any]
) -> None:
    settings = make_settings(
        counts=setting_counts(spec, {"profile": "exponential", "ratio": 0.25}), epochs=1, checkpoints=[1]
    )
    images, run = Store(data / "images.zarr").load(), Store(train(settings) / "features.zarr").static()
    np.testing.assert_array_equal(run["label_set_test"], images["label_set_test"])
    names = ["+".join(map(str, np.flatnonzero(row))) for row in run["label_sets"].values]
    found = {name: int((run["label_set_train"] == i).sum()) for i, name in enumerate(names)}
    assert found == settings["counts"]


def test_manifest_says_what_the_run_is_without_time_or_place(
    data: Path, train: Train, tmp_path: Path, make_settings: Make
) -> None:
    settings = make_settings(epochs=2, checkpoints=[0, 2])
    folder = train(settings, threads=1)
    manifest = read_json(folder / "manifest.json")
    assert manifest["identity"] == {
        "settings": settings,
        "algorithm_version": TRAIN_VERSION,
        "data": read_json(data / "manifest.json")["store_digest"],
    }
    assert manifest["store_digest"] == Store(folder / "features.zarr").digest()
    assert manifest["epochs"] == [0, 2]
    assert set(manifest["environment"]) == {"python", "torch", "ncpipe", "device", "threads"}
    assert str(tmp_path) not in json.dumps(manifest)
    assert (train(settings, "elsewhere", threads=1) / "manifest.json").read_bytes() == (
        folder / "manifest.json"
    ).read_bytes()


# --- runs that cannot go on -----------------------------------------------------------------------------------------


def test_divergence_says_the_epoch_and_keeps_what_was_there(train: Train, tmp_path: Path, make_settings: Make) -> None:
    with pytest.raises(
        DivergenceError, match=r"tiny/balanced/mlp/seed-0: the training loss is (nan|inf) in epoch 1 of 6"
    ):
        train(make_settings(recipe__lr=1e30))
    assert not (tmp_path / "run/manifest.json").exists()
    store = Store(tmp_path / "run/features.zarr")
    assert store.epochs == [0]
    assert store.verify() == []


def test_divergence_in_the_last_step_of_an_epoch_is_no_checkpoint(
    train: Train, tmp_path: Path, make_settings: Make
) -> None:
    """One step an epoch: its loss is still finite, the features after it are not."""
    with pytest.raises(DivergenceError, match=r"is not finite in epoch 1 of 1; .*learning rate \(it is 1e\+30\)"):
        train(make_settings(recipe__lr=1e30, recipe__batch="full", epochs=1, checkpoints=[0, 1]))
    assert Store(tmp_path / "run/features.zarr").epochs == [0]


def test_asked_again_a_diverged_run_diverges_in_the_same_epoch(
    train: Train, tmp_path: Path, make_settings: Make
) -> None:
    """From its last state, where nothing tells that it has diverged before."""
    settings = make_settings(recipe__lr=40.0, recipe__schedule="constant", epochs=50, checkpoints=[0, 1, 50])
    messages = []
    for _ in range(2):
        with pytest.raises(DivergenceError) as caught:
            train(settings)
        messages.append(str(caught.value))
        (tmp_path / "run/divergence.json").unlink()
    assert messages[0] == messages[1]


def test_a_diverged_run_is_not_trained_again_until_something_is_changed(
    train: Train, tmp_path: Path, make_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster's profile repeats what fails: the second attempt must not cost what the first did."""
    settings, record = make_settings(recipe__lr=1e30), tmp_path / "run/divergence.json"
    with pytest.raises(DivergenceError) as first:
        train(settings)
    store = Store(tmp_path / "run/features.zarr").digest()
    with monkeypatch.context() as patched:
        patched.setattr(trainer.Trainer, "run_epoch", None)
        with pytest.raises(DivergenceError) as second:
            train(settings)
    assert str(second.value) == f"{first.value} (Seen before: to train it again, remove {record}.)"
    assert Store(tmp_path / "run/features.zarr").digest() == store
    with pytest.raises(DivergenceError) as elsewhere:
        train(settings, threads=2)
    assert "Seen before" not in str(elsewhere.value)
    train(make_settings())
    assert not record.exists()


def test_damaged_data_set_is_refused(data: Path, train: Train, tmp_path: Path, make_settings: Make) -> None:
    copied = tmp_path / "data"
    shutil.copytree(data, copied)
    next(p for p in (copied / "images.zarr/images_train/c").rglob("*") if p.is_file()).unlink()
    with pytest.raises(StoreError, match=r"array 'images_train': missing or damaged"):
        train(make_settings(), data=copied)
    (copied / "manifest.json").unlink()
    with pytest.raises(StoreError, match=r"manifest\.json: missing"):
        train(make_settings(), data=copied)


def test_more_samples_than_the_data_set_has(train: Train, make_settings: Make) -> None:
    with pytest.raises(InputError, match=r"label set 3: found count 9; allowed are 0 to 8, the samples stored"):
        train(make_settings(counts={"3": 9}))


def test_device() -> None:
    assert resolve_device("cpu").type == "cpu"
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_absent_device_is_refused() -> None:
    with pytest.raises(
        InputError, match="device: found 'cuda', but torch sees no CUDA device here; allowed: auto, cpu"
    ):
        resolve_device("cuda")


# --- progress -------------------------------------------------------------------------------------------------------


def test_log_has_plain_lines_at_checkpoints(
    train: Train, caplog: pytest.LogCaptureFixture, make_settings: Make
) -> None:
    with caplog.at_level(logging.INFO, logger="ncpipe"):
        train(make_settings())
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "tiny/balanced/mlp/seed-0 on cpu, 1 thread(s): 125 samples, epochs 0 to 6"
    assert [line.split()[1] for line in lines[1:-1]] == ["1/6", "2/6", "4/6", "6/6"]
    assert "images/s" in lines[1]
    assert "loss" in lines[1]
    assert lines[-1].startswith("finished in ")


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """Rate and time left follow from what this process did: epochs 10 to 12 of 20 in two seconds each."""
    now = [100.0]
    monkeypatch.setattr("ncpipe.progress.time.monotonic", lambda: now[0])
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    progress = Progress("run", 20, 500, start=10, log=LOG)
    for epoch in (11, 12, 13):
        now[0] += 2
        progress.epoch(epoch, 0.25)
    assert capsys.readouterr().err == "run  epoch 13/20  250 images/s  loss 0.25  left 0:14\n"
    now[0] += 0.5
    progress.epoch(20, 0.125)
    assert "epoch 20/20" in capsys.readouterr().err
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    now[0] += 100
    progress.epoch(20, 0.1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (7.4, "0:07"), (750, "12:30"), (11100, "3:05:00"), (-3, "0:00")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
    assert math.isfinite(seconds)


def test_pixels_are_levels_over_255_exactly() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(4, 8, 4, 2)
    images = pixels(torch.from_numpy(levels))
    assert images.shape == (4, 2, 8, 4)
    assert images.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(images, (levels.astype(np.float32) / np.float32(255)).transpose(0, 3, 1, 2))
