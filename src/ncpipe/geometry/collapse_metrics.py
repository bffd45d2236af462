"""Every collapse metric of finished features in one call: arrays in, values and reasons out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ncpipe.errors import InputError, check_array, check_instance
from ncpipe.geometry.measure import (
    NO_CLASSIFIER,
    Predictions,
    classifier_metrics,
    gap_metrics,
    geometry_metrics,
    no_distribution,
    optimality_metrics,
    spectral_metrics,
)
from ncpipe.geometry.metrics import condense
from ncpipe.geometry.moments import group_means, groups
from ncpipe.geometry.record import QUANTITIES, Record
from ncpipe.labels.distribution import LabelDistribution, as_distribution
from ncpipe.objective.losses import predictions, simplex_etf
from ncpipe.objective.refit import refit_classifier
from ncpipe.objective.settings import Objective
from ncpipe.objective.terms import network_logits, network_terms
from ncpipe.optimum.optimum import Optimum, solve
from ncpipe.optimum.relu import solve_relu

if TYPE_CHECKING:
    import pandas as pd

Key = str | tuple[str, str | int]
_PLACE = {"epoch": "", "split": ""}
_NOT_ASKED = "features >= 0 are not asked for (relu=True)"
_FIXED_CLASSIFIER = 1e-5  # largest difference from the simplex ETF that the rounding of float32 explains


@dataclass(frozen=True, eq=False)
class CollapseMetrics(Mapping[Key, float]):
    """Metrics by name, NaN where one is not defined; `undefined` says why.

    A key is the metric's name, with the multiplicity beside it where there is one for each: ``metrics["nc1"]``,
    ``metrics["angle", 2]``. What the published code of Li et al. computes differently is ``metrics["nc1", "li2024"]``.

    Parameters
    ----------
    record : Record
        Values and reasons.
    distribution : LabelDistribution
        The label sets of the samples and their counts.
    optima : dict of str to Optimum
        ``convex``, and ``relu`` where asked for; empty without an objective.

    Examples
    --------
    >>> metrics = collapse_metrics([[2.0, 0.1], [1.8, 0], [0, 2], [0.1, 1.9]], [[0], [0], [1], [1]])
    >>> round(metrics["nc1"], 4), round(metrics["nc1", "li2024"], 4)
    (0.0009, 0.0009)
    >>> metrics["nc2_w"], metrics.undefined["nc2_w"]
    (nan, 'no classifier is given')
    >>> metrics.to_frame()[["metric", "variant", "value"]].round(4).head(2).to_csv(index=False).split()
    ['metric,variant,value', 'nc1,definition,0.0009', 'nc1,li2024,0.0009']
    """

    record: Record
    distribution: LabelDistribution
    optima: dict[str, Optimum]

    @cached_property
    def _values(self) -> dict[Key, float]:
        values: dict[Key, float] = {}
        for metric, quantity in QUANTITIES.items():
            for place, value in self.record.known.get(metric, {}).items():
                values[_key(metric, dict(zip(quantity.dims, place, strict=True)))] = value
            for at in self.record.reasons.get(metric, {}):
                values[_key(metric, dict(at))] = np.nan
        return values

    @cached_property
    def undefined(self) -> dict[Key, str]:
        """Why a metric has no value, for each that is NaN."""
        reasons = self.record.reasons
        return {_key(m, dict(at)): reason for m in QUANTITIES for at, reason in reasons.get(m, {}).items()}

    def __getitem__(self, key: Key) -> float:
        return self._values[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        lines = (f"{_words(key)}: {self.undefined.get(key, f'{value:.6g}')}" for key, value in self.items())
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """One row for each metric: metric, variant, multiplicity, value, and the reason where it has none."""
        import pandas as pd

        rows = []
        for key, value in self.items():
            metric, at = (key, "") if isinstance(key, str) else key
            variant = "definition" if not at and "variant" in QUANTITIES[metric].dims else at
            variant, multiplicity = (variant, "") if isinstance(variant, str) else ("", variant)
            rows.append((metric, variant, multiplicity, value, self.undefined.get(key, "")))
        return pd.DataFrame(rows, columns=["metric", "variant", "multiplicity", "value", "reason"])


def _key(metric: str, place: Mapping[str, Any]) -> Key:
    at = place.get("multiplicity", place.get("variant", "definition"))
    return metric if at == "definition" else (metric, at)


def _words(key: Key) -> str:
    return key if isinstance(key, str) else f"{key[0]}, {key[1]}"


class _Network(NamedTuple):
    """What is measured: labelled samples only, in float32 or float64, and the classifier in float64."""

    features: np.ndarray  # (N, d)
    label_set: np.ndarray  # (N,)
    distribution: LabelDistribution
    weight: np.ndarray  # (K, d)
    bias: np.ndarray  # (K,)


class _Reference(NamedTuple):
    """An optimum as `optimality_metrics` asks for it."""

    bound: float
    objective: float
    probabilities: np.ndarray


class _References(NamedTuple):
    distribution: LabelDistribution
    objective: Objective
    references: dict[str, _Reference]


def collapse_metrics(
    features: Any,
    labels: Any,
    weight: Any = None,
    bias: Any = None,
    objective: Objective | None = None,
    *,
    relu: bool = False,
) -> CollapseMetrics:
    """Every collapse metric of finished features, each that is not defined with its reason.

    NC1, NC2 and NC3 in both variants, the angle metric, the residuals of tag-wise averaging and the bound (13) for
    each multiplicity, weakest contrasts and margins, error and score; with an objective also its terms, the certified
    optimum of these labels, the gap to it and the parts of the gap. The metrics, their names and their numbers are
    those of the collapse stage.

    Parameters
    ----------
    features : array-like, shape (N, d)
        One row for each sample: what enters the classifier. An array, a frame or a torch tensor, finite.
    labels : array-like, shape (N, K), or sequence of label sets
        A 0/1 matrix, dense or sparse, or the classes of each sample: ``[[0], [0, 2]]``. Samples without a label carry
        no loss and are left out.
    weight : array-like, shape (K, d), optional
        The classifier, as `torch.nn.Linear` has it.
    bias : array-like, shape (K,), optional
        Its bias; zeros unless given.
    objective : Objective, optional
        The terminal objective (7) that training minimised.
    relu : bool
        Whether features are >= 0 by design (after a ReLU). Their optimum lies higher: it is solved too, and
        ``gap_reference``, the parts of the gap and the total variation refer to it.

    Returns
    -------
    CollapseMetrics
        A mapping from names to values, with ``undefined`` and ``to_frame()``.

    Raises
    ------
    InputError
        If shapes, dtypes or values cannot be; the message names the argument.

    Examples
    --------
    Features on the corners of a simplex, three samples of each class and one of each pair, and a fitting classifier:

    >>> import numpy as np
    >>> from ncpipe import collapse_metrics
    >>> corners = np.eye(3) - 1 / 3
    >>> labels = [[0], [1], [2]] * 3 + [[0, 1], [0, 2], [1, 2]]
    >>> features = np.array([corners[label_set].sum(axis=0) for label_set in labels])
    >>> metrics = collapse_metrics(features, labels, weight=corners)
    >>> max(metrics["nc1"], metrics["nc2_w"], metrics["angle", 2]) < 1e-12
    True
    >>> metrics.undefined["gap"]
    'no objective is given'
    """
    features = check_array("features", features, ("sample", "feature"))
    if weight is not None:
        weight = check_array("weight", weight, ("class", "feature")).astype(np.float64, copy=False)
    elif bias is not None:
        raise InputError("bias: found one without a weight; allowed: both, the weight alone, or none")
    if objective is not None:
        check_instance("objective", objective, Objective)
    named = isinstance(labels, list | tuple) and weight is not None
    distribution, label_set = as_distribution(labels, classes=len(weight) if named else None)
    if len(label_set) != len(features):
        raise InputError(f"labels: found {len(label_set)} samples; features has {len(features)}")
    if relu and features.min() < 0:
        raise InputError(f"features: found {features.min():.6g}; allowed: numbers >= 0, as relu=True says")
    labelled = label_set >= 0
    if not labelled.all():
        features, label_set = features[labelled], label_set[labelled]
    record = Record()
    condensed = condense(features, label_set, distribution)
    if weight is None:
        geometry_metrics(record, _PLACE, condensed, None, None)
        return _finished(record, distribution, {}, NO_CLASSIFIER)
    sizes = distribution.classes, features.shape[1]
    weight = check_array("weight", weight, ("class", "feature"), sizes=sizes)
    bias = np.zeros(len(weight)) if bias is None else check_array("bias", bias, ("class",), sizes=sizes[:1])
    network = _Network(features, label_set, distribution, weight, bias.astype(np.float64, copy=False))
    classifier_metrics(record, _PLACE, weight)
    geometry_metrics(record, _PLACE, condensed, weight, network.bias)
    logits = network_logits(weight, network.bias, features)
    _prediction_metrics(record, network, logits, objective)
    if objective is None:
        return _finished(record, distribution, {}, "no objective is given")
    optima = _objective_metrics(record, network, logits, objective, condensed.prototypes, relu=relu)
    return _finished(record, distribution, optima, _NOT_ASKED)


def _prediction_metrics(record: Record, network: _Network, logits: np.ndarray, objective: Objective | None) -> None:
    """Record error and score."""
    labels = network.distribution.multi_hot()[network.label_set] > 0  # (N, K)
    lowest = np.where(labels, logits, np.inf).min(axis=1)
    highest = np.where(labels, -np.inf, logits).max(axis=1)
    record.keep("error", _PLACE, np.mean(lowest <= highest))
    if objective is not None and objective.loss != "pal":
        record.lack("score", _PLACE, no_distribution(objective))
    else:
        record.keep("score", _PLACE, np.mean((predictions(logits, "pal") * labels).sum(axis=1)))


def _objective_metrics(
    record: Record, network: _Network, logits: np.ndarray, objective: Objective, prototypes: np.ndarray, *, relu: bool
) -> dict[str, Optimum]:
    """Record the objective, and everything that is relative to the optimum of these labels; return the optima."""
    features, label_set, distribution, weight, bias = network
    if not objective.use_bias and bias.any():
        raise InputError("bias: found one that is not 0; the objective has none (use_bias=False)")
    fixed = objective.classifier == "etf"
    if fixed and not np.allclose(weight, simplex_etf(*weight.shape), rtol=0, atol=_FIXED_CLASSIFIER):
        raise InputError("weight: found another than the simplex ETF that the objective fixes (classifier='etf')")
    optima = {"convex": solve(distribution, objective)}
    if relu:
        optima["relu"] = solve_relu(distribution, objective)
    reference = "relu" if relu else "convex"
    known = {name: _Reference(o.lower_bound, o.objective, o.probabilities) for name, o in optima.items()}
    theory = _References(distribution, objective, known)
    multi_hot = distribution.multi_hot()
    if not relu:
        record.lack("excess_relu", _PLACE, _NOT_ASKED)
    shared: dict[str, Any] = {"label_set": label_set, "multi_hot": multi_hot, "objective": objective}
    terms = network_terms(weight, bias, features, **shared)
    each = predictions(logits, objective.loss)
    optimality_metrics(
        record, _PLACE, terms, Predictions(each if objective.loss == "pal" else None, label_set), theory, reference
    )
    mean = group_means(each, groups(label_set, len(multi_hot)))
    spectral_metrics(record, _PLACE, mean, terms.total, theory, reference)
    refit = refit_classifier(weight, bias, features, **shared)
    gap_metrics(record, refit, prototypes, distribution, objective, known[reference].bound)
    return optima


def _finished(
    record: Record, distribution: LabelDistribution, optima: dict[str, Optimum], reason: str
) -> CollapseMetrics:
    """The result; what has neither a value nor a reason has this one."""
    for metric, quantity in QUANTITIES.items():
        if metric not in record.known and metric not in record.reasons:
            small = quantity.smallest > max(distribution.multiplicities)
            record.lack(metric, {}, "no label set of two or more classes" if small else reason)
    return CollapseMetrics(record, distribution, optima)
