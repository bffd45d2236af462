"""How many bytes the planned runs still have to write: an estimate from the configuration alone, and what is free.

Imports nothing heavy: the workflow asks before it starts. Every array is counted uncompressed and every file rounded
up to a block, so that the estimate errs upwards; folders, tables and figures are not counted.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from ncpipe.experiment.architectures import network_size
from ncpipe.experiment.base_sets import BASE_SETS
from ncpipe.experiment.plan import DEFAULT_FEATURES, Config, Run, balanced_counts, train_settings
from ncpipe.labels.names import parse_label_set
from ncpipe.train import TRAIN_VERSION

BLOCK = 4096  # bytes: what a file's size is rounded up to
_SCALARS = {"train": 7, "test": 2}
_COLLAPSE_METRICS = 40  # arrays of one number or a few for each checkpoint
# Small files beside the arrays that are counted: metadata of every array, what is written once, manifests.
_DATASET_FILES, _METRICS_FILES = 9, 88
_STORE_FILES = {"float32": 22, "float16": 22, "moments": 35}


def _on_disk(files: Iterable[float]) -> int:
    return sum(BLOCK * math.ceil(size / BLOCK) for size in files)


def dataset_bytes(dataset: Mapping[str, Any]) -> int:
    """Bytes of a data set's images, labels and indices, as an upper bound: they are compressed."""
    base = BASE_SETS[dataset["base"]]
    total = BLOCK * _DATASET_FILES
    for split in ("train", "test"):
        samples = sum(balanced_counts(dataset[f"{split}_counts"], base.classes).values())
        total += _on_disk([samples * base.channels * (2 * base.side) ** 2, samples * 20])
    return total


def checkpoint_bytes(
    kept: str, *, train: int, test: int, label_sets: int, classes: int, features: int, free: bool = False
) -> int:
    """Bytes of one checkpoint in a run's store and in its metrics.

    Parameters
    ----------
    kept : {"float32", "float16", "moments"}
    train, test : int
        Samples of the splits.
    label_sets, classes, features : int
        S, K and d.
    free : bool
        Whether features are free: there is no test split then.
    """
    splits = {"train": train} if free else {"train": train, "test": test}
    arrays = [4 * classes * features, 4 * classes, *[8] * sum(_SCALARS[split] for split in splits)]
    for split, samples in splits.items():
        if kept != "moments":
            arrays.append(samples * features * {"float32": 4, "float16": 2}[kept])
            continue
        arrays += [8 * label_sets * features, 8 * classes * features, 8 * classes**2]
        if split == "train":
            arrays += [2 * samples * classes, 8 * label_sets * classes]
    metrics = 4 * label_sets * features + 8 * classes**2 + 8 * _COLLAPSE_METRICS
    return _on_disk([*arrays, 32 * len(arrays)]) + metrics


def run_bytes(config: Config, run: Run) -> int:
    """Bytes that a whole run writes: store, resume state, and metrics, as an upper bound."""
    dataset, settings = config["datasets"][run.dataset], train_settings(config, run)
    base, network, kept = BASE_SETS[dataset["base"]], settings["network"], settings.get("features", DEFAULT_FEATURES)
    counts, test = settings["counts"], balanced_counts(dataset["test_counts"], base.classes)
    label_sets = {*balanced_counts(dataset["train_counts"], base.classes), *test, *map(parse_label_set, counts)}
    free, samples = network["architecture"] == "ufm", sum(counts.values())
    size = network_size(network, (base.channels, 2 * base.side, 2 * base.side), samples)
    checkpoints = len(settings["checkpoints"]) * checkpoint_bytes(
        kept, train=samples, test=sum(test.values()), label_sets=len(label_sets), classes=base.classes,
        features=size.features, free=free,
    )  # fmt: skip
    classifier = base.classes * (size.features + 1)
    refit = _on_disk([8 * base.classes * size.features, 8 * base.classes, 8, 8, 8]) if kept == "moments" else 0
    labels = _on_disk([4 * samples, 4 * sum(test.values()) * (not free), len(label_sets) * base.classes])
    arrays = 2 * size.arrays + 10
    state = 4 * (2 * (size.parameters + classifier) + size.statistics) + 400 * arrays + BLOCK
    files = BLOCK * (_STORE_FILES[kept] + _METRICS_FILES)
    return checkpoints + refit + labels + files + _on_disk([state])


def _written(folder: Path) -> int:
    """Bytes that a folder takes on the disk."""
    total = 0
    for root, _, files in os.walk(folder):
        for name in files:
            total += os.stat(os.path.join(root, name)).st_blocks * 512
    return total


def _is_finished(manifest: Path, settings: Mapping[str, Any]) -> bool:
    """Whether a run has finished under these settings; under others it will be made again beside what is there."""
    try:
        identity = json.loads(manifest.read_text())["identity"]
        return bool(identity["settings"] == settings and identity["algorithm_version"] == TRAIN_VERSION)
    except (OSError, ValueError, KeyError, TypeError):
        return False  # damaged: the run is made again


def disk_need(config: Config, runs: Sequence[Run]) -> int:
    """Bytes still to be written for these runs and their data sets, under the configuration's results folder.

    What a run that is not finished has written already is subtracted.
    """
    results = Path(config["results"])
    need = 0
    for name in dict.fromkeys(run.dataset for run in runs):
        if not os.path.exists(results / "data" / name / "manifest.json"):
            need += dataset_bytes(config["datasets"][name])
    sizes: dict[tuple[str, str, str], int] = {}  # alike for every seed
    for run in runs:
        folder, kind = results / "train" / run.name, (run.dataset, run.setting, run.network)
        manifest = folder / "manifest.json"
        made = os.path.exists(manifest)
        if made and _is_finished(manifest, train_settings(config, run)):
            continue
        if kind not in sizes:
            sizes[kind] = run_bytes(config, run)
        written = 0 if made else sum(_written(folder / part) for part in ("features.zarr", "state"))
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


def refusal(need: int, free: int, folder: str) -> str | None:
    """The line that says why nothing is started; None where there is room."""
    if need <= free:
        return None
    return (
        f"Disk: {human(need)} still to be written under {folder}, {human(free)} free; free some, name another folder "
        f"(results), or store less: recipes.<name>.features (moments, float16), fewer recipes.<name>.checkpoints"
    )
