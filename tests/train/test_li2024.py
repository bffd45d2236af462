"""The preset li2024 against a plain training loop as Li et al. (ICML 2024) describe it, and what it minimises."""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import permutations as orders
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ncpipe.data.synthesise import synthesise
from ncpipe.experiment.plan import Run, data_spec, train_settings
from ncpipe.experiment.reading import load_config
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.settings import Objective
from ncpipe.objective.terms import objective_terms
from ncpipe.optimum.optimum import solve
from ncpipe.stores.zarr import Store
from ncpipe.streams import permutations, stream
from ncpipe.train.networks import build_backbone, build_classifier
from ncpipe.train.splits import load_split
from ncpipe.train.stop import Stop
from ncpipe.train.trainer import Trainer

CHECKOUT = Path(__file__).parents[2]
RUN = Run("mlab_mnist", "balanced", "resnet18", 0)
CPU = torch.device("cpu")


def preset() -> dict[str, Any]:
    return load_config(CHECKOUT / "config.yaml", CHECKOUT / "config/li2024.yaml")


def test_preset_has_the_numbers_of_the_published_code() -> None:
    settings = train_settings(preset(), RUN)
    assert settings["network"] == {"architecture": "resnet18", "width": 64}
    samples, batch = sum(settings["counts"].values()), settings["recipe"]["batch"]
    assert divmod(samples, batch) == (312, 64)
    assert settings["objective"]["lambda_h"] / 2 / batch == pytest.approx(1e-3, rel=1e-15)
    assert settings["objective"]["target"] == "normalised"
    assert settings["objective"]["bias"] is True
    decays = {settings["objective"]["lambda_w"], settings["objective"]["lambda_b"], settings["recipe"]["weight_decay"]}
    assert decays == {5e-4}
    assert (settings["recipe"]["lr"], settings["recipe"]["momentum"], settings["epochs"]) == (0.1, 0.9, 200)
    # Theirs are counted from 0, but the last one is after all the epochs.
    assert settings["checkpoints"] == [epoch + 1 for epoch in range(0, 200, 20)] + [200]


def plain_loop(
    settings: dict[str, Any], images: torch.Tensor, labels: torch.Tensor, epochs: int
) -> dict[str, torch.Tensor]:
    """Backbone and classifier after some epochs of what the published code does, from the same initial values."""
    torch.manual_seed(settings["seed"])
    backbone = build_backbone(settings["network"], (1, *images.shape[2:]), len(images))
    classifier = build_classifier(backbone.features, labels.shape[1], bias=True)
    model = nn.ModuleDict({"backbone": backbone, "classifier": classifier}).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=200, eta_min=0.1 / 1000)
    targets = labels / labels.sum(dim=1, keepdim=True)
    for epoch in range(epochs):
        order = permutations(stream(settings["seed"], "order", epoch), 1, len(images))[0]
        for batch in torch.from_numpy(order).split(128):
            features = model["backbone"](images[batch])
            outputs = model["classifier"](features)
            loss = -(targets[batch] * outputs.log_softmax(dim=1)).sum(dim=1).mean() + 1e-3 * (features**2).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()
    return model.state_dict()


def test_training_is_that_of_a_plain_loop(tmp_path: Path) -> None:
    """Two epochs of 128 and 72 digits; with a penalty for each sample the same training ends elsewhere."""
    config = preset()
    config["datasets"]["mlab_mnist"] |= {"base": "digits", "folder": None, "train_counts": [11, 2]}
    config["datasets"]["mlab_mnist"] |= {"test_counts": [1, 1]}
    config["networks"]["resnet18"]["width"] = 2
    settings = train_settings(config, RUN)
    synthesise(data_spec(config, "mlab_mnist"), tmp_path / "data", logging.getLogger("ncpipe"))

    def trained(settings: dict[str, Any]) -> dict[str, torch.Tensor]:
        run = Trainer(settings, load_split(tmp_path / "data", "train", settings, CPU)[0], CPU)
        with Stop() as stop:
            for _ in range(2):
                run.run_epoch(stop)
        parts = {"backbone": run.backbone, "classifier": run.classifier}
        return {f"{part}.{name}": v for part, m in parts.items() for name, v in m.state_dict().items()}

    store = Store(tmp_path / "data/images.zarr").load()
    images = torch.from_numpy(store["images_train"].values).permute(0, 3, 1, 2) / 255
    labels = torch.from_numpy(store["label_sets"].values[store["label_set_train"].values]).float()
    assert len(images) == 128 + 72
    expected = plain_loop(settings, images.contiguous(), labels, epochs=2)
    found = trained(settings)
    other = trained({**settings, "recipe": {k: v for k, v in settings["recipe"].items() if k != "feature_penalty"}})
    assert found.keys() == expected.keys()

    def distance(values: dict[str, torch.Tensor]) -> float:
        return max(float((values[name] - expected[name]).abs().max()) for name in expected)

    assert distance(found) < 1e-5
    assert distance(other) > 1e-3


@pytest.mark.parametrize(("samples", "batch"), [(5, 2), (6, 4), (5, 3), (6, 3), (4, 5)])
def test_average_step_descends_the_objective_with_a_smaller_penalty(samples: int, batch: int) -> None:
    """Over all orders of an epoch, by enumeration: (7) with c λ_H for λ_H, c = N / (B ceil(N / B))."""
    rng = np.random.default_rng(samples)
    losses, squares, lambda_h = rng.random(samples), rng.random(samples), 0.3
    size = min(batch, samples)
    steps = []
    for order in orders(range(samples)):
        for start in range(0, samples, size):
            chosen = list(order[start : start + size])
            steps.append(losses[chosen].mean() + lambda_h / (2 * size) * squares[chosen].sum())
    factor = samples / (size * -(-samples // size))
    assert np.mean(steps) == pytest.approx(losses.mean() + factor * lambda_h / 2 * squares.mean(), rel=1e-12)


@pytest.mark.parametrize("factor", [0.9984, 0.9])
def test_gap_where_the_average_step_has_nothing_left_to_descend(factor: float) -> None:
    """At most (1 - c)(P' - P), P the feature penalty at the minimum, P' at the one that a smaller penalty has."""
    counts = {**{(k,): 30.0 if k < 3 else 6.0 for k in range(5)}, **{(j, k): 2.0 for k in range(5) for j in range(k)}}
    labels = LabelDistribution.from_counts(counts, classes=5)
    objective = Objective(target="normalised", lambda_w=5e-4, lambda_h=0.256, lambda_b=5e-4)
    best = solve(labels, objective)
    smaller = solve(labels, replace(objective, lambda_h=factor * objective.lambda_h))

    def penalty_and_total(point: Any) -> tuple[float, float]:
        terms = objective_terms(
            point.weight, point.bias, point.prototypes, label_set=np.arange(len(labels.counts)),
            multi_hot=labels.multi_hot(), objective=objective, sample_weights=labels.weights,
        )  # fmt: skip
        return terms.feature, terms.total

    (penalty, minimum), (larger, total) = map(penalty_and_total, (best, smaller))
    assert 0 < total - minimum <= (1 - factor) * (larger - penalty) * (1 + 1e-6)
