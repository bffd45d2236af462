"""The metrics by name, and how their values, or the reasons for having none, are collected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ParamSpec

from ncpipe.geometry.metrics import UndefinedMetric

Place = Mapping[str, Any]
Arguments = ParamSpec("Arguments")

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Quantity:
    """A metric as it is stored: its dimensions, what it is, and the smallest multiplicity it speaks of."""

    dims: tuple[str, ...]
    long_name: str
    smallest: int = 1


_EPOCH, _SPLIT = ("epoch",), ("epoch", "split")
_VARIANT, _MULTIPLICITY = ("epoch", "split", "variant"), ("epoch", "split", "multiplicity")

QUANTITIES = {
    "nc1": Quantity(_VARIANT, "NC1, within-class variability, theory.md (15)"),
    "nc2_w": Quantity(_EPOCH, "NC2-W, distance of the classifier from a simplex ETF, theory.md (16)"),
    "nc2_h": Quantity(_VARIANT, "NC2-H, distance of the class means from a simplex ETF, theory.md (16)"),
    "nc2_h_uncentred": Quantity(_SPLIT, "NC2-H of class means that are not centred, theory.md (16)"),
    "nc3": Quantity(_VARIANT, "NC3, self-duality, theory.md (17)"),
    "angle": Quantity(_MULTIPLICITY, "angle metric, theory.md (18)", 2),
    "tagwise_residual": Quantity(_MULTIPLICITY, "relative residual of tag-wise averaging, one scale", 2),
    "tagwise_residual_per_set": Quantity(_MULTIPLICITY, "the same, one scale per label set", 2),
    "geometry_sigma": Quantity(_MULTIPLICITY, "weakest singular value of the prototypes, theory.md (13)", 2),
    "geometry_bound": Quantity(_MULTIPLICITY, "its lower bound, theory.md (13); vacuous where negative", 2),
    "geometry_tightness": Quantity(_MULTIPLICITY, "theory.md (14)", 2),
    "weakest_contrast_prototypes": Quantity(_SPLIT, "weakest over largest singular value, centred class means"),
    "weakest_contrast_classifier": Quantity(_EPOCH, "weakest over largest singular value, centred classifier"),
    "sigma_min_logits": Quantity(_SPLIT, "weakest singular value of the prototypes' logits, weighted by samples"),
    "weakest_margin": Quantity(_MULTIPLICITY, "smallest logit margin of the prototypes, theory.md (21)"),
    "objective": Quantity(_EPOCH, "terminal objective, theory.md (7)"),
    "objective_loss": Quantity(_EPOCH, "loss in the terminal objective"),
    "objective_classifier": Quantity(_EPOCH, "classifier penalty in the terminal objective"),
    "objective_feature": Quantity(_EPOCH, "feature penalty in the terminal objective"),
    "objective_bias": Quantity(_EPOCH, "bias penalty in the terminal objective"),
    "gap": Quantity(_EPOCH, "objective minus the certified lower bound, theory.md (9)"),
    "relative_gap": Quantity(_EPOCH, "gap over that bound"),
    "gap_reference": Quantity(_EPOCH, "objective minus the bound that fits the features: (9a) for features >= 0"),
    "excess_relu": Quantity(_EPOCH, "objective minus the best value known for features >= 0"),
    "total_variation": Quantity(_EPOCH, "rms total variation between predictions and the reference optimum's"),
    "residual_sigma_max": Quantity(_EPOCH, "largest singular value of the residuals over lambda, theory.md (23)"),
    "prediction_sigma": Quantity(_EPOCH, "weakest singular value of the centred predictions, theory.md (20)"),
    "prediction_sigma_bound": Quantity(_EPOCH, "its lower bound from kappa_pool, lambda and the gap, theory.md (20)"),
    "gap_classifier": Quantity((), "part of the last gap_reference that a better classifier would close"),
    "gap_scatter": Quantity((), "part of it that collapsing each label set would close then"),
    "gap_prototypes": Quantity((), "part of it that is left to the prototypes"),
    "gap_slack": Quantity((), "certified inexactness of these parts"),
    "error": Quantity(_SPLIT, "share of samples whose top-|S| logits are not S"),
    "score": Quantity(_SPLIT, "softmax mass on the true labels"),
}


@dataclass(eq=False)
class Record:
    """Metric values by place (a value for each dimension), and the reason wherever there is none.

    Parameters
    ----------
    known : dict
        ``{metric: {coordinates in the order of its dimensions: value}}``.
    reasons : dict
        ``{metric: {(dimension, coordinate) for each that is known but the epoch: reason}}``; the first epoch's reason
        stands for all.
    """

    known: dict[str, dict[tuple[Any, ...], float]] = field(default_factory=dict)
    reasons: dict[str, dict[tuple[tuple[str, Any], ...], str]] = field(default_factory=dict)

    def compute(
        self,
        metric: str,
        place: Place,
        function: Callable[Arguments, float],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> None:
        """Keep what `function` returns, or its reason for returning nothing."""
        try:
            self.keep(metric, place, function(*args, **kwargs))
        except UndefinedMetric as reason:
            self.lack(metric, place, str(reason))

    def keep(self, metric: str, place: Place, value: float) -> None:
        """Keep a value."""
        key = tuple(place[d] for d in QUANTITIES[metric].dims)
        self.known.setdefault(metric, {})[key] = float(value)

    def lack(self, metric: str, place: Place, reason: str) -> None:
        """Note why there is no value."""
        at = tuple((d, place[d]) for d in QUANTITIES[metric].dims if d != "epoch" and d in place)
        self.reasons.setdefault(metric, {}).setdefault(at, reason)

    @property
    def undefined(self) -> dict[str, dict[str, str]]:
        """``{metric: {place in words: reason}}``."""
        return {
            metric: {", ".join(f"{d} {value}" for d, value in at): reason for at, reason in reasons.items()}
            for metric, reasons in self.reasons.items()
        }
