"""What a run is and how far it is, read from its store and resume state; also while it is still training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ncpipe.errors import StoreError
from ncpipe.experiment.architectures import ARCHITECTURES
from ncpipe.experiment.plan import DEFAULT_FEATURES, Run
from ncpipe.stores.zarr import Store
from ncpipe.train.state import load_state

SHOWN = ("objective", "objective_loss", "error_train", "error_test")


def describe_run(folder: Path) -> dict[str, Any]:
    """Describe the run in `folder`: settings, environment, finished epochs, and numbers at the last checkpoint.

    Raises
    ------
    StoreError
        If there is no run, or its store or state is damaged.
    """
    state = load_state(folder / "state" / "state.npz")
    if state is None:
        raise StoreError(f"{folder}: no run here (state/state.npz is missing)")
    header = state[0]
    settings, store = header["identity"]["settings"], Store(folder / "features.zarr")
    names = [
        name for name in SHOWN if name != "error_test" or not ARCHITECTURES[settings["network"]["architecture"]].free
    ]
    last = {}
    if store.epochs:
        values = store.epoch(store.epochs[-1], *names)
        last = {"epoch": store.epochs[-1], **{name: float(values[name]) for name in names}}
    return {
        "run": settings["run"],
        "network": settings["network"],
        "objective": settings["objective"],
        "recipe": settings["recipe"],
        "samples": sum(settings["counts"].values()),
        "sampling": settings.get("sampling", {"method": "natural", "cap": None}),
        "environment": header["environment"],
        "epoch": header["epoch"],
        "epochs": settings["epochs"],
        "finished": header["epoch"] == settings["epochs"] and (folder / "manifest.json").is_file(),
        "features": settings.get("features", DEFAULT_FEATURES),
        "checkpoints": {"finished": store.epochs, "planned": store.planned_epochs},
        "last_checkpoint": last,
    }


def format_run(description: dict[str, Any]) -> str:
    """Lay a description out for a terminal."""

    def pairs(key: str) -> str:
        return ", ".join(f"{k} {v}" for k, v in description[key].items())

    checkpoints, sampling = description["checkpoints"], description["sampling"]
    progress = "finished" if description["finished"] else "not finished"
    rows = {
        "run": Run(**description["run"]).name,
        "network": pairs("network"),
        "objective": pairs("objective"),
        "recipe": pairs("recipe"),
        "samples": str(description["samples"]),
        "sampling": sampling["method"] + ("" if sampling["cap"] is None else f", cap {sampling['cap']:g}"),
        "environment": pairs("environment"),
        "progress": f"epoch {description['epoch']} of {description['epochs']}, {progress}",
        "features kept": description["features"],
        "checkpoints": f"{len(checkpoints['finished'])} of {len(checkpoints['planned'])}: "
        + (", ".join(map(str, checkpoints["finished"])) or "none yet"),
        "last checkpoint": ", ".join(f"{k} {v:.6g}" for k, v in description["last_checkpoint"].items()) or "none yet",
    }
    return "\n".join(f"{name:<16}{text}" for name, text in rows.items())
