"""The estimate of what runs will write, and the refusal of what does not fit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ncpipe.errors import StoreError
from ncpipe.experiment import disk
from ncpipe.experiment.plan import Run, plan_runs, train_settings
from ncpipe.experiment.reading import load_config
from ncpipe.results.layout import Layout
from ncpipe.stores.files import write_json
from ncpipe.train import TRAIN_VERSION

CHECKOUT = Path(__file__).parents[2]
MANIFEST = Layout("made/later").manifest


def test_the_paper_keeps_what_its_documentation_says() -> None:
    """81.9 MB of training features and 21.0 MB of test features in float32; in moments two orders less for training."""
    sizes = {"train": 40_000, "test": 10_250, "label_sets": 55, "classes": 10, "features": 512}
    whole, half, moments = (disk.checkpoint_bytes(kept, **sizes) for kept in ("float32", "float16", "moments"))
    assert whole == pytest.approx(103.2e6, rel=0.005)
    assert half == pytest.approx(51.5e6, rel=0.01)
    assert moments < 1.7e6


@pytest.fixture
def smoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    config = load_config(CHECKOUT / "config.yaml", CHECKOUT / "config/smoke.yaml")
    return {**config, "results": "made/later"}


def test_what_is_finished_under_these_settings_is_not_counted_again(smoke: dict[str, Any]) -> None:
    runs = plan_runs(smoke)
    whole = disk.disk_need(smoke, runs, MANIFEST, TRAIN_VERSION)
    each = [disk.run_bytes(smoke, run) for run in runs]
    assert whole == sum(each) + disk.dataset_bytes(smoke["datasets"]["mlab_digits"])
    settings = train_settings(smoke, runs[0])
    manifest = Path(smoke["results"], "train", runs[0].name, "manifest.json")
    write_json(manifest, {"identity": {"settings": settings, "algorithm_version": TRAIN_VERSION}})
    assert disk.disk_need(smoke, runs, MANIFEST, TRAIN_VERSION) == whole - each[0]
    write_json(manifest, {"identity": {"settings": settings, "algorithm_version": "older"}})
    assert disk.disk_need(smoke, runs, MANIFEST, TRAIN_VERSION) == whole
    manifest.write_text("{")
    assert disk.disk_need(smoke, runs, MANIFEST, TRAIN_VERSION) == whole
    part = Path(smoke["results"], "train", runs[1].name, "features.zarr/features_train/c/0")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 9000)
    assert whole - 12 * 1024 <= disk.disk_need(smoke, runs, MANIFEST, TRAIN_VERSION) < whole
    write_json(Path(smoke["results"], "data/mlab_digits/manifest.json"), {})
    assert disk.disk_need(smoke, runs[:1], MANIFEST, TRAIN_VERSION) == each[0]


def test_fewer_checkpoints_and_moments_need_less(smoke: dict[str, Any]) -> None:
    run = Run("mlab_digits", "balanced", "cnn", 0)
    entry = smoke["recipes"]["cnn"]
    entry["checkpoints"] = {"every": 1}
    every = disk.run_bytes(smoke, run)
    entry["checkpoints"] = [3]
    assert disk.run_bytes(smoke, run) < every
    smoke["datasets"]["mlab_digits"]["train_counts"] = [140, 20]
    smoke["networks"]["cnn"]["width"] = 64
    whole = disk.run_bytes(smoke, run)
    entry["features"] = "float16"
    half = disk.run_bytes(smoke, run)
    entry["features"] = "moments"
    assert whole > half > disk.run_bytes(smoke, run)


def test_the_line_names_need_room_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert disk.disk_line(3_210_000_000, 120 * 10**9, "results") == (
        "Disk: 3.2 GB still to be written under results (120 GB free)"
    )
    assert disk.disk_line(2_000_000, 999, "elsewhere").endswith("(999 bytes free, too little)")
    asked = []

    def usage(path: Path) -> SimpleNamespace:
        asked.append(Path(path))
        return SimpleNamespace(free=5)

    monkeypatch.setattr(disk.shutil, "disk_usage", usage)
    monkeypatch.chdir(tmp_path)
    assert disk.free_bytes(Path("not/yet/there")) == 5
    assert asked == [tmp_path]


def test_a_job_refuses_what_does_not_fit_and_counts_what_it_wrote_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "free_bytes", lambda _: 2 * 10**6)
    disk.check_room(tmp_path / "run", 2)
    with pytest.raises(StoreError) as caught:
        disk.check_room(tmp_path / "run", 3)
    for word in ("run: 3.0 MB", "2.0 MB free", "(results)", "recipes.<name>.features", "recipes.<name>.checkpoints"):
        assert word in str(caught.value)
    (tmp_path / "features.zarr").write_bytes(b"x" * 10**6)
    disk.check_room(tmp_path, 3)
    assert disk.megabytes(1) == disk.megabytes(10**6) == 1
    assert disk.megabytes(10**6 + 1) == 2
