"""One run's features to its collapse metrics, the same metrics of certified optima, and the tidy tables of both."""

from __future__ import annotations

import logging
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy

import ncpipe
from ncpipe.collapse.optimality import ResidualSpectrum, residual_spectrum, split_gap, total_variation, weakest_margin
from ncpipe.collapse.record import QUANTITIES, SPLITS, Place, Record
from ncpipe.collapse.run import OpenRun
from ncpipe.geometry.metrics import (
    VARIANTS,
    Condensed,
    UndefinedMetric,
    angle_metric,
    nc1,
    nc2_h,
    nc2_w,
    nc3,
    weakest_contrast,
    weakest_logits,
)
from ncpipe.geometry.synthesis import fit_synthesis, geometry_bound, single_prototypes, tagwise_residuals
from ncpipe.labels.distribution import contrast_classes
from ncpipe.objective.settings import Objective
from ncpipe.objective.terms import Terms, prediction_sigma, radius
from ncpipe.results.theory_file import Reference, ReferenceName, Theory, read_theory
from ncpipe.stores.files import write_manifest
from ncpipe.stores.zarr import Array, Store, write_store

# A residual direction counts as missing in the classifier where σ(R)/λ is above 1 by more than this.
_STATIONARY = 1e-3


def geometry_metrics(record: Record, place: Place, condensed: Condensed, weight: np.ndarray, bias: np.ndarray) -> None:
    """Record what one split's geometry says: NC1 to NC3, angles, tag-wise residuals, (13), contrasts, margins.

    Parameters
    ----------
    record : Record
    place : mapping
        ``epoch`` and ``split``.
    condensed : Condensed
    weight, bias : ndarray, shapes (K, d) and (K,)
    """
    distribution = condensed.distribution
    for variant in VARIANTS:
        at = {**place, "variant": variant}
        record.compute("nc1", at, nc1, condensed, variant)
        record.compute("nc2_h", at, nc2_h, condensed, variant)
        record.compute("nc3", at, nc3, weight, condensed, variant)
    record.compute("nc2_h_uncentred", place, nc2_h, condensed, "li2024")
    record.compute("weakest_contrast_prototypes", place, _class_mean_contrast, condensed)
    logits, multi_hot = condensed.prototypes @ weight.T + bias, distribution.multi_hot()  # (S, K)
    record.keep("sigma_min_logits", place, weakest_logits(logits, distribution))
    for m in distribution.multiplicities:
        at, rows = {**place, "multiplicity": m}, distribution.multiplicity == m
        record.compute("weakest_margin", at, weakest_margin, logits[rows], multi_hot[rows])
        if m >= 2:
            record.compute("angle", at, angle_metric, condensed, m)
            _synthesis_metrics(record, at, condensed, m)


def _class_mean_contrast(condensed: Condensed) -> float:
    return weakest_contrast(condensed.class_means).value


def _synthesis_metrics(record: Record, place: Place, condensed: Condensed, multiplicity: int) -> None:
    prototypes, distribution = condensed.prototypes, condensed.distribution
    tagwise = tagwise_residuals(prototypes, distribution, multiplicity)
    bound = geometry_bound(prototypes, distribution, multiplicity)
    values = {"tagwise_residual": tagwise.residual, "tagwise_residual_per_set": tagwise.residual_per_set}
    without = dict.fromkeys(values, "a class has no sample of multiplicity one, or the prototypes vanish")
    sides = ("geometry_sigma", "geometry_bound", "geometry_tightness")
    if prototypes.shape[1] < distribution.classes - 1:
        reason = f"the feature width {prototypes.shape[1]} is below K - 1 = {distribution.classes - 1}"
        values |= dict.fromkeys(sides)
        without |= dict.fromkeys(sides, reason)
    elif bound is None:
        values |= dict.fromkeys(sides)
        without |= dict.fromkeys(sides, "a class has no sample of multiplicity one")
    else:
        values |= {"geometry_sigma": bound.sigma, "geometry_bound": bound.bound, "geometry_tightness": bound.tightness}
        without["geometry_tightness"] = "κ_m, the fitted scale or the weakest contrast of the class means is 0"
    for name, value in values.items():
        if value is None:
            record.lack(name, place, without[name])
        else:
            record.keep(name, place, value)


def classifier_metrics(record: Record, place: Place, weight: np.ndarray) -> None:
    """Record what the classifier alone says, shape (K, d)."""
    record.compute("nc2_w", place, nc2_w, weight)
    record.compute("weakest_contrast_classifier", place, _classifier_contrast, weight)


def _classifier_contrast(weight: np.ndarray) -> float:
    return weakest_contrast(weight).value


def optimality_metrics(
    record: Record,
    place: Place,
    terms: Terms,
    probabilities: np.ndarray | None,
    label_set: np.ndarray,
    theory: Theory,
    reference: ReferenceName,
    factors: np.ndarray | None = None,
) -> None:
    """Record objective, gaps, and the distance from the reference optimum.

    Parameters
    ----------
    record : Record
    place : mapping
        ``epoch``.
    terms : Terms
        Of (7).
    probabilities : ndarray, shape (N, K), or None
        Predictions; None for losses whose predictions are not one distribution over the classes.
    label_set : ndarray of int, shape (N,)
        Position of each sample's label set in the theory's distribution.
    theory : Theory
    reference : {"convex", "relu"}
        The optimum that fits the features.
    factors : ndarray, shape (N,), optional
        Sampling weight of each sample.
    """
    for name in ("loss", "classifier", "feature", "bias"):
        record.keep(f"objective_{name}", place, getattr(terms, name))
    record.keep("objective", place, terms.total)
    bound = theory.references["convex"].bound
    record.keep("gap", place, terms.total - bound)
    record.keep("relative_gap", place, (terms.total - bound) / bound)
    record.compute("gap_reference", place, lambda: terms.total - reference_bound(theory, reference))
    record.compute("excess_relu", place, lambda: terms.total - _reference(theory, "relu").objective)
    if probabilities is None:
        record.lack("total_variation", place, _no_distribution(theory.objective))
        return
    record.compute(
        "total_variation",
        place,
        lambda: total_variation(probabilities, _reference(theory, reference).probabilities, label_set, factors),
    )


def _no_distribution(objective: Objective) -> str:
    return f"predictions of loss {objective.loss} are not one distribution over the classes"


def spectral_metrics(
    record: Record,
    place: Place,
    probabilities: np.ndarray,
    objective: float,
    theory: Theory,
    reference: ReferenceName,
) -> ResidualSpectrum:
    """Record what (20) and (23) say of predictions, averaged within each label set, shape (S, K).

    The law (20): σ_{K−1}(F) >= √κ_pool − λ − √(τ_max ε), with √2 λ for features >= 0 and ε the gap to the bound that
    fits the features; √κ_pool is the same singular value of the targets. Neither holds for a fixed classifier.
    """
    distribution, settings = theory.distribution, theory.objective
    record.keep("prediction_sigma", place, prediction_sigma(probabilities, distribution, settings)[-1])
    if settings.classifier == "etf":
        for name in ("residual_sigma_max", "prediction_sigma_bound"):
            record.lack(name, place, "the classifier is fixed: residuals need not obey λ")
        empty = np.full((distribution.classes, distribution.classes), np.nan)
        return ResidualSpectrum(empty[0], empty)
    residuals = residual_spectrum(probabilities, distribution, settings)
    record.keep("residual_sigma_max", place, residuals.ratios[0])
    shares = settings.targets(distribution) / settings.amplitude(distribution)[:, None]
    root_kappa = prediction_sigma(shares, distribution, settings)[-1]

    def bound() -> float:
        gap = objective - reference_bound(theory, reference)
        return float(root_kappa - radius(distribution, settings, gap, nonnegative=reference == "relu"))

    record.compute("prediction_sigma_bound", place, bound)
    return residuals


def _reference(theory: Theory, name: ReferenceName) -> Reference:
    if name not in theory.references:
        raise UndefinedMetric("the theory stage has no optimum for features >= 0 here")
    return theory.references[name]


def reference_bound(theory: Theory, name: ReferenceName) -> float:
    """Lower bound on (7) for the features that the reference stands for.

    Raises
    ------
    UndefinedMetric
        If the theory stage has none.
    """
    bound = _reference(theory, name).bound
    if np.isnan(bound):
        raise UndefinedMetric("the theory stage has no bound for features >= 0 here")
    return bound


@dataclass(frozen=True, eq=False)
class _Epoch:
    """What is kept of an epoch beside its metrics."""

    prototypes: np.ndarray  # (S, d) float32, train
    contrast_prototypes: np.ndarray  # (K,), NaN where undefined
    contrast_classifier: np.ndarray  # (K,)
    residuals: ResidualSpectrum


def _contrast(rows: np.ndarray) -> np.ndarray:
    """Weakest contrast, shape (K,); NaN where there is none (the metric of that name says why)."""
    try:
        return weakest_contrast(rows).contrast
    except UndefinedMetric:
        return np.full(len(rows), np.nan)


def _analyse_epoch(run: OpenRun, theory: Theory, record: Record, epoch: int) -> _Epoch:
    checkpoint, place = run.checkpoint(epoch), {"epoch": epoch}
    weight, terms, train = checkpoint.weight, checkpoint.terms, run.samples["train"]
    classifier_metrics(record, place, weight)
    prototypes = {}
    for split in run.samples:
        at, condensed = {**place, "split": split}, checkpoint.condensed(split)
        geometry_metrics(record, at, condensed, weight, checkpoint.bias)
        record.keep("error", at, checkpoint.scalar(f"error_{split}"))
        if run.objective.loss == "pal":
            record.keep("score", at, checkpoint.scalar(f"score_{split}"))
        else:
            record.lack("score", at, _no_distribution(run.objective))
        prototypes[split] = condensed.prototypes
    each = checkpoint.predictions if run.objective.loss == "pal" else None
    optimality_metrics(record, place, terms, each, train.label_set, theory, run.reference, train.factors)
    residuals = spectral_metrics(record, place, checkpoint.mean_predictions, terms.total, theory, run.reference)
    return _Epoch(
        prototypes["train"].astype(np.float32),
        _contrast(single_prototypes(prototypes["train"], train.distribution)),
        _contrast(weight),
        residuals,
    )


def _analyse_end(run: OpenRun, theory: Theory, record: Record) -> list[dict[str, Any]]:
    """Split the last epoch's gap and fit its synthesis weights; returns the synthesis records."""
    checkpoint, train = run.checkpoint(run.store.epochs[-1]), run.samples["train"]
    prototypes = checkpoint.condensed("train").prototypes
    parts = ("classifier", "scatter", "prototypes", "slack")
    try:
        split = split_gap(
            checkpoint.refit(), prototypes=prototypes, distribution=train.sampled, objective=run.objective,
            bound=reference_bound(theory, run.reference),
        )  # fmt: skip
    except UndefinedMetric as reason:
        for part in parts:
            record.lack(f"gap_{part}", {}, str(reason))
    else:
        for part in parts:
            record.keep(f"gap_{part}", {}, getattr(split, part))
        if np.isnan(split.slack):
            record.lack("gap_slack", {}, "a free bias has no strong convexity to certify the parts with")
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
        **record.arrays(run.store.epochs, multiplicities),
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
