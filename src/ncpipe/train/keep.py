"""What the store keeps of a checkpoint's features: all of them, in float32 or float16, or their moments.

Moments are computed in float64 by numpy, from the float32 features as they come off the device: the same function on
the same values as the collapse stage applies to features that were kept, hence the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ncpipe.experiment.plan import DEFAULT_FEATURES
from ncpipe.geometry.moments import group_means, groups, moments, pack_predictions
from ncpipe.objective.losses import predictions
from ncpipe.objective.refit import refit_classifier
from ncpipe.objective.settings import Objective
from ncpipe.objective.terms import network_logits
from ncpipe.stores.zarr import EpochArray


class Keep:
    """Lays out what a run keeps of its features, and makes it of each checkpoint.

    Parameters
    ----------
    settings : mapping
        As `ncpipe.experiment.plan.train_settings` has them.
    label_sets : ndarray, shape (S, K)
        Multi-hot.
    label_set : mapping of split to ndarray of int, shape (N,)
        Row of each sample; no test split for free features.
    factors : ndarray, shape (S,), optional
        Sampling weight ω_S of each label set.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        label_sets: np.ndarray,
        label_set: Mapping[str, np.ndarray],
        factors: np.ndarray | None,
    ) -> None:
        self.mode: str = settings.get("features", DEFAULT_FEATURES)
        self.label_sets, self.label_set = label_sets, label_set
        self.objective = Objective.from_config(settings["objective"])
        self.factors = None if factors is None else factors[label_set["train"]]
        self.last: int = settings["epochs"]

    def arrays(self, split: str, width: int) -> dict[str, EpochArray]:
        """Arrays of one split, for features of this width."""
        samples, (sets, classes) = len(self.label_set[split]), self.label_sets.shape
        if self.mode != "moments":
            sizes = (samples, width)
            return {f"features_{split}": EpochArray((f"{split}_sample", "feature"), sizes, self.mode, "features")}

        def array(dims: tuple[str, ...], text: str, dtype: str = "float64") -> EpochArray:
            sizes = {
                "label_set": sets, "class": classes, "feature": width, "train_sample": samples,
                "direction": classes, "other_direction": classes,
            }  # fmt: skip
            return EpochArray(dims, tuple(sizes[d] for d in dims), dtype, text)

        arrays = {
            f"prototypes_{split}": array(("label_set", "feature"), "mean feature of each label set"),
            f"scatter_basis_{split}": array(("direction", "feature"), "orthonormal basis of the class means, then 0"),
            f"scatter_{split}": array(("direction", "other_direction"), "within-class covariance on that basis"),
        }
        if split == "train":
            arrays |= {
                "prediction_means_train": array(("label_set", "class"), "mean prediction of each label set"),
                "refit_weight": array(("class", "feature"), "best classifier on the last epoch's features"),
                "refit_bias": array(("class",), "its bias"),
                "refit_objective": array((), "terminal objective (7) with it"),
                "refit_gain": array((), "what it gains over the network's own"),
                "refit_slack": array((), "certified inexactness of that"),
            }
        if split == "train" and self.objective.facts.one_distribution:  # for the total variation
            arrays["predictions_train"] = array(("train_sample", "class"), "predictions in 65535ths", "uint16")
        return arrays

    def values(self, epoch: int, checkpoint: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Turn a checkpoint with all its features, as the trainer makes it, into what is kept of it."""
        if self.mode != "moments":
            return dict(checkpoint)
        kept = {name: value for name, value in checkpoint.items() if not name.startswith("features_")}
        sets, classes = self.label_sets.shape
        for split, label_set in self.label_set.items():
            features = checkpoint[f"features_{split}"]
            found = moments(features, label_set, self.label_sets.sum(axis=1))
            rank = found.basis.shape[1]
            basis, scatter = np.zeros((classes, features.shape[1])), np.zeros((classes, classes))
            basis[:rank], scatter[:rank, :rank] = found.basis.T, found.scatter
            kept |= {
                f"prototypes_{split}": found.prototypes,
                f"scatter_basis_{split}": basis,
                f"scatter_{split}": scatter,
            }
        weight, bias, features = (checkpoint[n] for n in ("classifier_weight", "classifier_bias", "features_train"))
        probabilities = predictions(network_logits(weight, bias, features), self.objective.loss)
        if self.objective.facts.one_distribution:
            kept["predictions_train"] = pack_predictions(probabilities)
        kept["prediction_means_train"] = group_means(probabilities, groups(self.label_set["train"], sets))
        return kept | self._refit(weight, bias, features, last=epoch == self.last)

    def _refit(
        self, weight: np.ndarray, bias: np.ndarray, features: np.ndarray, *, last: bool
    ) -> dict[str, np.ndarray]:
        """The best classifier at the last epoch; NaN, which takes no space, at the others."""
        shapes = {"weight": weight.shape, "bias": bias.shape, "objective": (), "gain": (), "slack": ()}
        if not last:
            return {f"refit_{name}": np.full(shape, np.nan) for name, shape in shapes.items()}
        found = refit_classifier(
            weight, bias, features, label_set=self.label_set["train"], multi_hot=self.label_sets.astype(np.float64),
            objective=self.objective, factors=self.factors,
        )  # fmt: skip
        return {f"refit_{name}": np.asarray(getattr(found, name)) for name in shapes}
