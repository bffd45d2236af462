"""Sampling weights in training: the same as samples repeated, in loss, trajectory and end; what is kept of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ncpipe.errors import InputError, StateMismatchError
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.labels.names import parse_label_counts
from ncpipe.labels.sampling import Sampling
from ncpipe.objective import terms as numpy_objective
from ncpipe.objective.settings import Objective
from ncpipe.optimum.optimum import solve
from ncpipe.results.datasets import select
from ncpipe.results.sampling_file import write_sampling
from ncpipe.stores.files import read_json
from ncpipe.stores.zarr import Store
from ncpipe.train.objective import batch_loss, objective_terms
from ncpipe.train.splits import Split
from ncpipe.train.stop import Stop
from ncpipe.train.trainer import Trainer

Train = Callable[..., Path]
Make = Callable[..., dict[str, Any]]
CPU = torch.device("cpu")
REPEATS = np.array([1, 2, 3])


def repeats(distribution: LabelDistribution) -> np.ndarray:
    """A whole number for each label set: how often its samples count."""
    return REPEATS[np.arange(len(distribution.counts)) % 3]


def natural(settings: dict[str, Any]) -> LabelDistribution:
    counts = parse_label_counts(settings["counts"])
    return LabelDistribution.from_counts(counts, 10)


@pytest.fixture
def weighted(tmp_path: Path, make_settings: Make) -> Callable[..., tuple[dict[str, Any], Path]]:
    """Settings of a run whose label sets count once, twice, three times, ..., and the file of their weights."""

    def weighted(
        network: str = "mlp", *, factors: np.ndarray | None = None, **changes: Any
    ) -> tuple[dict[str, Any], Path]:
        settings = make_settings(network, sampling={"method": "max_kappa", "cap": 3.0}, **changes)
        distribution = natural(settings)
        weights = distribution.weights * (repeats(distribution) if factors is None else factors)
        path = tmp_path / "sampling.json"
        target = settings["objective"]["target"]
        write_sampling(path, Sampling(distribution, weights / weights.sum(), "max_kappa", target, 3.0, {}, 1.0))
        return settings, path

    return weighted


# --- weights are repetitions ----------------------------------------------------------------------------------------


def test_loss_and_gradients_are_those_of_repeated_samples() -> None:
    rng = np.random.default_rng(0)
    often = np.array([1, 3, 2, 1])
    logits, features = rng.standard_normal((4, 5)), rng.standard_normal((4, 3))
    labels = rng.integers(0, 2, (4, 5)) | np.eye(4, 5, dtype=int)
    weights = often / often.mean()
    z, h = (torch.from_numpy(a).requires_grad_() for a in (logits, features))
    batch_loss(z, h, torch.from_numpy(labels.astype(float)), 0.3, torch.from_numpy(weights)).backward()
    repeated = np.repeat(np.arange(4), often)
    y, g = (torch.from_numpy(a[repeated]).requires_grad_() for a in (logits, features))
    batch_loss(y, g, torch.from_numpy(labels[repeated].astype(float)), 0.3).backward()
    for one, many in ((z.grad, y.grad), (h.grad, g.grad)):
        summed = np.zeros(one.shape)
        np.add.at(summed, repeated, many.numpy())
        np.testing.assert_allclose(one, summed, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("target", ["normalised", "raw"])
def test_a_full_batch_trajectory_is_that_of_the_repeated_data_set(data: Path, make_settings: Make, target: str) -> None:
    settings = make_settings(recipe__batch="full", objective__target=target, objective__lambda_w=0.02, epochs=25)
    store = Store(data / "images.zarr").load()
    distribution = natural(settings)
    counts = parse_label_counts(settings["counts"])
    chosen = select(store["label_set_train"].values, store["label_sets"].values, counts)
    label_set = store["label_set_train"].values[chosen]
    images, labels = store["images_train"].values[chosen], store["label_sets"].values[label_set]
    often = repeats(distribution)[label_set]
    index = np.repeat(np.arange(len(often)), often)
    splits = [
        Split(images, labels, target, CPU, often / often.mean()),
        Split(images[index], labels[index], target, CPU),
        Split(images, labels, target, CPU),
    ]
    trainers = [Trainer(settings, split, CPU) for split in splits]
    assert torch.equal(trainers[0].classifier.weight, trainers[1].classifier.weight)
    losses = [[trainer.run_epoch(Stop()) for _ in range(25)] for trainer in trainers]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    assert np.abs(np.subtract(losses[0], losses[2])).max() > 1e-2  # the weights are not without effect
    for one, many in zip(trainers[0].backbone.parameters(), trainers[1].backbone.parameters(), strict=True):
        np.testing.assert_allclose(one.detach(), many.detach(), rtol=1e-3, atol=1e-5)
    checkpoints = [trainer.checkpoint(None) for trainer in trainers[:2]]
    for name in ("objective", "objective_loss", "objective_feature", "objective_classifier", "objective_bias"):
        assert float(checkpoints[0][name]) == pytest.approx(float(checkpoints[1][name]), rel=1e-4), name


def test_free_features_end_at_the_optimum_of_the_weighted_labels(
    train: Train, weighted: Callable[..., tuple[dict[str, Any], Path]]
) -> None:
    """Theory of counts q_S N is what training ends at: the gap is never negative, and closes."""
    settings, path = weighted(
        "ufm", epochs=3000, checkpoints=[0, 10, 100, 3000], network__features=12, recipe__lr=0.5,
        objective__lambda_w=5e-3, objective__lambda_b=5e-3,
    )  # fmt: skip
    objective = Objective.from_config(settings["objective"])
    distribution = natural(settings)
    often = LabelDistribution(
        distribution.indicator, distribution.counts * repeats(distribution), distribution.class_names
    )
    optimum, other = solve(often, objective), solve(distribution, objective)
    assert optimum.certified
    assert abs(optimum.objective - other.objective) > 1e-3
    store = Store(train(settings, sampling=path) / "features.zarr")
    gaps = [float(store.epoch(e)["objective"]) - optimum.lower_bound for e in store.epochs]
    assert min(gaps) >= 0
    assert gaps[-1] < 1e-5 * optimum.objective < gaps[0]


def test_weights_of_one_take_the_same_steps_to_the_last_bit(
    train: Train, make_settings: Make, weighted: Callable[..., tuple[dict[str, Any], Path]]
) -> None:
    settings, path = weighted(factors=np.ones(55))
    one, without = train(settings, "one", sampling=path), train(make_settings(), "without")
    last = [Store(folder / "features.zarr").epoch(6) for folder in (one, without)]
    for name in ("features_train", "features_test", "classifier_weight", "classifier_bias"):
        np.testing.assert_array_equal(last[0][name], last[1][name])
    # q_S / w_S is 1 but for rounding in float64, in which terms are recorded
    assert float(last[0]["objective"]) == pytest.approx(float(last[1]["objective"]), rel=1e-14)


# --- what is kept ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["normalised", "raw"])
def test_the_store_holds_the_weights_and_terms_weighted_with_them(
    train: Train, weighted: Callable[..., tuple[dict[str, Any], Path]], target: str
) -> None:
    settings, path = weighted(epochs=2, checkpoints=[0, 2], objective__target=target)
    settings["counts"].pop("8+9")
    distribution = natural(settings)
    weights = distribution.weights * repeats(distribution)
    weights = weights / weights.sum()
    write_sampling(path, Sampling(distribution, weights, "max_kappa", target, 3.0, {}, 1.0))
    store = Store(train(settings, sampling=path) / "features.zarr")
    static = store.static()
    factors = static["label_set_weight"].values
    assert static["label_set_weight"].dims == ("label_set",)
    np.testing.assert_array_equal(np.isnan(factors), (static["label_sets"].values[:, 8:] == 1).all(1))
    np.testing.assert_array_equal(factors[~np.isnan(factors)], weights / distribution.weights)
    assert store.attrs["sampling"] == {"method": "max_kappa", "cap": 3.0}
    label_set, values = static["label_set_train"].values, store.epoch(2)
    terms = numpy_objective.objective_terms(
        *(values[name].values for name in ("classifier_weight", "classifier_bias", "features_train")),
        label_set=label_set, multi_hot=static["label_sets"].values, objective=Objective.from_config(
            store.attrs["objective"]), sample_weights=factors[label_set] / len(label_set),
    )  # fmt: skip
    for name in ("loss", "classifier", "feature", "bias"):
        assert float(values[f"objective_{name}"]) == pytest.approx(getattr(terms, name), rel=1e-12), name


def test_terms_weigh_loss_and_penalty() -> None:
    features, weights = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([0.5, 1.5])
    terms = objective_terms(
        features, torch.zeros(3, 2), torch.zeros(3), torch.eye(2, 3), lambda_w=1, lambda_h=1,
        lambda_b=1, weights=weights,
    )  # fmt: skip
    assert terms["feature"] == pytest.approx(0.5 * (0.5 * 1 + 1.5 * 4) / 2)
    assert terms["loss"] == pytest.approx(np.log(3))


def test_a_run_goes_on_only_with_the_weights_that_it_began_with(
    train: Train, weighted: Callable[..., tuple[dict[str, Any], Path]], caplog: pytest.LogCaptureFixture
) -> None:
    settings, path = weighted()
    folder = train(settings, sampling=path)
    before = (folder / "manifest.json").read_bytes()
    train(settings, sampling=path, on_mismatch="refuse")
    assert (folder / "manifest.json").read_bytes() == before
    weighted(factors=np.linspace(1, 2, 55))
    with pytest.raises(StateMismatchError, match=r"label_set_weight: was '[0-9a-f]{64}', now '[0-9a-f]{64}'"):
        train(settings, sampling=path, on_mismatch="refuse")
    train(settings, sampling=path)
    assert any("starting afresh" in message and "label_set_weight" in message for message in caplog.messages)
    identity = read_json(folder / "manifest.json")["identity"]
    assert identity["settings"]["sampling"] == {"method": "max_kappa", "cap": 3.0}
    assert (folder / "manifest.json").read_bytes() != before


def test_weights_that_are_not_the_settings_own_are_refused(
    train: Train, weighted: Callable[..., tuple[dict[str, Any], Path]], tmp_path: Path
) -> None:
    settings, path = weighted()
    with pytest.raises(InputError, match="sampling max_kappa: its weights are missing; make them with `snakemake th"):
        train(settings)
    for change, words in (
        ({"counts": {**settings["counts"], "0": 7}}, "label set 0 has 8 samples there and 7 here"),
        ({"objective": {**settings["objective"], "target": "raw"}}, "is about normalised targets"),
        ({"sampling": {"method": "max_kappa", "cap": 2.0}}, "with cap 3; the setting asks for max_kappa with cap 2"),
        ({"sampling": {"method": "class_balanced", "cap": None}}, "cap 3; the setting asks for class_balanced$"),
    ):
        with pytest.raises(InputError, match=words):
            train({**settings, **change}, sampling=path)
    assert not list(tmp_path.glob("run/features.zarr"))
