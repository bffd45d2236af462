"""Label distributions that the configuration admits, drawn, and results of them made in memory instead of trained."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ncpipe.collapse.analyse import analyse_run
from ncpipe.collapse.tables import summarise
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.labels.names import LabelSet, label_set_name
from ncpipe.objective.losses import simplex_etf
from ncpipe.objective.settings import Objective
from ncpipe.objective.terms import network_terms
from ncpipe.results.layout import FEATURES, Layout
from ncpipe.stores.files import write_manifest
from ncpipe.stores.zarr import Array, EpochArray, EpochWriter, Store
from ncpipe.theory.analysis import write_theory

WIDTH = 5
OBJECTIVES: dict[str, dict[str, Any]] = {
    "pal": {"target": "normalised", "lambda_w": 0.01, "lambda_h": 0.1, "lambda_b": 0.01, "bias": True},
    "raw": {"target": "raw", "lambda_w": 0.01, "lambda_h": 0.1, "lambda_b": 0.0, "bias": False},
    "free": {"target": "normalised", "lambda_w": 0.01, "lambda_h": 0.1, "lambda_b": 0.0, "bias": True},
    "bce": {"target": "raw", "lambda_w": 0.01, "lambda_h": 0.1, "lambda_b": 0.01, "bias": True, "loss": "bce"},
    "etf": {"target": "normalised", "lambda_w": 0.01, "lambda_h": 0.1, "lambda_b": 0.01, "bias": True,
            "classifier": "etf"},
}  # fmt: skip
Counts = dict[LabelSet, int]


@dataclass(frozen=True)
class Dataset:
    """A data set: how many classes, the label sets of its test split, and those of each setting with their samples."""

    classes: int
    settings: dict[str, Counts]
    test: Counts


@dataclass(frozen=True)
class Configuration:
    """What a configuration selects; every network trains `objective`, and a ``ufm`` has no test split."""

    datasets: dict[str, Dataset]
    objective: str = "pal"
    networks: tuple[str, ...] = ("mlp",)
    seeds: int = 1

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """``settings`` of the configuration, as far as labels, figures and claims read them."""
        entries: dict[str, dict[str, Any]] = {}
        for dataset in self.datasets.values():
            for name, counts in dataset.settings.items():
                named = {label_set_name(s): n for s, n in counts.items()}
                entries[name] = {"profile": "balanced"} if name == "balanced" else {
                    "profile": "explicit", "counts": named}  # fmt: skip
        return entries


@dataclass(frozen=True)
class Results:
    """Where the results of a configuration lie."""

    configuration: Configuration
    root: Path
    theory: list[Path] = field(default_factory=list)
    runs: list[Path] = field(default_factory=list)
    collapse: list[Path] = field(default_factory=list)

    def table(self, name: str) -> Path:
        """A table of the collapse stage."""
        return Path(Layout(self.root).table(name))


def balanced(classes: int, *per_set: int) -> Counts:
    """Samples of every label set of multiplicity 1, 2, ..."""
    return {s: n for m, n in enumerate(per_set, 1) if n for s in combinations(range(classes), m)}


def one(classes: int, counts: Counts, *, test: Counts | None = None, **more: Any) -> Configuration:
    """A configuration of one data set and one setting."""
    return Configuration({"d": Dataset(classes, {"given": counts}, counts if test is None else test)}, **more)


SINGLES_3 = balanced(3, 3)
# Each of these kinds of labels ended in a traceback once, or could.
CASES: dict[str, Configuration] = {
    "a class without samples": one(4, {(0,): 3, (1,): 3, (2,): 3, (0, 1): 2}),
    "a class in pairs only": one(4, {(0,): 3, (1,): 3, (2,): 3, (0, 3): 2}),
    "singles only, two seeds": one(3, SINGLES_3, seeds=2),
    "multiplicity three without pairs": one(4, balanced(4, 3, 0, 2)),
    "no singles": one(4, balanced(4, 0, 2)),
    "one label set": one(3, {(1,): 4}),
    "one label set of two": one(3, {(0, 2): 4}, objective="free"),
    "two classes": one(2, {(0,): 4, (1,): 3}, objective="raw"),
    "all classes at once": one(3, {**SINGLES_3, (0, 1, 2): 2}),
    "only all classes at once": one(2, {(0, 1): 3}, objective="bce"),
    "a test split without pairs": one(3, balanced(3, 3, 2), test=SINGLES_3),
    "one sample": one(2, {(0,): 1}),
    "data sets of other multiplicities": Configuration(
        {
            "d": Dataset(3, {"balanced": balanced(3, 3, 2), "given": {(0,): 3, (1,): 1, (0, 1): 2}}, SINGLES_3),
            "e": Dataset(4, {"balanced": balanced(4, 2)}, balanced(4, 1)),
        },
        networks=("mlp", "ufm"),
    ),
}


@st.composite
def configurations(draw: st.DrawFn) -> Configuration:
    """One or two data sets, each with its classes, multiplicities and one or two settings."""
    datasets = {}
    for name in ("d", "e")[: draw(st.integers(1, 2))]:
        classes = draw(st.integers(2, 4))
        multiplicities = draw(st.sets(st.integers(1, classes), min_size=1))
        sets = [s for m in sorted(multiplicities) for s in combinations(range(classes), m)]
        settings: dict[str, Counts] = {}
        if draw(st.booleans()):
            settings["balanced"] = {s: 3 if len(s) == 1 else 2 for s in sets}
        if not settings or draw(st.booleans()):
            chosen = draw(st.lists(st.sampled_from(sets), min_size=1, unique=True))
            settings[f"given-{name}"] = {s: draw(st.integers(1, 4)) for s in sorted(chosen, key=lambda s: (len(s), s))}
        test = draw(st.lists(st.sampled_from(sets), min_size=1, unique=True))
        datasets[name] = Dataset(classes, settings, dict.fromkeys(sorted(test, key=lambda s: (len(s), s)), 2))
    networks = draw(st.sampled_from([("mlp",), ("ufm",), ("mlp", "ufm")]))
    return Configuration(datasets, draw(st.sampled_from(sorted(OBJECTIVES))), networks, draw(st.integers(1, 2)))


def make_results(root: Path, configuration: Configuration) -> Results:
    """Theory files, runs, analyses and tables of a configuration; features are near the optimum, at two epochs."""
    results, layout = Results(configuration, root), Layout(root)
    entry = OBJECTIVES[configuration.objective]
    for dataset, content in configuration.datasets.items():
        names = [f"class {k}" for k in range(content.classes)]
        for setting, counts in content.settings.items():
            theory = Path(layout.theory(dataset, setting, configuration.objective))
            write_theory({label_set_name(s): n for s, n in counts.items()}, content.classes, names, entry, theory)
            results.theory.append(theory)
            for network in configuration.networks:
                for seed in range(configuration.seeds):
                    run = f"{dataset}/{setting}/{network}/seed-{seed}"
                    folder, analysis = Path(layout.folder("train", run)), Path(layout.folder("collapse", run))
                    _write_run(folder, configuration, content, (dataset, setting, network, seed))
                    analyse_run(folder, theory, analysis, logging.getLogger("test"))
                    results.runs.append(folder)
                    results.collapse.append(analysis)
    tables = {name: results.table(name) for name in ("metrics", "optimum", "synthesis")}
    summarise(results.collapse, results.theory, **tables)
    return results


def _write_run(folder: Path, configuration: Configuration, dataset: Dataset, run: tuple[str, str, str, int]) -> None:
    """The store and manifest that training leaves."""
    name, setting, network, seed = run
    entry = OBJECTIVES[configuration.objective]
    objective, rng = Objective.from_config(entry), np.random.default_rng([seed, 7])
    counts = dataset.settings[setting]
    sets = sorted({*counts, *dataset.test}, key=lambda s: (len(s), s))
    label_sets = LabelDistribution.from_counts(dict.fromkeys(sets, 1), dataset.classes).multi_hot()
    label_set = {"train": _samples(sets, counts)}
    label_set |= {} if network == "ufm" else {"test": _samples(sets, dataset.test)}
    prototypes = label_sets @ rng.standard_normal((dataset.classes, WIDTH))
    if network != "ufm":  # after a ReLU
        prototypes = np.abs(prototypes)
    static = {"label_sets": Array(("label_set", "class"), label_sets.astype(np.uint8), "multi-hot label sets")}
    epochs = []
    for epoch in range(2):
        values: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
        weight = rng.standard_normal((dataset.classes, WIDTH)).astype(np.float32)
        if objective.classifier == "etf":
            weight = simplex_etf(dataset.classes, WIDTH).astype(np.float32)
        bias = (rng.standard_normal(dataset.classes) * objective.use_bias).astype(np.float32)
        for split, rows in label_set.items():
            static[f"label_set_{split}"] = Array((f"{split}_sample",), rows.astype(np.int32), "label set")
            noise = rng.uniform(0.1, 0.2, (len(rows), WIDTH)) * (1 - epoch)  # collapsed at the end
            features = (prototypes[rows] + noise).astype(np.float32)
            values[f"features_{split}"] = (f"{split}_sample", "feature"), features
            values |= {f"{kind}_{split}": ((), np.array(0.5)) for kind in ("error", "score")}
        values["classifier_weight"] = ("class", "feature"), weight
        values["classifier_bias"] = ("class",), bias
        terms = network_terms(
            weight, bias, values["features_train"][1], label_set=label_set["train"], multi_hot=label_sets,
            objective=objective,
        )  # fmt: skip
        values["objective"] = (), np.array(terms.total)
        epochs.append(values)
    arrays = {n: EpochArray(dims, np.shape(v), str(v.dtype), n) for n, (dims, v) in epochs[0].items()}
    identity = {"dataset": name, "setting": setting, "network": network, "seed": seed}
    attributes = {
        **identity, "objective": entry, "architecture": network,
        "class_names": [f"class {k}" for k in range(dataset.classes)],
    }  # fmt: skip
    folder.mkdir(parents=True)
    writer = EpochWriter.create(folder / FEATURES, epochs=[0, 1], arrays=arrays, static=static, attributes=attributes)
    for epoch, values in enumerate(epochs):
        writer.write(epoch, {n: v for n, (_, v) in values.items()})
    settings = {
        "run": identity, "network": {"architecture": network, "objective": configuration.objective},
        "counts": {label_set_name(s): n for s, n in counts.items()}, "epochs": 1, "recipe": {"epochs": 1, "batch": 8},
    }  # fmt: skip
    write_manifest(
        folder / "manifest.json",
        {
            "kind": "train", "identity": {"settings": settings, "algorithm_version": 1, "data": "0" * 64},
            "environment": {"python": "3.11", "torch": "2.13.0", "ncpipe": "0.1.0", "device": "cpu", "threads": 1},
            "epochs": [0, 1], "store": FEATURES, "store_digest": Store(folder / FEATURES).digest(),
        },
    )  # fmt: skip


def _samples(sets: list[LabelSet], counts: Counts) -> np.ndarray:
    return np.repeat(np.arange(len(sets)), [counts.get(s, 0) for s in sets])
