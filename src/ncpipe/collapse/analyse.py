"""One run's features to its collapse metrics, the same metrics of certified optima, and the tidy tables of both."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy

import ncpipe
from ncpipe.collapse.record import metric_arrays
from ncpipe.collapse.run import OpenRun
from ncpipe.geometry.measure import (
    GAP_PARTS,
    Predictions,
    classifier_metrics,
    gap_metrics,
    geometry_metrics,
    no_distribution,
    optimality_metrics,
    reference_bound,
    spectral_metrics,
)
from ncpipe.geometry.metrics import VARIANTS, UndefinedMetric, weakest_contrast
from ncpipe.geometry.optimality import ResidualSpectrum
from ncpipe.geometry.record import QUANTITIES, SPLITS, Record
from ncpipe.geometry.synthesis import fit_synthesis
from ncpipe.jobs import one_thread
from ncpipe.labels.distribution import contrast_classes
from ncpipe.results.theory_file import Theory, read_theory
from ncpipe.stores.files import write_manifest
from ncpipe.stores.zarr import Array, Store, write_store

# A residual direction counts as missing in the classifier where σ(R)/λ is above 1 by more than this.
_STATIONARY = 1e-3


@dataclass(frozen=True, eq=False)
class _Epoch:
    """What is kept of an epoch beside its metrics."""

    prototypes: np.ndarray  # (S, d) float32, train
    contrast_prototypes: np.ndarray  # (K,), NaN where undefined
    contrast_classifier: np.ndarray  # (K,)
    residuals: ResidualSpectrum


def _contrast(rows: Callable[[], np.ndarray], classes: int) -> np.ndarray:
    """Weakest contrast of rows, shape (K,); NaN where there is none, and the metric of that name says why."""
    try:
        return weakest_contrast(rows()).contrast
    except UndefinedMetric:
        return np.full(classes, np.nan)


def _analyse_epoch(run: OpenRun, theory: Theory, record: Record, epoch: int) -> _Epoch:
    checkpoint, place = run.checkpoint(epoch), {"epoch": epoch}
    weight, terms, train = checkpoint.weight, checkpoint.terms, run.samples["train"]
    classifier_metrics(record, place, weight)
    condensed = {split: checkpoint.condensed(split) for split in run.samples}
    for split in run.samples:
        at = {**place, "split": split}
        geometry_metrics(record, at, condensed[split], weight, checkpoint.bias)
        record.keep("error", at, checkpoint.scalar(f"error_{split}"))
        if run.objective.facts.one_distribution:
            record.keep("score", at, checkpoint.scalar(f"score_{split}"))
        else:
            record.lack("score", at, no_distribution(run.objective))
    each = checkpoint.predictions if run.objective.facts.one_distribution else None
    predictions = Predictions(each, train.label_set, train.factors)
    optimality_metrics(record, place, terms, predictions, theory, run.reference)
    residuals = spectral_metrics(record, place, checkpoint.mean_predictions, terms.total, theory, run.reference)
    return _Epoch(
        condensed["train"].prototypes.astype(np.float32),
        _contrast(lambda: condensed["train"].class_means, len(weight)),
        _contrast(lambda: weight, len(weight)),
        residuals,
    )


def _analyse_end(run: OpenRun, theory: Theory, record: Record) -> list[dict[str, Any]]:
    """Split the last epoch's gap and fit its synthesis weights; returns the synthesis records."""
    checkpoint, train = run.checkpoint(run.store.epochs[-1]), run.samples["train"]
    prototypes = checkpoint.condensed("train").prototypes
    try:
        refit, bound = checkpoint.refit(), reference_bound(theory, run.reference)
    except UndefinedMetric as reason:
        for part in GAP_PARTS:
            record.lack(f"gap_{part}", {}, str(reason))
    else:
        gap_metrics(record, refit, prototypes, train.sampled, run.objective, bound)
    return fit_synthesis(prototypes, checkpoint.weight, train.distribution)


def _absences(record: Record, run: OpenRun, multiplicities: Sequence[int]) -> None:
    """Say which splits and which of their multiplicities are not there."""
    for name, quantity in QUANTITIES.items():
        for split in SPLITS if "split" in quantity.dims else ():
            if split not in run.samples:
                record.lack(name, {"split": split}, f"this network has no features of the {split} split")
            elif "multiplicity" in quantity.dims:
                present = run.samples[split].distribution.multiplicities
                for m in (m for m in multiplicities if m >= quantity.smallest and m not in present):
                    record.lack(name, {"split": split, "multiplicity": m}, f"no label set of multiplicity {m}")


@one_thread
def analyse_run(run_folder: Path, theory_path: Path, output_folder: Path, log: logging.Logger) -> None:
    """Compute all metrics of a run, epoch by epoch; writes ``metrics.zarr`` and, last, ``manifest.json``.

    One epoch is in memory at a time. A metric that is not defined is NaN, and the store's attribute ``undefined``
    says why.

    Parameters
    ----------
    run_folder : Path
        Of the train stage: ``features.zarr`` and ``manifest.json``.
    theory_path : Path
        The theory file of the same data set, setting and objective.
    output_folder : Path
    log : logging.Logger

    Raises
    ------
    InputError
        If no epoch is finished, values are not finite (epoch, array and their number are named), features are negative
        where they cannot be, or theory and run do not belong together.
    StoreError
        If a file or store is missing or damaged.
    """
    run, theory, record = OpenRun(run_folder), read_theory(theory_path), Record()
    run.matches(theory, theory_path)
    epochs: list[_Epoch] = []
    for number in run.store.epochs:
        epochs.append(_analyse_epoch(run, theory, record, number))
        log.info("epoch %d of %d", number, run.store.epochs[-1])
    synthesis = _analyse_end(run, theory, record)
    multiplicities = sorted({m for samples in run.samples.values() for m in samples.distribution.multiplicities})
    _absences(record, run, multiplicities)

    train = run.samples["train"]
    distribution = train.distribution
    arrays = {
        **metric_arrays(record, run.store.epochs, multiplicities),
        "epoch": Array(("epoch",), np.asarray(run.store.epochs, np.int64), "epoch", "epoch"),
        "multiplicity": Array(("multiplicity",), np.asarray(multiplicities, np.int64), "labels of a sample"),
        "label_sets": Array(("label_set", "class"), distribution.multi_hot().astype(np.uint8), "multi-hot label sets"),
        "label_set_count": Array(("label_set",), distribution.counts, "training samples of each label set"),
        **_stacked(epochs),
    }
    if run.weighted:
        arrays["label_set_weight"] = Array(("label_set",), train.weights, "sampling weight of each training sample")
    output_folder.mkdir(parents=True, exist_ok=True)
    write_store(output_folder / "metrics.zarr", arrays, attributes=_attributes(run, record, epochs[-1], synthesis))
    versions = {"ncpipe": ncpipe.__version__, "numpy": np.__version__, "scipy": scipy.__version__}
    write_manifest(
        output_folder / "manifest.json",
        {
            "kind": "collapse",
            "run": run.identity,
            "inputs": {"features": run.digest, "theory": theory.digest},
            "versions": {**versions, "python": platform.python_version()},
            "epochs": run.store.epochs,
            "store": "metrics.zarr",
            "store_digest": Store(output_folder / "metrics.zarr").digest(),
        },
    )


def _stacked(epochs: Sequence[_Epoch]) -> dict[str, Array]:
    def stack(dims: tuple[str, ...], values: list[np.ndarray], long_name: str) -> Array:
        return Array(("epoch", *dims), np.stack(values), long_name)

    return {
        "prototypes": stack(("label_set", "feature"), [e.prototypes for e in epochs], "mean training feature"),
        "contrast_prototypes": stack(
            ("class",), [e.contrast_prototypes for e in epochs], "weakest contrast of the training class means"
        ),
        "contrast_classifier": stack(
            ("class",), [e.contrast_classifier for e in epochs], "weakest contrast of the classifier"
        ),
        "residual_ratio": stack(
            ("direction",), [e.residuals.ratios for e in epochs], "singular values of residuals over lambda, (23)"
        ),
        "residual_direction": stack(
            ("direction", "class"), [e.residuals.directions for e in epochs], "their directions in class space"
        ),
    }


def _attributes(run: OpenRun, record: Record, last: _Epoch, synthesis: list[dict[str, Any]]) -> dict[str, Any]:
    classes, width = run.samples["train"].distribution.classes, last.prototypes.shape[1]
    notes, least = [], classes - (run.objective.least_width == "K - 1")
    if width < least:
        notes.append(
            f"feature width {width} < {run.objective.least_width} = {least}: the bounds hold but cannot be attained"
        )
    missing = [
        {"ratio": float(ratio), "classes": contrast_classes(direction, run.class_names)}
        for ratio, direction in zip(last.residuals.ratios, last.residuals.directions, strict=True)
        if ratio > 1 + _STATIONARY
    ]
    contrasts = {
        f"weakest_contrast_{name}": None if np.isnan(vector).any() else contrast_classes(vector, run.class_names)
        for name, vector in (("prototypes", last.contrast_prototypes), ("classifier", last.contrast_classifier))
    }
    return {
        **run.identity,
        "reference": run.reference,
        "class_names": run.class_names,
        "split": list(SPLITS),
        "variant": list(VARIANTS),
        "undefined": record.undefined,
        "notes": notes,
        "last_epoch": {**contrasts, "missing_directions": missing},
        "synthesis": synthesis,
    }
