"""A tiny data set of real digits, and the settings of runs on it that train in well under a second."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ncpipe.data.synthesise import synthesise
from ncpipe.experiment.plan import setting_counts
from ncpipe.train.loop import train_run

SPEC = {
    "dataset": "tiny",
    "base": "digits",
    "folder": None,
    "style": "mnist",
    "placement": "reference",
    "train_counts": [8, 1],
    "test_counts": [2, 1],
    "seed": 0,
}
NETWORKS = {
    "mlp": {"architecture": "mlp", "hidden": [16], "features": 8},
    "cnn": {"architecture": "cnn", "width": 2},
    "resnet18": {"architecture": "resnet18", "width": 1},
    "resnet34": {"architecture": "resnet34", "width": 1},
    "resnet50": {"architecture": "resnet50", "width": 1},
    "vgg16": {"architecture": "vgg16", "width": 1},
    "vit": {"architecture": "vit", "patch": 4, "depth": 1, "heads": 2, "features": 8},
    "ufm": {"architecture": "ufm", "features": 8},
}
LOG = logging.getLogger("ncpipe")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a data set: 125 training and 65 test samples of 16 x 16 pixels, multiplicities 1 and 2."""
    folder = tmp_path_factory.mktemp("data") / "tiny"
    synthesise(SPEC, folder, LOG)
    return folder


def tiny_settings(network: str = "mlp", **changes: Any) -> dict[str, Any]:
    """Settings of a run as the workflow passes them; `changes` are ``section__key=value`` or ``key=value``."""
    full_batch = network == "ufm"
    settings: dict[str, Any] = {
        "run": {"dataset": "tiny", "setting": "balanced", "network": network, "seed": 0},
        "network": NETWORKS[network],
        "objective": {"loss": "pal", "target": "normalised", "lambda_w": 5e-4, "lambda_h": 0.05, "lambda_b": 5e-4,
                      "bias": True},
        "recipe": {"batch": "full" if full_batch else 32, "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4,
                   "schedule": "cosine"},
        "counts": setting_counts(SPEC, {"profile": "balanced"}),
        "epochs": 6,
        "checkpoints": [0, 1, 2, 4, 6],
        "seed": 0,
    }  # fmt: skip
    settings = copy.deepcopy(settings)
    for key, value in changes.items():
        section, _, inner = key.partition("__")
        if inner:
            settings[section][inner] = value
        else:
            settings[section] = value
    return settings


@pytest.fixture(scope="session")
def make_settings() -> Callable[..., dict[str, Any]]:
    return tiny_settings


@pytest.fixture(scope="session")
def spec() -> dict[str, Any]:
    """What the tiny data set is made from."""
    return SPEC


@pytest.fixture
def train(data: Path, tmp_path: Path) -> Callable[..., Path]:
    """Train in this process; returns the run's folder."""

    def train(settings: dict[str, Any], folder: str = "run", **options: Any) -> Path:
        train_run(settings, **{"data": data, "folder": tmp_path / folder, "log": LOG, "device": "cpu", **options})
        return tmp_path / folder

    return train
