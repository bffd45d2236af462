"""What a run keeps of its features: float32, float16 or moments, and that the metrics are those of float32."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

from ncpipe.collapse.analyse import analyse_run
from ncpipe.collapse.tables import open_metrics
from ncpipe.errors import RangeError
from ncpipe.experiment.base_sets import BASE_SETS
from ncpipe.geometry.moments import PREDICTION_STEPS
from ncpipe.geometry.record import QUANTITIES
from ncpipe.stores.zarr import Store
from ncpipe.theory.analysis import write_theory
from ncpipe.train.trainer import Trainer

Train = Callable[..., Path]
Make = Callable[..., dict[str, Any]]
LOG = logging.getLogger("ncpipe")


def analysed(settings: dict[str, Any], run: Path) -> Store:
    """The metrics of a run."""
    theory = run.parent / "theory/tiny/balanced/pal.json"
    if not theory.exists():
        write_theory(settings["counts"], 10, BASE_SETS["digits"].class_names, settings["objective"], theory)
    folder = run.with_name(f"collapse-{run.name}")
    analyse_run(run, theory, folder, LOG)
    return open_metrics(folder)


@pytest.mark.parametrize("network", ["mlp", "ufm"])
def test_a_run_that_keeps_moments_or_half_precision_has_the_metrics_of_its_twin(
    train: Train, make_settings: Make, network: str
) -> None:
    settings = make_settings(network, epochs=4, checkpoints=[0, 2, 4], recipe__lr=0.05)
    runs = {mode: train({**settings, "features": mode}, mode) for mode in ("float32", "float16", "moments")}
    stores = {mode: Store(run / "features.zarr") for mode, run in runs.items()}
    assert not [name for name in stores["moments"].epoch(4) if str(name).startswith("features")]
    for epoch in (0, 2, 4):
        whole, half = (stores[mode].epoch(epoch)["features_train"].values for mode in ("float32", "float16"))
        assert half.dtype == np.float16
        assert np.array_equal(half, whole.astype(np.float16))
    metrics = {mode: analysed(settings, run) for mode, run in runs.items()}
    exact, rounded, moments = (metrics[mode].static(*QUANTITIES) for mode in ("float32", "float16", "moments"))
    assert metrics["moments"].attrs["undefined"] == metrics["float32"].attrs["undefined"]
    for name in QUANTITIES:
        tolerance = {"rtol": 1e-9, "atol": 1e-11}
        if name == "total_variation":
            tolerance = {"rtol": 0, "atol": 10 / (4 * PREDICTION_STEPS)}
        np.testing.assert_allclose(moments[name], exact[name], **tolerance, err_msg=name)
        np.testing.assert_allclose(rounded[name], exact[name], rtol=2e-2, atol=5e-4, err_msg=name)
    assert metrics["moments"].attrs["last_epoch"] == metrics["float32"].attrs["last_epoch"]


def test_moments_of_a_live_run_lack_the_parts_of_its_gap_and_say_why(train: Train, make_settings: Make) -> None:
    settings = make_settings(epochs=4, checkpoints=[0, 4])
    run = train({**settings, "features": "moments"})
    (run / "manifest.json").unlink()
    zarr.open_group(run / "features.zarr", mode="r+")["finished"][1] = 0  # as it was before the last checkpoint
    metrics = analysed(settings, run)
    assert np.isnan(metrics.static("gap_classifier")["gap_classifier"])
    (reason,) = metrics.attrs["undefined"]["gap_classifier"].values()
    assert reason == (
        "the run keeps moments of its features, and the best classifier on them only at its last epoch; this one is "
        "earlier"
    )


def test_stopped_and_gone_on_a_run_that_keeps_moments_has_the_same_bytes(
    train: Train, make_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(epochs=4, checkpoints=[0, 2, 4], features="moments")
    whole = Store(train(settings, "whole") / "features.zarr")
    checkpoint = Trainer.checkpoint

    def stopping(self: Trainer, test: Any) -> dict[str, torch.Tensor]:
        if self.epoch == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return checkpoint(self, test)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "checkpoint", stopping)
        with pytest.raises(SystemExit):
            train(settings, "parts")
    parts = train(settings, "parts") / "features.zarr"
    assert Store(parts).epochs == [0, 2, 4]
    assert Store(parts).digest() == whole.digest()


def test_a_feature_beyond_float16_is_an_error_that_names_the_epoch_and_keeps_what_was_there(
    train: Train, tmp_path: Path, make_settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Trainer.checkpoint

    def large(self: Trainer, test: Any) -> dict[str, torch.Tensor]:
        values = checkpoint(self, test)
        if self.epoch == 2:
            values["features_test"][3, :2] = torch.tensor([65519.0, 65521.0])  # the first still rounds to 65504
        return values

    monkeypatch.setattr(Trainer, "checkpoint", large)
    settings = make_settings(epochs=4, checkpoints=[0, 2, 4])
    train(settings, "float32")
    with pytest.raises(
        RangeError,
        match=r"epoch 2, array features_test: 1 values, up to 65521, do not fit in float16 \(at most 65504\)",
    ):
        train({**settings, "features": "float16"})
    store = Store(tmp_path / "run/features.zarr")
    assert store.epochs == [0]
    assert store.verify() == []
    assert not (tmp_path / "run/features.zarr/features_train/c/1").exists()
