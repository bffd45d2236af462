"""How many bytes the planned runs still have to write: an estimate from the configuration alone, and what is free.

Imports nothing heavy: the workflow asks before it starts. What is counted: images, the features that checkpoints keep,
three times the parameters of each network, and a margin for all that is small; so the estimate errs upwards.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from ncpipe.errors import StoreError
from ncpipe.experiment.architectures import ARCHITECTURES
from ncpipe.experiment.base_sets import BASE_SETS
from ncpipe.experiment.plan import DEFAULT_FEATURES, Config, Run, balanced_counts, train_settings

MARGIN = 1.05
BLOCK = 4096  # bytes that the smallest file takes
_DATASET_BLOCKS, _RUN_BLOCKS, _CHECKPOINT_BLOCKS = 16, 128, {"float32": 16, "float16": 16, "moments": 28}


def dataset_bytes(dataset: Mapping[str, Any]) -> int:
    """Bytes of a data set's images, labels and indices, as an upper bound: they are compressed."""
    base = BASE_SETS[dataset["base"]]
    samples = sum(_samples(dataset[f"{split}_counts"], base.classes) for split in ("train", "test"))
    return round(MARGIN * samples * (base.channels * (2 * base.side) ** 2 + 20)) + BLOCK * _DATASET_BLOCKS


def _samples(per_set: Sequence[int], classes: int) -> int:
    return sum(balanced_counts(per_set, classes).values())


def checkpoint_bytes(kept: str, *, train: int, test: int, label_sets: int, classes: int, features: int) -> int:
    """Bytes of one checkpoint in a run's store and in its metrics.

    Parameters
    ----------
    kept : {"float32", "float16", "moments"}
    train, test : int
        Samples of the splits.
    label_sets, classes, features : int
        S, K and d.
    """
    if kept == "moments":
        values = 2 * (8 * (label_sets + classes) * features + 8 * classes**2) + 2 * train * classes
        values += 8 * label_sets * classes
    else:
        values = (train + test) * features * {"float32": 4, "float16": 2}[kept]
    analysed = 4 * (label_sets + classes) * features + 16 * classes**2
    return values + analysed + BLOCK * _CHECKPOINT_BLOCKS[kept]


def run_bytes(config: Config, run: Run) -> int:
    """Bytes that a whole run writes: store, resume state, and metrics, as an upper bound."""
    dataset, settings = config["datasets"][run.dataset], train_settings(config, run)
    base, network = BASE_SETS[dataset["base"]], settings["network"]
    architecture, samples = ARCHITECTURES[network["architecture"]], sum(settings["counts"].values())
    occurring = {**balanced_counts(dataset["train_counts"], base.classes)}
    label_sets = occurring | balanced_counts(dataset["test_counts"], base.classes)
    features = architecture.features(network)
    parameters = architecture.parameters(network, (base.channels, 2 * base.side, 2 * base.side), samples)
    checkpoint = checkpoint_bytes(
        settings.get("features", DEFAULT_FEATURES),
        train=samples,
        test=0 if architecture.free else _samples(dataset["test_counts"], base.classes),
        label_sets=len(label_sets),
        classes=base.classes,
        features=features,
    )
    state = 3 * 4 * (parameters + base.classes * (features + 1))
    labels = 4 * samples + len(label_sets) * base.classes
    return round(MARGIN * (len(settings["checkpoints"]) * checkpoint + state + labels)) + BLOCK * _RUN_BLOCKS


def _written(folder: Path) -> int:
    """Bytes that a folder takes on the disk."""
    total = 0
    for root, _, files in os.walk(folder):
        for name in files:
            total += os.stat(os.path.join(root, name)).st_blocks * 512
    return total


def _is_finished(manifest: Path, settings: Mapping[str, Any], version: int) -> bool:
    """Whether a run has finished under these settings; under others it will be made again beside what is there."""
    try:
        identity = json.loads(manifest.read_text(encoding="utf-8"))["identity"]
        return bool(identity["settings"] == settings and identity["algorithm_version"] == version)
    except (OSError, ValueError, KeyError, TypeError):
        return False  # damaged: the run is made again


def disk_need(config: Config, runs: Sequence[Run], manifest_of: Callable[[str, str], str], version: int) -> int:
    """Bytes still to be written for these runs and their data sets.

    What a run that is not finished has written already is subtracted.

    Parameters
    ----------
    config : mapping
    runs : sequence of Run
    manifest_of : callable
        Path of the manifest of a stage's data set or run: `ncpipe.results.layout.Layout.manifest`.
    version : int
        Of the training algorithm: runs of another are made again.
    """
    need = 0
    for name in dict.fromkeys(run.dataset for run in runs):
        if not os.path.exists(manifest_of("data", name)):
            need += dataset_bytes(config["datasets"][name])
    sizes: dict[tuple[str, str, str], int] = {}  # alike for every seed
    for run in runs:
        manifest, kind = Path(manifest_of("train", run.name)), (run.dataset, run.setting, run.network)
        made = os.path.exists(manifest)
        if made and _is_finished(manifest, train_settings(config, run), version):
            continue
        if kind not in sizes:
            sizes[kind] = run_bytes(config, run)
        written = 0 if made else _written(manifest.parent)
        need += max(0, sizes[kind] - written)
    return need


def free_bytes(folder: Path) -> int:
    """Bytes free for this user where `folder` is, or will be; a quota is not seen."""
    # os.path.isdir is plainly false for a folder that may not be looked into.
    return shutil.disk_usage(next(p for p in chain([folder], folder.absolute().parents) if os.path.isdir(p))).free


def human(size: float) -> str:
    """A number of bytes in words: ``3.2 GB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def disk_line(need: int, free: int, folder: str) -> str:
    """The line that says what is still to be written."""
    return (
        f"Disk: {human(need)} still to be written under {folder} ({human(free)} free{', too little' * (need > free)})"
    )


def megabytes(size: int) -> int:
    """Whole megabytes that hold so many bytes."""
    return -(-size // 10**6)


def check_room(folder: Path, need_mb: int) -> None:
    """Refuse to begin what will not fit on the disk, less what an earlier attempt has written to `folder` already.

    Parameters
    ----------
    folder : Path
        What a run, or a data set, is written to.
    need_mb : int
        Megabytes that it takes in all, at most: `run_bytes` or `dataset_bytes`.

    Raises
    ------
    StoreError
        The message names the need, the room, the folder, and what lowers the need.
    """
    free, left = free_bytes(folder), need_mb * 10**6 - _written(folder)
    if left > free:
        raise StoreError(
            f"{folder}: {human(left)} still to be written, {human(free)} free; free some, name another folder "
            f"(results), or store less: recipes.<name>.features (moments, float16), fewer recipes.<name>.checkpoints"
        )
