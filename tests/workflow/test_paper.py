"""config/paper.yaml as it is, but for two epochs on a dozen real images of each data set."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from shared import shared_file

from ncpipe.collapse.tables import metric_rows, open_metrics
from ncpipe.experiment.reading import load_config
from ncpipe.stores.zarr import Store

DATASETS = {"mlab_mnist": "mnist", "mlab_cifar10": "cifar10/cifar-10-binary-subset.tar.gz"}
COUNTS = {**{str(k): 1 for k in range(10)}, "0+1": 1, "2+3": 1}


@pytest.mark.slow
def test_two_epochs_of_the_paper_on_a_few_real_images(fresh) -> None:
    """ResNet-18 of width 64 and all: half a minute of one core on each data set."""
    few = {"train_counts": [1, 1], "test_counts": [1, 0]}
    reduced = {
        "results": "my results",
        "device": "cpu",
        "datasets": {name: {**few, "folder": str(shared_file(folder))} for name, folder in DATASETS.items()},
        "settings": {"few": {"profile": "explicit", "counts": COUNTS}},
        "recipes": {"resnet18": {"epochs": 2, "checkpoints": [2]}},
        "studies": None,
        "runs": [{"datasets": list(DATASETS), "settings": ["few"], "networks": ["resnet18"], "seeds": [0]}],
    }
    overlay = fresh.folder / "reduced.yaml"
    overlay.write_text(yaml.safe_dump(reduced))
    fresh.overlay = load_config(fresh.checkout / "config/paper.yaml", overlay)
    outcome = fresh.snakemake("collapse", timeout=900)
    assert outcome.code == 0, outcome.text
    for name in DATASETS:
        run = f"{name}/few/resnet18/seed-0"
        store = Store(fresh.manifest(run).with_name("features.zarr"))
        assert store.epochs == [2]
        last = store.epoch(2)
        assert last["prototypes_train"].shape == (55, 512)
        assert "features_train" not in last
        # After two steps at the paper's learning rate batch norm's averages are far off: finite is all to ask for.
        assert np.isfinite(last["objective"])
        history = np.loadtxt(fresh.manifest(run).with_name("history.csv"), delimiter=",", skiprows=1)
        assert history[:, 0].tolist() == [1, 2]
        assert 2.3 < history[0, 2] < 100  # chance, and the penalty on features that are still large
        rows = metric_rows(open_metrics(fresh.results / "collapse" / run))
        values = {r["metric"]: r["value"] for r in rows if r["split"] == "train" and r["multiplicity"] in ("", 2)}
        # One sample of each class does not scatter; everything else has a value.
        assert all(np.isfinite(values[m]) for m in ("nc2_w", "nc2_h", "nc3", "angle", "gap", "total_variation"))
        assert values["nc1"] == pytest.approx(0, abs=1e-9)
