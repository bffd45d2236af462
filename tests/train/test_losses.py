"""Every loss, class weights and the fixed classifier in training: values, gradients, and where free features end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ncpipe.collapse.analyse import analyse_run
from ncpipe.collapse.optima import analyse_optimum
from ncpipe.collapse.tables import metric_rows, open_metrics
from ncpipe.errors import InputError
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.labels.names import parse_label_counts
from ncpipe.objective import terms as numpy_objective
from ncpipe.objective.losses import loss_gradients, losses, simplex_etf
from ncpipe.objective.settings import Objective
from ncpipe.optimum.optimum import solve
from ncpipe.optimum.relu import solve_relu
from ncpipe.stores.zarr import Store
from ncpipe.theory.analysis import write_theory
from ncpipe.train.networks import build_classifier
from ncpipe.train.objective import batch_loss, objective_terms
from ncpipe.train.splits import Split

Train = Callable[..., Path]
Make = Callable[..., dict[str, Any]]

LOG = logging.getLogger("ncpipe")
K, D = 5, 3
CLASS_WEIGHTS = (0.5, 1.0, 2.0, 3.0, 0.25)
KINDS: dict[str, dict[str, Any]] = {
    "weighted": {"target": "normalised", "class_weights": CLASS_WEIGHTS},
    "weighted raw": {"target": "raw", "class_weights": CLASS_WEIGHTS},
    "bce": {"target": "raw", "loss": "bce"},
    "mse": {"target": "normalised", "loss": "mse"},
    "mse raw": {"target": "raw", "loss": "mse"},
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def batch(kind: str, samples: int = 7, seed: int = 0) -> tuple[Objective, np.ndarray, np.ndarray, np.ndarray]:
    """An objective, labels, logits and features."""
    rng = np.random.default_rng(seed)
    labels = rng.random((samples, K)) < 0.4
    labels[np.arange(samples), rng.integers(0, K, samples)] = True
    objective = Objective(lambda_w=0.3, lambda_h=0.2, lambda_b=0.1, **KINDS[kind])
    return objective, labels, 3 * rng.standard_normal((samples, K)), rng.standard_normal((samples, D))


def naive(objective: Objective, labels: np.ndarray, logits: np.ndarray) -> list[float]:
    """The definitions, written as loops."""
    values = []
    for y, z in zip(labels, logits, strict=True):
        t = y / y.sum() if objective.target == "normalised" else y.astype(float)
        if objective.loss == "pal":
            t = t * np.array(objective.class_weights)
            values.append(sum(t[k] * -np.log(np.exp(z[k]) / np.exp(z).sum()) for k in range(K)))
        elif objective.loss == "bce":
            p = 1 / (1 + np.exp(-z))
            values.append(-sum(np.log(p[k] if y[k] else 1 - p[k]) for k in range(K)))
        else:
            values.append(sum((z[k] - t[k]) ** 2 for k in range(K)) / 2)
    return values


@each_kind
@pytest.mark.parametrize("weighted", [False, True])
def test_the_batch_loss_is_the_definition_and_its_gradient_the_closed_form(kind: str, weighted: bool) -> None:
    objective, labels, logits, features = batch(kind)
    weights = np.random.default_rng(1).uniform(0.2, 2, len(labels)) if weighted else np.ones(len(labels))
    targets = objective.target_rows(labels)
    z, h = (torch.from_numpy(a).requires_grad_() for a in (logits, features))
    sampling = torch.from_numpy(weights) if weighted else None
    loss = batch_loss(z, h, torch.from_numpy(targets), objective.lambda_h, sampling, objective.loss)
    expected = np.mean(weights * (np.array(naive(objective, labels, logits)) + 0.1 * (features**2).sum(axis=1)))
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(losses(logits, targets, objective.loss), naive(objective, labels, logits), rtol=1e-12)
    loss.backward()
    assert z.grad is not None
    assert h.grad is not None
    closed = weights[:, None] * loss_gradients(logits, targets, objective.loss) / len(labels)
    np.testing.assert_allclose(z.grad, closed, atol=1e-15)
    np.testing.assert_allclose(h.grad, weights[:, None] * 0.2 * features / len(labels), atol=1e-15)


@each_kind
def test_terms_agree_with_the_shared_definition(kind: str) -> None:
    objective, labels, _, features = batch(kind, samples=40)
    rng = np.random.default_rng(2)
    weight, bias = rng.standard_normal((K, D)), rng.standard_normal(K)
    multi_hot, label_set = np.unique(labels, axis=0, return_inverse=True)
    expected = numpy_objective.objective_terms(
        weight, bias, features, label_set=label_set, multi_hot=multi_hot, objective=objective
    )
    terms = objective_terms(
        *map(torch.from_numpy, (features, weight, bias, objective.target_rows(labels))),
        lambda_w=0.3, lambda_h=0.2, lambda_b=0.1, loss=objective.loss,
    )  # fmt: skip
    for name, value in terms.items():
        assert value == pytest.approx(getattr(expected, name), rel=1e-13), name


@each_kind
def test_loss_and_penalty_of_a_sample_are_the_same_in_every_batch(kind: str) -> None:
    objective, labels, logits, features = batch(kind, samples=1)
    targets = objective.target_rows(labels)
    values = [
        batch_loss(
            *(torch.from_numpy(np.repeat(a, n, axis=0)) for a in (logits, features, targets)), 0.2, None, objective.loss
        ).item()
        for n in (1, 3, 64)
    ]
    assert values == pytest.approx([values[0]] * 3, rel=1e-14)


def test_a_split_carries_the_class_weights_in_its_targets() -> None:
    labels = np.array([[1, 1, 0], [0, 0, 1]], np.uint8)
    split = Split(np.zeros((2, 4, 4, 1), np.uint8), labels, "normalised", torch.device("cpu"), None, [2.0, 3.0, 5.0])
    np.testing.assert_array_equal(split.targets, [[1.0, 1.5, 0.0], [0.0, 0.0, 5.0]])


def test_a_fixed_classifier_takes_the_draws_of_a_learned_one_and_no_gradient() -> None:
    states = []
    for kind in ("learned", "etf"):
        torch.manual_seed(0)
        classifier = build_classifier(12, 10, bias=True, kind=kind)  # type: ignore[arg-type]
        states.append((classifier.bias.detach().numpy().copy(), torch.rand(1).item()))
    np.testing.assert_array_equal(states[0][0], states[1][0])
    assert states[0][1] == states[1][1]
    assert not classifier.weight.requires_grad
    np.testing.assert_array_equal(classifier.weight, simplex_etf(10, 12))


FREE: dict[str, dict[str, Any]] = {
    "weighted": {"class_weights": [0.5, 2.0] * 5},
    "bce": {"loss": "bce", "target": "raw"},
    "mse": {"loss": "mse"},
    "etf": {"classifier": "etf"},
    "bce etf": {"loss": "bce", "target": "raw", "classifier": "etf"},
    "mse etf without bias": {"loss": "mse", "classifier": "etf", "bias": False},
}


@pytest.mark.parametrize("kind", FREE)
def test_free_features_end_at_the_certified_optimum(train: Train, make_settings: Make, kind: str) -> None:
    """Full batches of 125 samples: the gap is below 1e-4 of the optimum at the end, and never negative."""
    entry = {"lambda_w": 0.01, "lambda_b": 0.01, **FREE[kind]}
    settings = make_settings(
        "ufm", epochs=500, checkpoints=[0, 50, 500], network__features=11, recipe__lr=0.2,
        **{f"objective__{key}": value for key, value in entry.items()},
    )  # fmt: skip
    distribution = LabelDistribution.from_counts(parse_label_counts(settings["counts"]), 10)
    optimum = solve(distribution, Objective.from_config(settings["objective"]))
    assert optimum.certified
    store = Store(train(settings) / "features.zarr")
    gaps = [float(store.epoch(e)["objective"]) - optimum.lower_bound for e in store.epochs]
    assert min(gaps) >= 0
    assert gaps[-1] < 1e-4 * optimum.objective < gaps[0]
    if "etf" in kind:
        for epoch in store.epochs:
            values = store.epoch(epoch)
            np.testing.assert_array_equal(values["classifier_weight"].values, simplex_etf(10, 11))
            assert float(values["objective_classifier"]) == pytest.approx(0.01 * 10 / 2, rel=1e-6)


def analysed(settings: dict[str, Any], folder: Path, path: Path) -> tuple[dict[tuple[str, int], float], dict[str, Any]]:
    """Metrics of a run by name and epoch, and what is undefined; its theory is written to `path` first."""
    write_theory(settings["counts"], 10, list("0123456789"), settings["objective"], path)
    analyse_run(folder, path, folder / "metrics", LOG)
    store = open_metrics(folder / "metrics")
    rows = {(r["metric"], r["epoch"]): r["value"] for r in metric_rows(store) if r["split"] == "train"}
    return rows, store.attrs["undefined"]


@pytest.mark.parametrize("kind", ["weighted", "bce", "mse etf without bias"])
def test_collapse_measures_a_run_against_the_optimum_of_its_objective(
    train: Train, make_settings: Make, tmp_path: Path, kind: str
) -> None:
    entry = {"lambda_w": 0.01, "lambda_b": 0.01, **FREE[kind]}
    settings = make_settings(
        "ufm", epochs=500, checkpoints=[0, 500], network__features=11, recipe__lr=0.2,
        **{f"objective__{key}": value for key, value in entry.items()},
    )  # fmt: skip
    path = tmp_path / "theory" / "tiny" / "balanced" / "own.json"
    rows, undefined = analysed(settings, train(settings), path)
    assert 0 <= rows["gap", 500] < 1e-4 * rows["objective", 500]
    parts = [rows[f"gap_{part}", 500] for part in ("classifier", "scatter", "prototypes")]
    assert sum(parts) == pytest.approx(rows["gap_reference", 500], abs=1e-12)
    assert min(parts) > -1e-12
    assert (parts[0] == 0) == ("etf" in kind)
    softmax = kind == "weighted"
    for name in ("total_variation", "score"):
        assert np.isnan(rows[name, 500]) != softmax
        assert ("not one distribution" in str(undefined.get(name))) != softmax
    if "etf" in kind:
        assert all("fixed" in str(undefined[name]) for name in ("residual_sigma_max", "prediction_sigma_bound"))
    else:
        assert rows["residual_sigma_max", 500] == pytest.approx(1, abs=0.05)
        assert rows["prediction_sigma", 500] >= rows["prediction_sigma_bound", 500]
    # Moments give the same metrics, and those of a loss without total variation need no predictions.
    kept, without = analysed({**settings, "features": "moments"}, train({**settings, "features": "moments"}, "m"), path)
    assert kept.keys() == rows.keys()
    assert without == undefined
    for key, value in rows.items():
        assert kept[key] == pytest.approx(
            value, rel=1e-6, abs=1e-4 if key[0] == "total_variation" else 1e-12, nan_ok=True
        )
    optimum = {r["metric"]: r["value"] for r in analyse_optimum(path)[0] if r["reference"] == "convex"}
    assert optimum["gap"] == pytest.approx(0, abs=1e-9)


def test_a_run_whose_classifier_is_not_the_fixed_one_is_refused(
    train: Train, make_settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings("ufm", epochs=1, checkpoints=[0, 1], network__features=11, objective__classifier="etf")
    folder = train(settings)
    monkeypatch.setattr("ncpipe.collapse.run.simplex_etf", lambda *shape: np.ones(shape))
    with pytest.raises(InputError, match="epoch 0, array classifier_weight: not the fixed simplex ETF"):
        analysed(settings, folder, tmp_path / "own.json")


def test_a_network_with_a_fixed_classifier_stays_above_the_optimum_for_its_features(
    train: Train, make_settings: Make
) -> None:
    settings = make_settings("mlp", network__features=12, objective__classifier="etf", epochs=10, checkpoints=[0, 10])
    distribution = LabelDistribution.from_counts(parse_label_counts(settings["counts"]), 10)
    optimum = solve_relu(distribution, Objective.from_config(settings["objective"]))
    folder = train(settings)
    first, last = (float(Store(folder / "features.zarr").epoch(e)["objective"]) for e in (0, 10))
    assert optimum.lower_bound <= last < first
    before = (folder / "manifest.json").read_bytes()
    train(settings, on_mismatch="refuse")  # what is finished is found finished: its state fits the fixed classifier
    assert (folder / "manifest.json").read_bytes() == before
