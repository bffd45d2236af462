"""Every metric of one checkpoint, of a network or a certified optimum, by name, with reasons for what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

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
from ncpipe.geometry.optimality import (
    ResidualSpectrum,
    residual_spectrum,
    split_gap,
    total_variation,
    weakest_margin,
)
from ncpipe.geometry.record import Place, Record
from ncpipe.geometry.synthesis import geometry_bound, tagwise_residuals
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.refit import Refit
from ncpipe.objective.settings import Objective
from ncpipe.objective.terms import Terms, prediction_sigma, radius


class Reference(Protocol):
    """An optimum that networks are measured against."""

    @property
    def bound(self) -> float:
        """Certified lower bound on (7): (9), or (9a) for features >= 0; NaN where none is known."""

    @property
    def objective(self) -> float:
        """Best value reached."""

    @property
    def probabilities(self) -> np.ndarray:
        """Predictions of the label sets, shape (S, K)."""


class References(Protocol):
    """The optima of one label distribution and objective: ``convex``, and ``relu`` for features >= 0 where known."""

    @property
    def distribution(self) -> LabelDistribution:
        """The labels as training sees them."""

    @property
    def objective(self) -> Objective:
        """Settings of (7)."""

    @property
    def references(self) -> Mapping[Any, Reference]:
        """The optima by name."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a network predicts for its training samples.

    Parameters
    ----------
    probabilities : ndarray, shape (N, K), or None
        None for losses whose predictions are not one distribution over the classes.
    label_set : ndarray of int, shape (N,)
        Position of each sample's label set in the distribution of the references.
    factors : ndarray, shape (N,), optional
        Sampling weight of each sample.
    """

    probabilities: np.ndarray | None
    label_set: np.ndarray
    factors: np.ndarray | None = None


NO_CLASSIFIER = "no classifier is given"
GAP_PARTS = ("classifier", "scatter", "prototypes", "slack")


def geometry_metrics(
    record: Record, place: Place, condensed: Condensed, weight: np.ndarray | None, bias: np.ndarray | None
) -> None:
    """Record what one split's geometry says: NC1 to NC3, angles, tag-wise residuals, (13), contrasts, margins.

    Parameters
    ----------
    record : Record
    place : mapping
        ``epoch`` and ``split``.
    condensed : Condensed
    weight, bias : ndarray, shapes (K, d) and (K,), or None
        None where only the features are known: what needs a classifier is not defined then.
    """
    distribution = condensed.distribution
    for variant in VARIANTS:
        at = {**place, "variant": variant}
        record.compute("nc1", at, nc1, condensed, variant)
        record.compute("nc2_h", at, nc2_h, condensed, variant)
        if weight is None:
            record.lack("nc3", at, NO_CLASSIFIER)
        else:
            record.compute("nc3", at, nc3, weight, condensed, variant)
    record.compute("nc2_h_uncentred", place, nc2_h, condensed, "li2024")
    record.compute("weakest_contrast_prototypes", place, _class_mean_contrast, condensed)
    logits = None if weight is None else condensed.prototypes @ weight.T + bias  # (S, K)
    multi_hot = distribution.multi_hot()
    if logits is None:
        record.lack("sigma_min_logits", place, NO_CLASSIFIER)
    else:
        record.keep("sigma_min_logits", place, weakest_logits(logits, distribution))
    for m in distribution.multiplicities:
        at, rows = {**place, "multiplicity": m}, distribution.multiplicity == m
        if logits is None:
            record.lack("weakest_margin", at, NO_CLASSIFIER)
        else:
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
    record.compute("nc2_w", place, nc2_w, weight, classes=len(weight))
    record.compute("weakest_contrast_classifier", place, _classifier_contrast, weight)


def _classifier_contrast(weight: np.ndarray) -> float:
    return weakest_contrast(weight).value


def optimality_metrics(
    record: Record,
    place: Place,
    terms: Terms,
    predictions: Predictions,
    theory: References,
    reference: str,
) -> None:
    """Record objective, gaps, and the distance from the reference optimum.

    Parameters
    ----------
    record : Record
    place : mapping
        ``epoch``.
    terms : Terms
        Of (7).
    predictions : Predictions
    theory : References
    reference : {"convex", "relu"}
        The optimum that fits the features.
    """
    for name in ("loss", "classifier", "feature", "bias"):
        record.keep(f"objective_{name}", place, getattr(terms, name))
    record.keep("objective", place, terms.total)
    bound = theory.references["convex"].bound
    record.keep("gap", place, terms.total - bound)
    record.keep("relative_gap", place, (terms.total - bound) / bound)
    record.compute("gap_reference", place, lambda: terms.total - reference_bound(theory, reference))
    record.compute("excess_relu", place, lambda: terms.total - _reference(theory, "relu").objective)
    each = predictions.probabilities
    if each is None:
        record.lack("total_variation", place, no_distribution(theory.objective))
        return

    def variation() -> float:
        optimal = _reference(theory, reference).probabilities
        return total_variation(each, optimal, predictions.label_set, predictions.factors)

    record.compute("total_variation", place, variation)


def no_distribution(objective: Objective) -> str:
    """Why an objective's predictions have no total variation and no score."""
    return f"predictions of loss {objective.loss} are not one distribution over the classes"


def spectral_metrics(
    record: Record,
    place: Place,
    probabilities: np.ndarray,
    objective: float,
    theory: References,
    reference: str,
) -> ResidualSpectrum:
    """Record what (20) and (23) say of predictions, averaged within each label set, shape (S, K).

    The law (20): σ_{K−1}(F) >= √κ_pool − λ − √(τ_max ε), with √2 λ for features >= 0 and ε the gap to the bound that
    fits the features; √κ_pool is the same singular value of the targets. Neither holds for a fixed classifier.
    """
    distribution, settings = theory.distribution, theory.objective
    record.keep("prediction_sigma", place, prediction_sigma(distribution, settings, probabilities=probabilities)[-1])
    if settings.classifier == "etf":
        for name in ("residual_sigma_max", "prediction_sigma_bound"):
            record.lack(name, place, "the classifier is fixed: residuals need not obey λ")
        empty = np.full((distribution.classes, distribution.classes), np.nan)
        return ResidualSpectrum(empty[0], empty)
    residuals = residual_spectrum(probabilities, distribution, settings)
    record.keep("residual_sigma_max", place, residuals.ratios[0])
    shares = settings.targets(distribution) / settings.amplitude(distribution)[:, None]
    root_kappa = prediction_sigma(distribution, settings, probabilities=shares)[-1]

    def bound() -> float:
        gap = objective - reference_bound(theory, reference)
        return float(root_kappa - radius(distribution, settings, gap=gap, nonnegative=reference == "relu"))

    record.compute("prediction_sigma_bound", place, bound)
    return residuals


def gap_metrics(
    record: Record,
    refit: Refit,
    prototypes: np.ndarray,
    distribution: LabelDistribution,
    objective: Objective,
    bound: float,
) -> None:
    """Record the parts of the gap to `bound`; all as `split_gap` takes them."""
    split = split_gap(refit, prototypes=prototypes, distribution=distribution, objective=objective, bound=bound)
    for part in GAP_PARTS:
        record.keep(f"gap_{part}", {}, getattr(split, part))
    if np.isnan(split.slack):
        record.lack("gap_slack", {}, "a free bias has no strong convexity to certify the parts with")


def _reference(theory: References, name: str) -> Reference:
    if name not in theory.references:
        raise UndefinedMetric("the theory stage has no optimum for features >= 0 here")
    return theory.references[name]


def reference_bound(theory: References, name: str) -> float:
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
