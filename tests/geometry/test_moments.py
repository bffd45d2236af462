"""Every metric from the moments of the features equals that from the features, whatever these and their labels are."""

from __future__ import annotations

import math
from itertools import chain, combinations
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from ncpipe.collapse.run import FeatureCheckpoint, MomentCheckpoint, split_samples
from ncpipe.geometry.measure import (
    Predictions,
    classifier_metrics,
    geometry_metrics,
    optimality_metrics,
    spectral_metrics,
)
from ncpipe.geometry.metrics import UndefinedMetric
from ncpipe.geometry.moments import PREDICTION_STEPS, pack_predictions, unpack_predictions
from ncpipe.geometry.optimality import split_gap
from ncpipe.geometry.record import QUANTITIES, Record
from ncpipe.objective.losses import softmax
from ncpipe.objective.settings import Objective
from ncpipe.objective.terms import network_terms
from ncpipe.train.keep import Keep

ENTRY = {"loss": "pal", "target": "normalised", "lambda_w": 0.01, "lambda_h": 0.05, "lambda_b": 0.01, "bias": True}
LAST = 3


class Both:
    """One random checkpoint, kept as features and as moments, and every metric of both."""

    def __init__(
        self,
        seed: int,
        *,
        width: int,
        weighted: bool = False,
        collapse: float = 1.0,
        last: bool = True,
        loss: str = "pal",
    ) -> None:
        rng = np.random.default_rng(seed)
        classes = int(rng.integers(3, 6))
        every = chain.from_iterable(combinations(range(classes), m) for m in (1, 2, 3))
        chosen = [s for s in every if rng.random() < (0.95 if len(s) == 1 else 0.5)] or [(0,), (0, 1)]
        label_sets = np.array([[k in s for k in range(classes)] for s in chosen], np.uint8)
        counts = rng.integers(0, 6, len(chosen))
        counts[rng.integers(len(chosen))] += 2
        train = np.repeat(np.arange(len(chosen), dtype=np.int32), counts)
        test = np.sort(rng.integers(0, len(chosen), 7)).astype(np.int32)
        weights = rng.random(len(chosen)) + 0.5
        weights *= len(train) / weights[train].sum()
        entry = {**ENTRY, "loss": loss, "target": "normalised" if loss == "pal" else "raw"}
        self.objective = Objective.from_config(entry)

        means = rng.standard_normal((len(chosen), width)) + rng.standard_normal(width)
        self.features = {
            f"features_{split}": (means[index] + collapse * rng.standard_normal((len(index), width))).astype(np.float32)
            for split, index in (("train", train), ("test", test))
        }
        weight, bias = rng.standard_normal((classes, width)).astype(np.float32), rng.random(classes).astype(np.float32)
        names = [str(k) for k in range(classes)]
        self.samples = {
            "train": split_samples(label_sets, train, names, weights if weighted else None),
            "test": split_samples(label_sets, test, names),
        }
        terms = network_terms(
            weight, bias, self.features["features_train"], label_set=train, multi_hot=label_sets,
            objective=self.objective, factors=weights[train] if weighted else None,
        )  # fmt: skip
        checkpoint = {
            **self.features, "classifier_weight": weight, "classifier_bias": bias, "objective": np.array(terms.total),
            "objective_loss": np.array(terms.loss), "objective_feature": np.array(terms.feature),
        }  # fmt: skip
        run = {"features": "moments", "objective": entry, "epochs": LAST}
        keep = Keep(run, label_sets, {"train": train, "test": test}, weights if weighted else None)
        self.kept = keep.values(LAST if last else LAST - 1, checkpoint)
        layout = keep.arrays("train", width) | keep.arrays("test", width)
        assert {n: (a.sizes, np.dtype(a.dtype)) for n, a in layout.items()} == {
            n: (v.shape, v.dtype) for n, v in self.kept.items() if n not in checkpoint
        }
        self.whole = FeatureCheckpoint(dataset(checkpoint), self.samples, self.objective)
        self.moments = MomentCheckpoint(dataset(self.kept), self.samples, self.objective)
        sampled = self.samples["train"].sampled
        shape = (len(sampled.counts), classes)
        reference = SimpleNamespace(bound=0.01, objective=0.02, probabilities=softmax(rng.standard_normal(shape)))
        self.theory = SimpleNamespace(
            distribution=sampled, objective=self.objective, references={"convex": reference, "relu": reference}
        )

    def record(self, checkpoint) -> Record:
        record, place, train = Record(), {"epoch": 0}, self.samples["train"]
        classifier_metrics(record, place, checkpoint.weight)
        for split in self.samples:
            at = {**place, "split": split}
            geometry_metrics(record, at, checkpoint.condensed(split), checkpoint.weight, checkpoint.bias)
        each = checkpoint.predictions if self.objective.loss == "pal" else None
        predictions = Predictions(each, train.label_set, train.factors)
        optimality_metrics(record, place, checkpoint.terms, predictions, self.theory, "relu")
        spectral_metrics(record, place, checkpoint.mean_predictions, checkpoint.terms.total, self.theory, "relu")
        parts = split_gap(
            checkpoint.refit(), prototypes=checkpoint.condensed("train").prototypes, distribution=train.sampled,
            objective=self.objective, bound=0.0,
        )  # fmt: skip
        for part in ("classifier", "scatter", "prototypes", "slack"):
            record.keep(f"gap_{part}", {}, getattr(parts, part))
        return record


def dataset(values: dict[str, np.ndarray]) -> xr.Dataset:
    return xr.Dataset({n: ([f"{n}_{i}" for i in range(v.ndim)], v) for n, v in values.items()})


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6), width=st.integers(1, 12), weighted=st.booleans(), collapse=st.sampled_from([1.0, 1e-3]),
    loss=st.sampled_from(["pal", "bce", "mse"]),
)  # fmt: skip
def test_every_metric_from_moments_is_that_from_features(seed, width, weighted, collapse, loss):
    both = Both(seed, width=width, weighted=weighted, collapse=collapse, loss=loss)
    whole, moments = both.record(both.whole), both.record(both.moments)
    assert moments.undefined == whole.undefined
    assert moments.known.keys() == whole.known.keys()
    for metric, values in whole.known.items():
        found = moments.known[metric]
        assert found.keys() == values.keys(), metric
        for place, value in values.items():
            if metric == "total_variation":  # 16 bits for a prediction, see `pack_predictions`
                classes = both.samples["train"].distribution.classes
                assert abs(found[place] - value) <= classes / (4 * PREDICTION_STEPS)
            else:  # the rows of label sets may be summed in another order, by less than 1e-9 of the largest
                assert found[place] == pytest.approx(value, rel=1e-9, abs=1e-11), (metric, place)


def test_the_comparison_covers_every_metric():
    both = Both(3, width=6)
    record = both.record(both.whole)
    assert {*record.known, *record.undefined} == set(QUANTITIES) - {"error", "score"}  # recorded by training


def test_prototypes_keep_nan_where_a_label_set_has_no_sample_and_no_metric_sees_it():
    both = next(b for b in (Both(s, width=4) for s in range(50)) if np.isnan(b.kept["prototypes_train"]).any())
    assert np.isfinite(both.moments.condensed("train").prototypes).all()


def test_the_best_classifier_of_an_earlier_epoch_is_refused_by_name():
    both = Both(0, width=4, last=False)
    assert np.isnan(both.kept["refit_weight"]).all()
    with pytest.raises(UndefinedMetric, match="only at its last epoch; this one is earlier"):
        both.moments.refit()
    assert both.whole.refit().gain >= 0


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), classes=st.integers(2, 40))
def test_packed_predictions_move_total_variation_by_no_more_than_proven(seed, classes):
    rng = np.random.default_rng(seed)
    predictions, reference = (softmax(3 * rng.standard_normal((30, classes))) for _ in range(2))
    back = unpack_predictions(pack_predictions(predictions))
    assert np.abs(back - predictions).max() <= 0.5 / PREDICTION_STEPS * (1 + 1e-9)
    rms = [math.sqrt(np.mean((0.5 * np.abs(p - reference).sum(1)) ** 2)) for p in (predictions, back)]
    assert abs(rms[0] - rms[1]) <= classes / (4 * PREDICTION_STEPS)
