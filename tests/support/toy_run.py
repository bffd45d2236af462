"""A small label distribution, its optimum by a solver of its own, and a run of the train stage made by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from ncpipe.geometry.synthesis import fit_synthesis
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.losses import softmax
from ncpipe.objective.settings import Objective
from ncpipe.objective.terms import lower_bound, objective_terms, residual_matrix
from ncpipe.results.theory_file import theory_content
from ncpipe.stores.files import write_json
from ncpipe.stores.zarr import Array, EpochArray, EpochWriter, Store
from ncpipe.theory.analysis import analyse

OBJECTIVE = {"target": "normalised", "lambda_w": 0.01, "lambda_h": 0.05, "lambda_b": 0.01, "bias": True}
NAMES = ("ant", "bee", "cat", "doe")


@dataclass(frozen=True, eq=False)
class Case:
    """A distribution, its objective, and a theory file about them."""

    distribution: LabelDistribution
    objective: Objective
    theory: dict[str, Any]


def _optimum(
    distribution: LabelDistribution, objective: Objective, *, lower: float | None
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Minimise (7) in factored form with L-BFGS-B, features optionally >= `lower`; value, W, b, prototypes."""
    classes, sets, width = distribution.classes, len(distribution.counts), 6
    weights, targets = distribution.weights, distribution.targets(objective.target)
    tau = targets.sum(1, keepdims=True)
    sizes = (classes * width, sets * width)

    def parts(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return (
            x[: sizes[0]].reshape(classes, width),
            x[sizes[0] : sum(sizes)].reshape(sets, width),
            x[sum(sizes) :] * objective.use_bias,
        )

    def value(x: np.ndarray) -> tuple[float, np.ndarray]:
        w, h, b = parts(x)
        z = h @ w.T + b
        peak = z.max(1, keepdims=True)
        lse = peak + np.log(np.exp(z - peak).sum(1, keepdims=True))
        loss = weights @ (tau * lse - (targets * z).sum(1, keepdims=True))[:, 0]
        g = weights[:, None] * (tau * np.exp(z - lse) - targets)
        total = loss + objective.lambda_w / 2 * (w**2).sum() + objective.lambda_b / 2 * (b**2).sum()
        total += objective.lambda_h / 2 * weights @ (h**2).sum(1)
        slope_h = g @ w + objective.lambda_h * weights[:, None] * h
        slope_b = (g.sum(0) + objective.lambda_b * b) * objective.use_bias
        return total, np.concatenate([(g.T @ h + objective.lambda_w * w).ravel(), slope_h.ravel(), slope_b])

    bounds = [(None, None)] * sizes[0] + [(lower, None)] * sizes[1] + [(None, None)] * classes
    best = None
    for seed in range(4):
        start = np.random.default_rng(seed).standard_normal(sum(sizes) + classes)
        start[sizes[0] : sum(sizes)] = np.abs(start[sizes[0] : sum(sizes)])
        options = {"maxiter": 20000, "maxfun": 40000, "ftol": 0.0, "gtol": 1e-11, "maxcor": 30}
        found = minimize(value, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        best = found if best is None or found.fun < best.fun else best
    w, h, b = parts(best.x)
    return float(best.fun), w, b, h


def _dual_bound(distribution: LabelDistribution, objective: Objective, probabilities: np.ndarray) -> float:
    """Evaluate (9) on the segment from t to p, at the last point that is feasible."""
    start = distribution.targets(objective.target) / distribution.tau(objective.target)[:, None]
    norm = np.linalg.norm(residual_matrix(distribution, objective, probabilities=probabilities), 2)
    share = min(1.0, objective.lam / norm)
    return lower_bound(distribution, objective, dual_point=start + share * (probabilities - start))


def make_theory(distribution: LabelDistribution, entry: dict[str, Any]) -> dict[str, Any]:
    objective = Objective.from_config(entry)
    payload = theory_content(analyse(distribution, objective))
    convex_bound = 0.0
    for name, bound, lower in (("optimum", "dual_bound", None), ("relu", "lower_bound", 0.0)):
        value, w, b, h = _optimum(distribution, objective, lower=lower)
        p = softmax(h @ w.T + b)
        if lower is None:
            convex_bound = _dual_bound(distribution, objective, p)
        payload[name] = {
            "objective": value,
            bound: convex_bound,  # (9) is a bound for features >= 0 too, only not a tight one
            "weight": w.tolist(),
            "certified": True,
            "bias": b.tolist(),
            "prototypes": h.tolist(),
            "logits": (h @ w.T + b).tolist(),
            "probabilities": p.tolist(),
        }
    convex = payload["optimum"]
    payload["synthesis"] = fit_synthesis(
        np.array(convex["prototypes"]), np.array(convex["weight"]), distribution, replicates=20, permutations=2
    )
    return payload


@pytest.fixture(scope="session")
def case() -> Case:
    """K = 4, unequal counts, multiplicities 1 to 3."""
    counts = {(0,): 40, (1,): 30, (2,): 20, (3,): 10}
    counts |= {(0, 1): 8, (0, 2): 8, (1, 2): 6, (0, 3): 5, (1, 3): 5, (2, 3): 7, (0, 1, 2): 4, (1, 2, 3): 3}
    distribution = LabelDistribution.from_counts(counts, 4, class_names=NAMES)
    return Case(distribution, Objective.from_config(OBJECTIVE), make_theory(distribution, OBJECTIVE))


@pytest.fixture(scope="session")
def theory_path(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("theory") / "toy" / "step" / "pal.json"
    write_json(path, case.theory)
    return path


@dataclass(frozen=True, eq=False)
class RunMaker:
    """Writes runs as the train stage does, collapsing onto the optimum from epoch to epoch."""

    case: Case

    def features(self, epoch: int, *, negative: bool, samples: np.ndarray, seed: int = 0) -> np.ndarray:
        reference = self.case.theory["optimum" if negative else "relu"]
        noise = np.random.default_rng([seed, epoch]).standard_normal((len(samples), 6)) * 2.0 ** (2 - epoch)
        features = np.array(reference["prototypes"])[samples] + noise
        return (features if negative else np.maximum(features, 0)).astype(np.float32)

    def write(
        self,
        folder: Path,
        *,
        architecture: str = "mlp",
        epochs: int = 4,
        finished: int | None = None,
        change: Any = None,
        seed: int = 0,
    ) -> Path:
        """Write the run's store and manifest; `change(epoch, values)` may spoil an epoch's values."""
        distribution, objective = self.case.distribution, self.case.objective
        free = architecture == "ufm"
        # The store knows every label set of the data set, in its own order; the test split has pairs only in part.
        order = np.arange(len(distribution.counts))[::-1]
        label_sets = distribution.multi_hot()[order].astype(np.uint8)
        position = np.argsort(order)
        train = np.repeat(np.arange(len(order)), distribution.counts.astype(int))
        test = np.repeat(np.arange(len(order) - 2), 3)
        static = {
            "label_sets": Array(("label_set", "class"), label_sets, "multi-hot label sets"),
            "label_set_train": Array(("train_sample",), position[train].astype(np.int32), "label set"),
        }
        arrays = {
            "features_train": EpochArray(("train_sample", "feature"), (len(train), 6), "float32", "features"),
            "classifier_weight": EpochArray(("class", "feature"), (4, 6), "float32", "weight"),
            "classifier_bias": EpochArray(("class",), (4,), "float32", "bias"),
        }
        scalars = ["objective", "error_train", "score_train"]
        if not free:
            static["label_set_test"] = Array(("test_sample",), position[test].astype(np.int32), "label set")
            arrays["features_test"] = EpochArray(("test_sample", "feature"), (len(test), 6), "float32", "features")
            scalars += ["error_test", "score_test"]
        arrays |= {name: EpochArray((), (), "float64", name) for name in scalars}
        folder.mkdir(parents=True, exist_ok=True)
        writer = EpochWriter.create(
            folder / "features.zarr",
            epochs=list(range(epochs)),
            arrays=arrays,
            static=static,
            attributes={
                "dataset": "toy",
                "setting": "step",
                "network": architecture,
                "seed": seed,
                "objective": OBJECTIVE,
                "architecture": architecture,
                "class_names": list(NAMES),
            },
        )
        reference = self.case.theory["optimum" if free else "relu"]
        for epoch in range(epochs if finished is None else finished):
            noise = np.random.default_rng([seed, epoch, 1]).standard_normal((4, 6)) * 2.0 ** (1 - epoch)
            weight = (np.array(reference["weight"]) + noise).astype(np.float32)
            bias = np.array(reference["bias"], dtype=np.float32)
            features = self.features(epoch, negative=free, samples=train, seed=seed)
            terms = objective_terms(
                weight, bias, features, label_set=train, multi_hot=distribution.multi_hot(), objective=objective
            )
            values = {
                "features_train": features,
                "classifier_weight": weight,
                "classifier_bias": bias,
                "objective": np.float64(terms.total),
                "error_train": np.float64(0.5**epoch),
                "score_train": np.float64(0.5),
            }
            if not free:
                values["features_test"] = self.features(epoch, negative=False, samples=test, seed=seed + 1)
                values |= {"error_test": np.float64(0.75**epoch), "score_test": np.float64(0.4)}
            if change is not None:
                change(epoch, values)
            writer.write(epoch, values)
        digest = Store(folder / "features.zarr").digest()
        manifest = {"kind": "train", "store": "features.zarr", "store_digest": digest}
        write_json(folder / "manifest.json", manifest)
        return folder


@pytest.fixture(scope="session")
def run_maker(case: Case) -> RunMaker:
    return RunMaker(case)
