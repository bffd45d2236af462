"""A training run, opened: its samples, and each checkpoint as the metrics need it, from features or their moments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import xarray as xr

from ncpipe.errors import InputError, StoreError
from ncpipe.experiment.architectures import ARCHITECTURES
from ncpipe.geometry.metrics import Condensed, UndefinedMetric, from_moments
from ncpipe.geometry.moments import Moments, group_means, groups, moments, unpack_predictions
from ncpipe.geometry.record import SPLITS
from ncpipe.labels.distribution import LabelDistribution, as_distribution
from ncpipe.labels.names import label_set_name
from ncpipe.objective.losses import predictions, simplex_etf
from ncpipe.objective.refit import Refit, refit_classifier
from ncpipe.objective.settings import Objective
from ncpipe.objective.terms import Terms, collapsed_terms, network_logits, network_terms
from ncpipe.results.theory_file import ReferenceName, Theory
from ncpipe.stores.files import read_json
from ncpipe.stores.zarr import Store

RUN_KEYS = ("dataset", "setting", "network", "seed")

# A recorded objective may differ from the one computed here by rounding only, that of the features as they are stored;
# more means that features, labels and settings do not belong together.
_AGREEMENT = {"float32": 1e-6, "float16": 1e-2}


@dataclass(frozen=True, eq=False)
class Samples:
    """The samples of one split: their label sets and which each carries.

    Parameters
    ----------
    distribution : LabelDistribution
    label_set : ndarray of int, shape (N,)
        Position in `distribution`.
    weights : ndarray, shape (S,)
        Sampling weights ω_S of training, 1 where it has none: for what training minimises, never for geometry.
    rows : ndarray of int, shape (S,)
        Where the store has each label set of `distribution`.
    """

    distribution: LabelDistribution
    label_set: np.ndarray
    weights: np.ndarray
    rows: np.ndarray

    @property
    def factors(self) -> np.ndarray:
        """Sampling weight of each sample, shape (N,)."""
        return self.weights[self.label_set]

    @property
    def sampled(self) -> LabelDistribution:
        """The labels as training sees them: q_S N samples of each label set."""
        d = self.distribution
        return LabelDistribution(d.indicator, d.counts * self.weights, d.class_names)


def split_samples(
    label_sets: np.ndarray, label_set: np.ndarray, class_names: Sequence[str], weights: np.ndarray | None = None
) -> Samples:
    """Label distribution of a split and each sample's position in it.

    Parameters
    ----------
    label_sets : ndarray, shape (S_all, K)
        Multi-hot rows of the store.
    label_set : ndarray of int, shape (N,)
        Row of each sample.
    class_names : sequence of str
    weights : ndarray, shape (S_all,), optional
        Sampling weights ω_S of training.

    Raises
    ------
    InputError
        If a sample has no label.
    """
    counts = np.bincount(label_set, minlength=len(label_sets))
    present = np.flatnonzero(counts)
    distribution, lookup = as_distribution(label_sets, counts=counts, class_names=class_names)
    if distribution.unlabelled:
        raise InputError("label sets: found samples without a label; the terminal objective is not defined for them")
    rows = present[np.argsort(lookup[present])]
    ordered = np.ones(len(present)) if weights is None else weights[rows]
    return Samples(distribution, lookup[label_set], ordered, rows)


class Checkpoint(Protocol):
    """A checkpoint as the metrics need it; what costs time is made when it is asked for."""

    @property
    def weight(self) -> np.ndarray:
        """W, shape (K, d), float64."""

    @property
    def bias(self) -> np.ndarray:
        """b, shape (K,), float64."""

    def scalar(self, name: str) -> float:
        """What training recorded under this name."""

    def condensed(self, split: str) -> Condensed:
        """Condensed features of a split."""

    @property
    def terms(self) -> Terms:
        """Terms of (7) on the training split."""

    @property
    def predictions(self) -> np.ndarray:
        """Predictions of each training sample, shape (N, K)."""

    @property
    def mean_predictions(self) -> np.ndarray:
        """Their mean over the samples of each label set, shape (S, K)."""

    def refit(self) -> Refit:
        """The best classifier on the training features.

        Raises
        ------
        UndefinedMetric
            If the run kept neither the features of this epoch nor that classifier.
        """


class _Stored:
    """What both kinds of checkpoint have in common."""

    def __init__(self, data: xr.Dataset, samples: Mapping[str, Samples], objective: Objective) -> None:
        self.data, self.samples, self.objective = data, samples, objective
        self.weight, self.bias = (self.array(f"classifier_{name}").astype(np.float64) for name in ("weight", "bias"))

    def array(self, name: str) -> np.ndarray:
        """An array of the epoch."""
        return self.data[name].to_numpy()

    def scalar(self, name: str) -> float:
        """What training recorded under this name."""
        return float(self.data[name])


class FeatureCheckpoint(_Stored):
    """A checkpoint with all its features."""

    def condensed(self, split: str) -> Condensed:
        """Condensed features of a split, (N, d)."""
        samples = self.samples[split]
        found = moments(self.array(f"features_{split}"), samples.label_set, samples.distribution.multiplicity)
        return from_moments(found, samples.distribution)

    @cached_property
    def terms(self) -> Terms:
        """Terms of (7), from features and classifier."""
        train = self.samples["train"]
        return network_terms(
            self.weight, self.bias, self.array("features_train"), label_set=train.label_set,
            multi_hot=train.distribution.multi_hot(), objective=self.objective, factors=train.factors,
        )  # fmt: skip

    @cached_property
    def predictions(self) -> np.ndarray:
        """Predictions of each training sample, shape (N, K)."""
        return predictions(network_logits(self.weight, self.bias, self.array("features_train")), self.objective.loss)

    @property
    def mean_predictions(self) -> np.ndarray:
        """Their mean over the samples of each label set, shape (S, K)."""
        train = self.samples["train"]
        return group_means(self.predictions, groups(train.label_set, len(train.distribution.counts)))

    def refit(self) -> Refit:
        """The best classifier on the training features."""
        train = self.samples["train"]
        return refit_classifier(
            self.weight, self.bias, self.array("features_train"), label_set=train.label_set,
            multi_hot=train.distribution.multi_hot(), objective=self.objective, factors=train.factors,
        )  # fmt: skip


class MomentCheckpoint(_Stored):
    """A checkpoint with the moments of its features."""

    def condensed(self, split: str) -> Condensed:
        """Condensed features of a split, from their moments."""
        basis = self.array(f"scatter_basis_{split}")
        rank = int(np.count_nonzero(basis.any(axis=1)))
        samples = self.samples[split]
        prototypes = self.array(f"prototypes_{split}")[samples.rows]
        scatter = self.array(f"scatter_{split}")[:rank, :rank]
        return from_moments(Moments(prototypes, basis[:rank].T, scatter), samples.distribution)

    @cached_property
    def terms(self) -> Terms:
        """Terms of (7): those of the prototypes, but loss and features as training recorded them, sample by sample."""
        sampled, prototypes = self.samples["train"].sampled, self.condensed("train").prototypes
        flat = collapsed_terms(sampled, self.objective, weight=self.weight, bias=self.bias, prototypes=prototypes)
        return replace(flat, loss=self.scalar("objective_loss"), feature=self.scalar("objective_feature"))

    @property
    def predictions(self) -> np.ndarray:
        """Softmax of each training sample, shape (N, K), as far as 16 bits hold it; kept for pick-all-labels only."""
        return unpack_predictions(self.array("predictions_train"))

    @property
    def mean_predictions(self) -> np.ndarray:
        """Its mean over the samples of each label set, shape (S, K)."""
        return self.array("prediction_means_train")[self.samples["train"].rows]

    def refit(self) -> Refit:
        """The best classifier on the features of the run's last epoch, as training found it."""
        if np.isnan(self.scalar("refit_objective")):
            raise UndefinedMetric(
                "the run keeps moments of its features, and the best classifier on them only at its last epoch; this "
                "one is earlier"
            )
        weight, bias = self.array("refit_weight"), self.array("refit_bias")
        return Refit(weight, bias, *(self.scalar(f"refit_{name}") for name in ("objective", "gain", "slack")))


class OpenRun:
    """A finished or live training run, opened: its samples by split, and its epochs one at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store(folder / "features.zarr")
        if not self.store.epochs:
            raise InputError(f"{folder}: no epoch is finished yet; there is nothing to analyse")
        manifest = folder / "manifest.json"
        self.digest = self.store.digest()
        if manifest.exists() and (expected := read_json(manifest).get("store_digest")) != self.digest:
            raise StoreError(
                f"{self.store.path}: is not the store that {manifest} describes ({expected}); train it again"
            )
        attributes = self.store.attrs
        self.identity = {key: attributes[key] for key in RUN_KEYS}
        self.class_names = [str(name) for name in attributes["class_names"]]
        self.objective = Objective.from_config(attributes["objective"])
        self.reference: ReferenceName = "convex" if ARCHITECTURES[attributes["architecture"]].signed else "relu"
        static = self.store.static()
        label_sets = static["label_sets"].to_numpy()
        self.weighted = "label_set_weight" in static
        weights = {"train": static["label_set_weight"].to_numpy()} if self.weighted else {}
        self.samples = {
            split: split_samples(label_sets, static[f"label_set_{split}"].values, self.class_names, weights.get(split))
            for split in SPLITS
            if f"label_set_{split}" in static
        }

    def matches(self, theory: Theory, path: Path) -> None:
        """Raise InputError unless the theory is about this run's labels and objective."""
        train = self.samples["train"]
        own, theirs = train.distribution.as_counts(), theory.natural.as_counts()
        if own != theirs:
            odd = sorted(s for s in {*own, *theirs} if own.get(s) != theirs.get(s))
            name = label_set_name(odd[0], self.class_names)
            raise InputError(
                f"{path}: is about other labels than {self.folder}: label set {name} has {theirs.get(odd[0], 0):g} "
                f"samples there and {own.get(odd[0], 0):g} here"
            )
        if not np.allclose(train.sampled.counts, theory.distribution.counts, rtol=_AGREEMENT["float32"], atol=0):
            raise InputError(f"{path}: is about other sampling weights than {self.folder} was trained with")
        if theory.objective != self.objective:
            raise InputError(f"{path}: objective {theory.objective}; {self.folder} was trained with {self.objective}")

    def checkpoint(self, epoch: int) -> Checkpoint:
        """Load one epoch, having checked that its features, or their moments, can be what they should be.

        Raises
        ------
        InputError
            If values are not finite, features are negative where they cannot be, a fixed classifier is not the fixed
            one, or the objective that training recorded is not that of these features and labels.
        """
        data = self.store.epoch(epoch)
        for name in ("classifier_weight", "classifier_bias"):
            self._check_values(epoch, name, data[name].to_numpy())
        weight = data["classifier_weight"].to_numpy()
        if self.objective.classifier == "etf" and not np.array_equal(weight, simplex_etf(*weight.shape)):
            raise InputError(f"{self.store.path}: epoch {epoch}, array classifier_weight: not the fixed simplex ETF")
        for split, samples in self.samples.items():
            name = f"features_{split}" if f"features_{split}" in data else f"prototypes_{split}"
            values = data[name].to_numpy()
            self._check_values(epoch, name, values if name.startswith("features") else values[samples.rows])
        agreement = _AGREEMENT["float32"]
        found: Checkpoint
        if "features_train" in data:
            agreement = _AGREEMENT[str(data["features_train"].dtype)]
            kept = {
                name: data[name].astype(np.float32, copy=False) for name in data if str(name).startswith("features")
            }
            found = FeatureCheckpoint(data.assign(kept), self.samples, self.objective)
        else:
            found = MomentCheckpoint(data, self.samples, self.objective)
        recorded, computed = found.scalar("objective"), found.terms.total
        if abs(recorded - computed) > agreement * abs(computed):
            raise InputError(
                f"{self.store.path}: epoch {epoch}: training recorded the objective {recorded:.9g}; features, labels "
                f"and settings give {computed:.9g}"
            )
        return found

    def _check_values(self, epoch: int, name: str, values: np.ndarray) -> None:
        # The sum is finite only if every value is, and cheaper than looking at each.
        if not np.isfinite(values.sum(dtype=np.float64)):
            bad = int(values.size - np.isfinite(values).sum())
            raise InputError(f"{self.store.path}: epoch {epoch}, array {name}: {bad} values are not finite")
        if self.reference == "relu" and not name.startswith("classifier") and values.min() < 0:
            raise InputError(
                f"{self.store.path}: epoch {epoch}, array {name}: {int((values < 0).sum())} values are negative; "
                f"the features of this architecture are compared with an optimum for features >= 0"
            )
