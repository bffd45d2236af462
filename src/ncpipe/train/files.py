"""The files of one run, what of them a new start goes on from, and how its store is laid out."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ncpipe.errors import DivergenceError, StateMismatchError, StoreError
from ncpipe.results.datasets import DataSplit
from ncpipe.stores.files import differences, hash_json, read_json, write_atomically, write_json, write_manifest
from ncpipe.stores.zarr import Array, EpochArray, EpochWriter, Store
from ncpipe.train.keep import Keep
from ncpipe.train.optimiser import learning_rate
from ncpipe.train.state import load_state
from ncpipe.train.trainer import Trainer

SCALARS = {
    "objective": "terminal objective (7) on the training split",
    "objective_loss": "mean loss of the training split",
    "objective_classifier": "classifier penalty of (7)",
    "objective_feature": "feature penalty of (7)",
    "objective_bias": "bias penalty of (7)",
    "error_train": "share of training samples whose top-|S| logits are not S",
    "score_train": "softmax mass on the true labels, training split",
}
TEST_SCALARS = {
    "error_test": "share of test samples whose top-|S| logits are not S",
    "score_test": "softmax mass on the true labels, test split",
}


class RunFiles:
    """The files of one run: store, state, history, manifest, and whatever an earlier run under other settings left."""

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder, self.identity = folder, identity
        self.store, self.state = folder / "features.zarr", folder / "state" / "state.npz"
        self.history, self.manifest = folder / "history.csv", folder / "manifest.json"
        self.aside, self.divergence = folder / "superseded", folder / "divergence.json"

    def set_aside(self) -> None:
        """Move what is there out of the way, until the new run has finished."""
        self.aside.mkdir(exist_ok=True)
        for path in (self.store, self.state, self.history, self.manifest):
            if path.exists():
                target = self.aside / path.name
                if target.exists():
                    # An older generation is here and this one never finished: keep the finished one.
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                else:
                    path.rename(target)

    def write_history(self, losses: list[float], recipe: Mapping[str, Any], epochs: int) -> bytes:
        """Write one line per finished epoch: epoch, learning rate, mean loss of its batches."""
        lines = ["epoch,learning_rate,loss"]
        lines += [f"{e + 1},{learning_rate(recipe, e, epochs)!r},{loss!r}" for e, loss in enumerate(losses)]
        content = ("\n".join(lines) + "\n").encode()
        write_atomically(self.history, content)
        return content

    def write_manifest(self, environment: Mapping[str, Any], history: bytes) -> None:
        """Write what the run is and what it made: the sign that it has finished."""
        store = Store(self.store)
        write_manifest(
            self.manifest,
            {
                "kind": "train",
                "identity": self.identity,
                "identity_hash": hash_json(self.identity),
                "environment": environment,
                "epochs": store.epochs,
                "store": self.store.name,
                "store_digest": store.digest(),
                "history_sha256": hashlib.sha256(history).hexdigest(),
            },
        )

    def record_divergence(self, environment: Mapping[str, Any], error: DivergenceError) -> None:
        """Remember that this run has diverged."""
        record = {"identity_hash": hash_json(self.identity), "environment": environment, "message": str(error)}
        write_json(self.divergence, record)

    def check_divergence(self, environment: Mapping[str, Any]) -> None:
        """Raise again what the same run has raised before in the same environment: a retry would come to it again.

        Raises
        ------
        DivergenceError
        """
        if not self.divergence.exists():
            return
        record = read_json(self.divergence)
        if record.get("identity_hash") == hash_json(self.identity) and record.get("environment") == environment:
            again = f"(Seen before: to train it again, remove {self.divergence}.)"
            raise DivergenceError(f"{record.get('message')} {again}")

    def remove_superseded(self) -> None:
        """Drop the older generation, and the record of an earlier divergence; this run has finished."""
        shutil.rmtree(self.aside, ignore_errors=True)
        self.divergence.unlink(missing_ok=True)

    def remove_partial(self) -> None:
        """Remove what killed processes left of small files that they were writing (hold the lock)."""
        for leftover in (*self.folder.glob(".*.partial"), *self.state.parent.glob(".*.partial")):
            leftover.unlink()


def resume(run: RunFiles, log: logging.Logger, on_mismatch: str) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """Return the state to go on from, or None for a fresh start (whatever was there has been set aside)."""
    try:
        state = load_state(run.state)
        if state is not None and (found := state[0]["identity"]) != run.identity:
            changes = "; ".join(differences(found, run.identity))
            if on_mismatch == "refuse":
                raise StateMismatchError(
                    f"{run.state}: the resume state belongs to other settings ({changes}); restore them, or start "
                    f"afresh with --fresh"
                )
            log.warning("starting afresh, the state belongs to other settings: %s", changes)
            state = None
        elif state is not None:
            faults = _faults(run.store, state[1])
            if faults:
                raise StoreError("; ".join(faults))
    except StateMismatchError:
        raise
    except StoreError as error:
        if on_mismatch == "refuse":
            raise StoreError(f"{error}; start afresh with --fresh") from error
        log.warning("starting afresh, what is here is damaged: %s", error)
        state = None
    if state is None:
        run.set_aside()
    return state


def _faults(path: Path, state: Mapping[str, np.ndarray]) -> list[str]:
    """Faults of the store among the epochs that the state knows to be finished (it may lag behind the store)."""
    writer = EpochWriter(path)
    writer.restore(state["digests"], state["finished"])
    return Store(path).verify()


def create_store(
    run: RunFiles,
    settings: Mapping[str, Any],
    trainer: Trainer,
    keep: Keep,
    train: DataSplit,
    test: DataSplit | None,
    weights: np.ndarray | None,
) -> EpochWriter:
    """Lay the store of a run out: every array of every checkpoint, and the labels they belong to."""
    width, classes = trainer.classifier.in_features, trainer.classifier.out_features
    arrays = keep.arrays("train", width)
    arrays |= {
        "classifier_weight": EpochArray(("class", "feature"), (classes, width), "float32", "classifier weight"),
        "classifier_bias": EpochArray(("class",), (classes,), "float32", "classifier bias"),
    } | {name: EpochArray((), (), "float64", text) for name, text in SCALARS.items()}
    static = {
        "label_sets": Array(("label_set", "class"), train.label_sets, "multi-hot label sets"),
        "label_set_train": Array(("train_sample",), train.label_set, "label set of each training sample"),
    }
    if weights is not None:
        static["label_set_weight"] = Array(("label_set",), weights, "sampling weight of each training sample")
    if test is not None:
        arrays |= keep.arrays("test", width)
        arrays |= {name: EpochArray((), (), "float64", text) for name, text in TEST_SCALARS.items()}
        static["label_set_test"] = Array(("test_sample",), test.label_set, "label set of each test sample")
    attributes = {
        **settings["run"],
        "objective": settings["objective"],
        "architecture": settings["network"]["architecture"],
        "class_names": list(train.class_names),
    } | ({} if weights is None else {"sampling": settings["sampling"]})
    return EpochWriter.create(
        run.store, epochs=settings["checkpoints"], arrays=arrays, static=static, attributes=attributes
    )
