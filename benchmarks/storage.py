"""What float16 and moments do to every metric of a real trained run, how large each is, and what moments cost.

Trains runs of the default configuration (settings `balanced` and `step-0.1`, seed 0), keeps their features in float32,
and analyses them three times: as they are, rounded to float16, and as moments. Prints markdown tables.
``OMP_NUM_THREADS=1 python benchmarks/storage.py [--networks mlp]``
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ncpipe.collapse.analyse import analyse_run
from ncpipe.collapse.tables import open_metrics
from ncpipe.data.synthesise import synthesise
from ncpipe.experiment.base_sets import BASE_SETS
from ncpipe.experiment.disk import checkpoint_bytes, human
from ncpipe.experiment.plan import Config, Run, data_spec, train_settings
from ncpipe.experiment.reading import load_config
from ncpipe.geometry.record import QUANTITIES
from ncpipe.stores.zarr import Array, EpochArray, EpochWriter, Store
from ncpipe.theory.analysis import write_theory
from ncpipe.train.keep import Keep
from ncpipe.train.loop import train_run

LOG = logging.getLogger("benchmark")
SETTINGS = ("balanced", "step-0.1")
MODES = ("float32", "float16", "moments")
PAPER = {"train": 40_000, "test": 10_250, "label_sets": 55, "classes": 10, "features": 512}
NOISE = 1e-13  # relative changes below this are rounding of float64


def store_as(mode: str, settings: dict[str, Any], source: Path, target: Path) -> int:
    """Write a finished run's store as a run that keeps `mode` would have; returns the bytes of its last checkpoint."""
    store = Store(source / "features.zarr")
    static, epochs = store.static(), store.epochs
    label_set = {s: static[f"label_set_{s}"].values for s in ("train", "test") if f"label_set_{s}" in static}
    keep = Keep({**settings, "features": mode}, static["label_sets"].values, label_set, None)
    first = store.epoch(epochs[0])
    width = first["classifier_weight"].shape[1]
    kept = {name: array for split in label_set for name, array in keep.arrays(split, width).items()}
    others = {
        str(n): EpochArray(tuple(map(str, v.dims)), v.shape, str(v.dtype), str(n))
        for n, v in first.items() if not str(n).startswith("features_")
    }  # fmt: skip
    arrays = {str(n): Array(tuple(map(str, v.dims)), v.values, str(n)) for n, v in static.items()}
    target.mkdir(parents=True)
    path = target / "features.zarr"
    writer = EpochWriter.create(path, epochs=epochs, arrays=kept | others, static=arrays, attributes=store.attrs)
    for index, epoch in enumerate(epochs):
        values = {str(n): v.values for n, v in store.epoch(epoch).items()}
        writer.write(index, keep.values(epoch, values))
    last = str(len(epochs) - 1)
    return sum(f.stat().st_size for f in path.rglob("*") if f.is_file() and last in f.relative_to(path).parts[2:3])


def changes(exact: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Relative change of each value, shape (epoch, ...); 0 where both are undefined."""
    assert np.array_equal(np.isnan(exact), np.isnan(found))
    with np.errstate(invalid="ignore", divide="ignore"):
        change = np.abs(found - exact) / np.abs(exact)
    return np.where((found == exact) | np.isnan(exact), 0.0, change)


def cell(change: float) -> str:
    """A relative change in words."""
    return "0" if change < NOISE else f"{change:.0e}"


def measure(config: Config, network: str, folder: Path) -> None:
    """Train, keep, analyse and print."""
    data = folder / "data"
    spec = data_spec(config, "mlab_digits")
    if not data.exists():
        synthesise(spec, data, LOG)
    names = BASE_SETS[spec["base"]].class_names
    worst: dict[str, list[float]] = {name: [0.0] * 4 for name in QUANTITIES}
    sizes: dict[str, int] = {}
    for setting in SETTINGS:
        settings = train_settings(config, Run("mlab_digits", setting, network, 0))
        source = folder / network / setting
        train_run(settings, data=data, folder=source, log=LOG, device="cpu")
        theory = source / "theory/mlab_digits" / setting / "pal.json"
        write_theory(settings["counts"], len(names), names, settings["objective"], theory)
        tables = {}
        for mode in MODES:
            sizes[mode] = store_as(mode, settings, source, source / mode)
            analyse_run(source / mode, theory, source / f"collapse-{mode}", LOG)
            tables[mode] = open_metrics(source / f"collapse-{mode}").static(*QUANTITIES)
        for name in QUANTITIES:
            for position, mode in enumerate(MODES[1:]):
                change = changes(tables["float32"][name].values, tables[mode][name].values)
                last = change[-1] if change.ndim else change
                for offset, value in enumerate((np.max(last), np.max(change))):
                    worst[name][2 * position + offset] = max(worst[name][2 * position + offset], float(value))
    print(f"\n### {network}, {' and '.join(SETTINGS)}\n")
    print(f"A checkpoint: {', '.join(f'{mode} {human(size)}' for mode, size in sizes.items())}.\n")
    print("| largest relative change | float16, last epoch | any epoch | moments, last epoch | any epoch |")
    print("|---|---|---|---|---|")
    for name, values in worst.items():
        print(f"| `{name}` | {' | '.join(map(cell, values))} |")


def cost() -> None:
    """Print processor time of one checkpoint's moments, and of the last one's, at the paper's scale."""
    counts = {(k,): 3100 for k in range(10)} | dict.fromkeys(combinations(range(10), 2), 200)
    label_sets = np.array([[k in s for k in range(10)] for s in counts], np.uint8)
    label_set = np.repeat(np.arange(len(counts), dtype=np.int32), list(counts.values()))
    test = label_set[:: len(label_set) // PAPER["test"]][: PAPER["test"]]
    rng = np.random.default_rng(0)
    means = np.maximum(rng.standard_normal((len(counts), PAPER["features"])), 0)
    values = {
        f"features_{split}": (means[index] + 0.1 * rng.random((len(index), PAPER["features"]))).astype(np.float32)
        for split, index in (("train", label_set), ("test", test))
    }
    values |= {"classifier_weight": (0.1 * means[:10]).astype(np.float32), "classifier_bias": np.zeros(10, np.float32)}
    objective = {"target": "normalised", "lambda_w": 5e-4, "lambda_h": 0.256, "lambda_b": 5e-4, "bias": True}
    keep = Keep({"features": "moments", "objective": objective, "epochs": 2}, label_sets,
                {"train": label_set, "test": test}, None)  # fmt: skip
    times = {}
    for epoch in (1, 2):
        began = time.process_time()
        keep.values(epoch, values)
        times[epoch] = time.process_time() - began
    print("\n### The paper's scale: 40,000 + 10,250 samples, d = 512, 55 label sets\n")
    print("| | a checkpoint | 15 | 200 | float32 over it |\n|---|---|---|---|---|")
    whole = checkpoint_bytes("float32", **PAPER)
    for mode in MODES:
        size = checkpoint_bytes(mode, **PAPER)
        print(f"| {mode} | {human(size)} | {human(15 * size)} | {human(200 * size)} | {whole / size:.0f} |")
    print(
        f"\nMoments cost {times[1]:.2f} s of one core a checkpoint, and {times[2] - times[1]:.0f} s once, at the last."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="*", default=["mlp", "cnn"])
    torch.set_num_threads(1)
    config = load_config(Path(__file__).parents[1] / "config.yaml")
    for network in parser.parse_args().networks:
        with tempfile.TemporaryDirectory() as folder:
            measure(config, network, Path(folder))
    cost()


if __name__ == "__main__":
    main()
