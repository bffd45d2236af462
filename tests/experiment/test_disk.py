"""The estimate of what runs will write: networks counted as torch counts them, stores as they come out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ncpipe.experiment import disk as storage
from ncpipe.experiment.architectures import NETWORK_KEYS
from ncpipe.experiment.plan import Run, plan_runs, train_settings
from ncpipe.experiment.settings import load_config
from ncpipe.stores.files import write_json
from ncpipe.train import TRAIN_VERSION

CHECKOUT = Path(__file__).parents[2]
NETWORKS: dict[str, dict[str, Any]] = {
    "cnn": {"width": 3},
    "mlp": {"hidden": [7, 5], "features": 6},
    "resnet18": {"width": 2},
    "resnet34": {"width": 2},
    "resnet50": {"width": 2},
    "vgg16": {"width": 2},
    "vit": {"patch": 8, "depth": 2, "heads": 2, "features": 8},
    "ufm": {"features": 9},
}


@pytest.mark.parametrize("architecture", NETWORK_KEYS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_is_counted_as_torch_counts_it(architecture: str, channels: int) -> None:
    from ncpipe.train.networks import build_backbone

    network = {"architecture": architecture, **NETWORKS[architecture]}
    backbone = build_backbone(network, (channels, 32, 32), 11)
    size = storage.network_size(network, (channels, 32, 32), 11)
    assert size.features == backbone.features
    assert size.parameters == sum(p.numel() for p in backbone.parameters())
    assert 4 * size.statistics == sum(b.numel() * b.element_size() for b in backbone.buffers())
    assert size.arrays == len(backbone.state_dict())


def test_the_paper_keeps_what_its_documentation_says() -> None:
    """81.9 MB of training features and 21.0 MB of test features in float32; in moments two orders less for training."""
    sizes = {"train": 40_000, "test": 10_250, "label_sets": 55, "classes": 10, "features": 512}
    whole, half, moments = (storage.checkpoint_bytes(kept, **sizes) for kept in ("float32", "float16", "moments"))
    assert whole == pytest.approx(102.9e6, rel=0.005)
    assert half == pytest.approx(51.5e6, rel=0.01)
    assert moments < 1.6e6


@pytest.fixture
def smoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    config = load_config(CHECKOUT / "config.yaml", CHECKOUT / "config/smoke.yaml")
    return {**config, "results": "made/later"}


def test_what_is_finished_under_these_settings_is_not_counted_again(smoke: dict[str, Any]) -> None:
    runs = plan_runs(smoke)
    whole = storage.disk_need(smoke, runs)
    each = [storage.run_bytes(smoke, run) for run in runs]
    assert whole == sum(each) + storage.dataset_bytes(smoke["datasets"]["mlab_digits"])
    settings = train_settings(smoke, runs[0])
    manifest = Path(smoke["results"], "train", runs[0].name, "manifest.json")
    write_json(manifest, {"identity": {"settings": settings, "algorithm_version": TRAIN_VERSION}})
    assert storage.disk_need(smoke, runs) == whole - each[0]
    write_json(manifest, {"identity": {"settings": settings, "algorithm_version": "older"}})
    assert storage.disk_need(smoke, runs) == whole
    manifest.write_text("{")
    assert storage.disk_need(smoke, runs) == whole
    part = Path(smoke["results"], "train", runs[1].name, "features.zarr/features_train/c/0")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 9000)
    assert whole - 12 * 1024 <= storage.disk_need(smoke, runs) < whole
    write_json(Path(smoke["results"], "data/mlab_digits/manifest.json"), {})
    assert storage.disk_need(smoke, runs[:1]) == each[0]


def test_fewer_checkpoints_and_moments_need_less(smoke: dict[str, Any]) -> None:
    run = Run("mlab_digits", "balanced", "cnn", 0)
    entry = smoke["recipes"]["cnn"]
    entry["checkpoints"] = {"every": 1}
    every = storage.run_bytes(smoke, run)
    entry["checkpoints"] = [3]
    assert storage.run_bytes(smoke, run) < every
    smoke["datasets"]["mlab_digits"]["train_counts"] = [140, 20]
    smoke["networks"]["cnn"]["width"] = 64
    whole = storage.run_bytes(smoke, run)
    entry["features"] = "float16"
    half = storage.run_bytes(smoke, run)
    entry["features"] = "moments"
    assert whole > half > storage.run_bytes(smoke, run)


def test_lines_name_need_room_folder_and_what_lowers_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert storage.refusal(10**9, 10**9, "results") is None
    assert storage.disk_line(3_210_000_000, 120 * 10**9, "results") == (
        "Disk: 3.2 GB still to be written under results (120 GB free)"
    )
    line = storage.refusal(2_000_000, 999, "elsewhere")
    assert line is not None
    for word in (
        "2.0 MB",
        "999 bytes free",
        "under elsewhere",
        "recipes.<name>.features",
        "recipes.<name>.checkpoints",
    ):
        assert word in line
    asked = []

    def usage(path: Path) -> SimpleNamespace:
        asked.append(Path(path))
        return SimpleNamespace(free=5)

    monkeypatch.setattr(storage.shutil, "disk_usage", usage)
    monkeypatch.chdir(tmp_path)
    assert storage.free_bytes(Path("not/yet/there")) == 5
    assert asked == [tmp_path]
