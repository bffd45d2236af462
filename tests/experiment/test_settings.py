"""The configuration: every fault is one plain line, all of them at once; the plan has the numbers of hand counts."""

from __future__ import annotations

import copy
import datetime
import math
import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from fuzz import fuzz
from hypothesis import given
from hypothesis import strategies as st

from ncpipe.errors import ConfigError, InputError
from ncpipe.experiment.plan import (
    DEFAULT_ARITHMETIC,
    STUDIES,
    Run,
    balanced_counts,
    checkpoint_epochs,
    data_spec,
    objective_entry,
    plan_runs,
    plan_studies,
    run_epochs,
    sampling_target,
    setting_counts,
    study_settings,
    train_settings,
)
from ncpipe.experiment.reading import check, load_config, refuse_duplicate_keys, typed

CHECKOUT = Path(__file__).parents[2]
DEFAULT = load_config(CHECKOUT / "config.yaml")
DIGITS = DEFAULT["datasets"]["mlab_digits"]


def changed(*changes: tuple[Any, ...]) -> dict[str, Any]:
    """The default configuration with (key, ..., value) set, and (key, ..., None) without `value` where it is `...`."""
    config = copy.deepcopy(DEFAULT)
    for *keys, last, value in changes:
        target: Any = config
        for key in keys:
            target = target[key]
        if value is ...:
            del target[last]
        else:
            target[last] = value
    return config


def problems(config: Mapping[str, Any]) -> list[str]:
    try:
        check(config)
    except ConfigError as error:
        return error.problems or ["an error without a line"]
    return []


# --- the configurations that come with it ---------------------------------------------------------------------------


def test_default_and_smoke_are_valid() -> None:
    check(DEFAULT)
    check(load_config(CHECKOUT / "config.yaml", CHECKOUT / "config/smoke.yaml"))


@pytest.mark.parametrize("name", ["paper", "li2024"])
def test_presets_lack_nothing_but_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(CHECKOUT / "config.yaml", CHECKOUT / f"config/{name}.yaml")
    assert problems(config) == [
        "datasets.mlab_mnist: resources/mnist: missing; allowed is the path where the files of mnist lie, "
        "ncpipe fetch mnist downloads them",
        "datasets.mlab_cifar10: resources/cifar-10-binary.tar.gz: missing; allowed is the path where the files of "
        "cifar10 lie, ncpipe fetch cifar10 downloads them",
    ]
    (runs,) = {(run.network, len(plan_runs(config))) for run in plan_runs(config)}
    assert runs == ("resnet18", 2 * 3 * 5)
    for dataset in ("mlab_mnist", "mlab_cifar10"):
        counts = setting_counts(config["datasets"][dataset], {"profile": "balanced"})
        assert sum(counts.values()) == 40_000


def test_every_yaml_file_is_an_overlay_of_valid_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is in config/ may lack files here, but has no misspelt key, wrong type or unknown name."""
    monkeypatch.chdir(tmp_path)
    for overlay in sorted((CHECKOUT / "config").glob("*.yaml")):
        for line in problems(load_config(CHECKOUT / "config.yaml", overlay)):
            assert re.match(r"datasets\.[^.]+: resources/", line), (overlay, line)


# --- bad input ------------------------------------------------------------------------------------------------------

SINGLE_FAULTS = {
    "unknown key at the top": (
        [("setings", {})],
        ["setings: unknown key; did you mean 'settings'? allowed: results, device, datasets, settings, objectives, "
         "recipes, networks, studies, runs"],
    ),
    "misspelt key": (
        [("recipes", "cnn", "momemtum", 0.9)],
        ["recipes.cnn.momemtum: unknown key; did you mean 'momentum'? allowed: epochs, batch, lr, momentum, "
         "weight_decay, schedule, feature_penalty, precision, compile, deterministic, checkpoints, features"],
    ),
    "a sum over the only batch": (
        [("recipes", "ufm", "feature_penalty", "batch_sum")],
        ["recipes.ufm.feature_penalty: found 'batch_sum' with batch full; it differs from per_sample in a short last "
         "batch only, remove the key"],
    ),
    "unknown key without a near match": (
        [("runs", 0, "xyz", 1)],
        ["runs[0].xyz: unknown key; allowed: datasets, settings, networks, seeds"],
    ),
    "missing keys": (
        [("recipes", "cnn", "lr", ...), ("recipes", "cnn", "batch", ...)],
        ["recipes.cnn.batch: missing; allowed: a whole number >= 1 or full",
         "recipes.cnn.lr: missing; allowed: a number > 0"],
    ),
    "missing section": ([("runs", ...)], ["runs: missing; allowed: a list"]),
    "precision that a CPU lacks": (
        [("device", "cpu"), ("recipes", "mlp", "precision", "tf32")],
        ["recipes.mlp.precision: found 'tf32' with device cpu; allowed there: float32, bfloat16, float16"],
    ),
    "unknown precision": (
        [("recipes", "mlp", "precision", "bf16")],
        ["recipes.mlp.precision: found 'bf16' (text); did you mean 'bfloat16'? allowed: float32, tf32, bfloat16, "
         "float16"],
    ),
    "arithmetic of free features": (
        [("recipes", "ufm", "precision", "bfloat16"), ("recipes", "ufm", "compile", True)],
        ["networks.ufm.recipe: found 'ufm' with precision 'bfloat16' (text); architecture ufm has no layers to "
         "compute, remove that key",
         "networks.ufm.recipe: found 'ufm' with compile true; architecture ufm has no layers to compute, remove that "
         "key"],
    ),
    "wrong type: mapping": (
        [("settings", "balanced", 3)],
        ["settings.balanced: found 3; allowed: a mapping"],
    ),
    "wrong type: list": ([("runs", {})], ["runs: found a mapping; allowed: a list"]),
    "wrong type: text": (
        [("recipes", "cnn", "epochs", "many")],
        ["recipes.cnn.epochs: found 'many' (text); allowed: a whole number >= 1 and <= 1000000"],
    ),
    "wrong type: nothing": (
        [("recipes", "mlp", "lr", None)],
        ["recipes.mlp.lr: found nothing (null); allowed: a number > 0"],
    ),
    "wrong type: true for a number": (
        [("recipes", "mlp", "momentum", True)],
        ["recipes.mlp.momentum: found true; allowed: a number >= 0 and < 1"],
    ),
    "a float for a whole number": (
        [("recipes", "cnn", "epochs", 3.0)],
        ["recipes.cnn.epochs: found 3.0; allowed: a whole number >= 1 and <= 1000000"],
    ),
    "not finite": (
        [("objectives", "pal", "lambda_h", math.nan), ("recipes", "cnn", "lr", math.inf)],
        ["objectives.pal.lambda_h: found nan; allowed: a number > 0",
         "recipes.cnn.lr: found inf; allowed: a number > 0"],
    ),
    "a number that YAML reads as text": (
        [("recipes", "cnn", "lr", "1e-5"), ("recipes", "cnn", "batch", "64"), ("recipes", "mlp", "lr", "2.5e-3")],
        ["recipes.cnn.batch: found '64' (text); YAML reads it as text, write 64; allowed: a whole number >= 1 or full",
         "recipes.cnn.lr: found '1e-5' (text); YAML reads it as text, write 1.0e-05; allowed: a number > 0",
         "recipes.mlp.lr: found '2.5e-3' (text); YAML reads it as text, write 0.0025; allowed: a number > 0"],
    ),
    "ratio 0": (
        [("settings", "step-0.1", "ratio", 0)],
        ["settings.step-0.1.ratio: found 0; allowed: a number > 0 and <= 1"],
    ),
    "ratio negative": (
        [("settings", "step-0.1", "ratio", -0.5)],
        ["settings.step-0.1.ratio: found -0.5; allowed: a number > 0 and <= 1"],
    ),
    "ratio above 1": (
        [("settings", "exponential-0.1", "ratio", 1.5)],
        ["settings.exponential-0.1.ratio: found 1.5; allowed: a number > 0 and <= 1"],
    ),
    "ratio missing": (
        [("settings", "step-0.1", "ratio", ...)],
        ["settings.step-0.1.ratio: missing; profile step needs it"],
    ),
    "ratio that the profile does not use": (
        [("settings", "balanced", "ratio", 0.5)],
        ["settings.balanced.ratio: found 0.5; profile balanced does not use it, remove the key"],
    ),
    "unknown profile": (
        [("settings", "balanced", "profile", "exponentail")],
        ["settings.balanced.profile: found 'exponentail' (text); did you mean 'exponential'? allowed: balanced, step, "
         "exponential, uniform, explicit"],
    ),
    "explicit counts missing": (
        [("settings", "balanced", "profile", "explicit")],
        ["settings.balanced.counts: missing; profile explicit needs it"],
    ),
    "unknown sampling": (
        [("settings", "step-0.1", "sampling", "max_kapa")],
        ["settings.step-0.1.sampling: found 'max_kapa' (text); did you mean 'max_kappa'? allowed: natural, "
         "class_balanced, effective_number, max_kappa"],
    ),
    "misspelt sampling": (
        [("settings", "step-0.1", "samplings", "max_kappa")],
        ["settings.step-0.1.samplings: unknown key; did you mean 'sampling'? allowed: profile, ratio, total, counts, "
         "budget, sampling, cap"],
    ),
    "a total that a profile does not use": (
        [("settings", "balanced", "total", "fixed")],
        ["settings.balanced.total: found 'fixed' (text); profile balanced does not use it, remove the key"],
    ),
    "unknown loss": (
        [("objectives", "pal", "loss", "bse")],
        ["objectives.pal.loss: found 'bse' (text); did you mean 'mse'? allowed: pal, bce, mse"],
    ),
    "binary cross-entropy of shares": (
        [("objectives", "pal", "loss", "bce"), ("studies", ...)],
        ["objectives.pal.target: found 'normalised' (text); allowed with loss bce: raw"],
    ),
    "class weights of another loss": (
        [("objectives", "pal", "loss", "mse"), ("objectives", "pal", "class_weights", "balanced"), ("studies", ...)],
        ["objectives.pal.class_weights: found 'balanced' (text); loss mse does not use it, remove the key"],
    ),
    "class weights that are none": (
        [("objectives", "pal", "class_weights", [1, 0, "2"]), ("studies", ...)],
        ["objectives.pal.class_weights[1]: found 0; allowed: a number > 0",
         "objectives.pal.class_weights[2]: found '2' (text); YAML reads it as text, write 2; allowed: a number > 0"],
    ),
    "class weights of other classes": (
        [("objectives", "pal", "class_weights", [1.0, 2.0]), ("studies", ...)],
        ["objectives.pal.class_weights: found 2 numbers; mlab_digits has 10 classes, allowed: one number > 0 for each"],
    ),
    "balanced weights of a class without samples": (
        [("objectives", "pal", "class_weights", "balanced"), ("studies", ...),
         ("settings", "step-0.1", {"profile": "explicit", "counts": {"0": 3, "1+2": 4}})],
        ["objectives.pal.class_weights: found 'balanced'; class 3 has no sample in setting step-0.1 of mlab_digits, "
         "allowed: a list, or samples of every class"],
    ),
    "a fixed classifier with too few features": (
        [("objectives", "pal", "classifier", "etf"), ("networks", "cnn", "width", 2), ("studies", ...)],
        ["networks.cnn: found feature width 8 with objective pal, whose classifier is a simplex ETF; mlab_digits has "
         "10 classes, allowed: a feature width of 10 or more"],
    ),
    "studies of another objective": (
        [("objectives", "pal", "classifier", "etf")],
        ["studies.objective: found 'pal'; allowed: an objective with loss pal, without class_weights, its classifier "
         "learned"],
    ),
    "cap of nothing": (
        [("settings", "step-0.1", "cap", 2)],
        ["settings.step-0.1.cap: found 2; sampling natural does not use it, remove the key"],
    ),
    "cap of another sampling": (
        [("settings", "step-0.1-max-kappa", "sampling", "class_balanced")],
        ["settings.step-0.1-max-kappa.cap: found 2; sampling class_balanced does not use it, remove the key"],
    ),
    "cap that allows nothing": (
        [("settings", "step-0.1-max-kappa", "cap", 1)],
        ["settings.step-0.1-max-kappa.cap: found 1; allowed: a number > 1"],
    ),
    "a class beyond K": (
        [("settings", "balanced", {"profile": "explicit", "counts": {"3": 5, "4+10": 5}})],
        ["settings.balanced.counts.4+10: found '4+10'; classes of mlab_digits are 0 to 9, each at most once"],
    ),
    "a class twice in a label set": (
        [("settings", "balanced", {"profile": "explicit", "counts": {"3+3": 5}})],
        ["settings.balanced.counts.3+3: found '3+3'; classes of mlab_digits are 0 to 9, each at most once"],
    ),
    "a label set twice": (
        [("settings", "balanced", {"profile": "explicit", "counts": {"1+2": 5, "2+1": 6}})],
        ["settings.balanced.counts.2+1: found the label set of '1+2' again; allowed: each at most once"],
    ),
    "a label set that is not one": (
        [("settings", "balanced", {"profile": "explicit", "counts": {"1,2": 5}})],
        ["settings.balanced.counts: found the name '1,2'; allowed: class numbers joined by '+'"],
    ),
    "more samples than the data set has": (
        [("settings", "balanced", {"profile": "explicit", "counts": {"3": 141, "1+2": 21, "1+2+3": 1}})],
        ["settings.balanced.counts.3: found 141; data set mlab_digits has 140 samples of it "
         "(datasets.mlab_digits.train_counts)",
         "settings.balanced.counts.1+2: found 21; data set mlab_digits has 20 samples of it "
         "(datasets.mlab_digits.train_counts)",
         "settings.balanced.counts.1+2+3: found 1; data set mlab_digits has 0 samples of it "
         "(datasets.mlab_digits.train_counts)"],
    ),
    "more samples than images exist": (
        [("datasets", "mlab_digits", "train_counts", [140, 141]), ("datasets", "mlab_digits", "test_counts", [35, 5])],
        ["datasets.mlab_digits.train_counts[1]: found 141; the train split of digits has 140 images in its smallest "
         "class, allowed: 0 to 140",
         "datasets.mlab_digits.test_counts[0]: found 35; the test split of digits has 34 images in its smallest class, "
         "allowed: 0 to 34"],
    ),
    "impossible multiplicity": (
        [("datasets", "mlab_digits", "train_counts", [1, 1, 1, 1, 1])],
        ["datasets.mlab_digits.train_counts: found 5 entries; allowed: at most 4"],
    ),
    "no multiplicity": (
        [("datasets", "mlab_digits", "test_counts", [])],
        ["datasets.mlab_digits.test_counts: found 0 entries; allowed: at least 1"],
    ),
    "no samples": (
        [("datasets", "mlab_digits", "train_counts", [0, 0])],
        ["datasets.mlab_digits.train_counts: found only zeros; allowed: at least one sample"],
    ),
    "negative count": (
        [("datasets", "mlab_digits", "train_counts", 0, -1)],
        ["datasets.mlab_digits.train_counts[0]: found -1; allowed: a whole number >= 0 and <= 1000000"],
    ),
    "unknown base": (
        [("datasets", "mlab_digits", "base", "minst")],
        ["datasets.mlab_digits.base: found 'minst' (text); did you mean 'mnist'? allowed: digits, mnist5k, mnist, "
         "fashion_mnist, cifar10, svhn"],
    ),
    "unknown data set": (
        [("runs", 0, "datasets", 0, "mlab_digit")],
        ["runs[0].datasets[0]: found 'mlab_digit'; did you mean 'mlab_digits'? allowed: mlab_digits"],
    ),
    "unknown setting": (
        [("runs", 1, "settings", ["step-0.22", "q"])],
        [f"runs[1].settings[0]: found 'step-0.22'; did you mean 'step-0.2'? allowed: {', '.join(DEFAULT['settings'])}",
         f"runs[1].settings[1]: found 'q'; allowed: {', '.join(DEFAULT['settings'])}"],
    ),
    "unknown network": (
        [("runs", 2, "networks", ["umf"])],
        ["runs[2].networks[0]: found 'umf'; did you mean 'ufm'? allowed: cnn, mlp, ufm"],
    ),
    "unknown architecture": (
        [("networks", "cnn", "architecture", "resnet-18")],
        ["networks.cnn.architecture: found 'resnet-18' (text); did you mean 'resnet18'? allowed: cnn, mlp, resnet18, "
         "resnet34, resnet50, vgg16, vit, ufm"],
    ),
    "unknown objective and recipe": (
        [("networks", "cnn", "objective", "pall"), ("networks", "mlp", "recipe", "sgd")],
        ["networks.cnn.objective: found 'pall'; did you mean 'pal'? allowed: pal",
         "networks.mlp.recipe: found 'sgd'; allowed: cnn, mlp, ufm"],
    ),
    "keys of another architecture": (
        [("networks", "cnn", "architecture", "mlp")],
        ["networks.cnn.width: found 16; architecture mlp does not use it, remove the key",
         "networks.cnn.hidden: missing; architecture mlp needs it",
         "networks.cnn.features: missing; architecture mlp needs it"],
    ),
    "keys of a transformer": (
        [("networks", "cnn", {"architecture": "vit", "width": 16, "patch": 4, "depth": 2, "heads": 3, "features": 32,
                              "objective": "pal", "recipe": "cnn"})],
        ["networks.cnn.width: found 16; architecture vit does not use it, remove the key",
         "networks.cnn.heads: found 3; allowed: a divisor of networks.cnn.features = 32"],
    ),
    "a transformer without its keys": (
        [("networks", "cnn", {"architecture": "vit", "heads": 3, "objective": "pal", "recipe": "cnn"})],
        ["networks.cnn.features: missing; architecture vit needs it",
         "networks.cnn.patch: missing; architecture vit needs it",
         "networks.cnn.depth: missing; architecture vit needs it"],
    ),
    "a stem stride without a stem": (
        [("networks", "cnn", {"architecture": "vgg16", "width": 8, "stem_stride": 2, "objective": "pal",
                              "recipe": "cnn"})],
        ["networks.cnn.stem_stride: found 2; architecture vgg16 does not use it, remove the key"],
    ),
    "images too small for a network": (
        [("networks", "cnn", {"architecture": "vgg16", "width": 8, "objective": "pal", "recipe": "cnn"})],
        ["networks.cnn.architecture: found vgg16; images of data set mlab_digits are 16 x 16 pixels, allowed: 32 x 32 "
         "or more"],
    ),
    "patches that do not tile the images": (
        [("networks", "cnn", {"architecture": "vit", "patch": 5, "depth": 1, "heads": 1, "features": 8,
                              "objective": "pal", "recipe": "cnn"})],
        ["networks.cnn.patch: found 5; images of data set mlab_digits are 16 x 16 pixels, allowed: a divisor of 16"],
    ),
    "a last batch of one sample, one pixel wide at a batch norm": (  # 2300 = 2299 + 1; at r = 0.2 and 0.1 less is left
        [("networks", "cnn", {"architecture": "resnet34", "width": 8, "stem_stride": 2, "objective": "pal",
                              "recipe": "cnn"}), ("recipes", "cnn", "batch", 2299)],
        ["recipes.cnn.batch: found 2299; of the 2300 samples of setting balanced of data set mlab_digits it leaves 1 "
         "to the last batch, and batch norm in network cnn needs 2"],
    ),
    "ufm in batches": (
        [("networks", "ufm", "recipe", "mlp")],
        ["networks.ufm.recipe: found 'mlp' with batch 64; architecture ufm needs a recipe with batch full"],
    ),
    "missing folder": (
        [("datasets", "mlab_digits", "base", "mnist"), ("datasets", "mlab_digits", "folder", "no/such/folder")],
        ["datasets.mlab_digits: no/such/folder: missing; allowed is the path where the files of mnist lie, "
         "ncpipe fetch mnist downloads them"],
    ),
    "folder not given": (
        [("datasets", "mlab_digits", "base", "cifar10")],
        ["datasets.mlab_digits: folder: found none for base cifar10; allowed is the path where its files lie"],
    ),
    "folder of a base that has none": (
        [("datasets", "mlab_digits", "folder", "resources")],
        ["datasets.mlab_digits.folder: found 'resources' (text); allowed with base digits: null"],
    ),
    "folder name too long for the system": (
        [("datasets", "mlab_digits", "base", "mnist"), ("datasets", "mlab_digits", "folder", "x" * 300)],
        [f"datasets.mlab_digits.folder: found '{'x' * 300}'; it cannot be read (File name too long)"],
    ),
    "checkpoints out of order, beyond the end": (
        [("recipes", "mlp", "checkpoints", [5, 0, 201])],
        ["recipes.mlp.checkpoints: found [5, 0, 201]; allowed: epochs in increasing order",
         "recipes.mlp.checkpoints: found epoch 201; allowed: 0 to recipes.mlp.epochs = 200"],
    ),
    "checkpoints every": (
        [("recipes", "mlp", "checkpoints", {"every": 201}), ("recipes", "cnn", "checkpoints", {"evry": 5}),
         ("recipes", "ufm", "checkpoints", {"every": 0})],
        ["recipes.cnn.checkpoints.evry: unknown key; did you mean 'every'? allowed: every",
         "recipes.cnn.checkpoints.every: missing; allowed: a whole number >= 1",
         "recipes.ufm.checkpoints.every: found 0; allowed: a whole number >= 1",
         "recipes.mlp.checkpoints.every: found 201; allowed: 1 to recipes.mlp.epochs = 200"],
    ),
    "features unknown": (
        [("recipes", "mlp", "features", "float61")],
        ["recipes.mlp.features: found 'float61' (text); did you mean 'float16'? allowed: float32, float16, moments"],
    ),
    "checkpoints unknown": (
        [("recipes", "mlp", "checkpoints", "linear")],
        ["recipes.mlp.checkpoints: found 'linear' (text); allowed: log or a list or {every: a whole number >= 1}"],
    ),
    "a seed twice": (
        [("runs", 0, "seeds", [1, 2, 1])],
        ["runs[0].seeds: found 1 twice; allowed: each at most once"],
    ),
    "no runs": ([("runs", [])], ["runs: found 0 entries; allowed: at least 1"]),
    "a name that is no path": (
        [("settings", "a/b", {"profile": "balanced"})],
        ["settings: found the name 'a/b'; allowed: letters, digits, '_', '-' and '.', starting with a letter or digit"],
    ),
    "a key that YAML does not read as text": (
        [("settings", 0.1, {"profile": "balanced"}), (True, 3)],
        ["settings.0.1: found the key 0.1, which is not text; write it in quotes",
         "True: found the key True, which is not text; write it in quotes"],
    ),
    "results without a name": ([("results", "")], ["results: found '' (text); allowed: text, not empty"]),
    "misspelt study": (
        [("studies", "spectra", {})],
        ["studies.spectra: unknown key; did you mean 'spectrum'? allowed: objective, labels, phase, critical, ratios, "
         "spectrum, tagwise, synthetic"],
    ),
    "misspelt parameter of a study": (
        [("studies", "spectrum", "member", 80), ("studies", "spectrum", "members", ...)],
        ["studies.spectrum.member: unknown key; did you mean 'members'? allowed: ratio, members, graphs, "
         "critical_members, seed",
         "studies.spectrum.members: missing; allowed: a whole number >= 4 and <= 10000"],
    ),
    "studies of an unknown objective": (
        [("studies", "objective", "pall")],
        ["studies.objective: found 'pall'; did you mean 'pal'? allowed: pal"],
    ),
    "studies without what they share": (
        [("studies", {"tagwise": {"ratios": [1.0], "shares": [1.0]}})],
        ["studies.objective: missing; needed by the studies that are selected (tagwise)",
         "studies.labels: missing; needed by the studies that are selected (tagwise)"],
    ),
    "a grid from high to low": (
        [("studies", "phase", "lambdas", {"low": 0.5, "high": 0.1, "points": 3})],
        ["studies.phase.lambdas: found low 0.5 and high 0.1; allowed: low < high"],
    ),
    "a perfect matching of an odd number of classes": (
        [("studies", "labels", "classes", 7)],
        ["studies.labels.classes: found 7; study tagwise needs an even number (perfect matchings)"],
    ),
    "values that studies cannot have": (
        [("studies", "critical", "ratios", [0, 1.0]), ("studies", "tagwise", "shares", [1.5]),
         ("studies", "labels", "counts", [3100]), ("studies", "phase", "per_pair", [])],
        ["studies.critical.ratios[0]: found 0; allowed: a number > 0 and <= 1",
         "studies.labels.counts: found 1 entries; allowed: at least 2",
         "studies.phase.per_pair: found 0 entries; allowed: at least 1",
         "studies.tagwise.shares[0]: found 1.5; allowed: a number >= 0 and <= 1"],
    ),
    "a checkpoint twice": (
        [("recipes", "mlp", "checkpoints", [0, 5, 5]), ("recipes", "cnn", "checkpoints", [1, 1, 0])],
        ["recipes.cnn.checkpoints: found 1 twice; allowed: each at most once",
         "recipes.mlp.checkpoints: found 5 twice; allowed: each at most once"],
    ),
    "a list of the wrong kind": (
        [("recipes", "mlp", "checkpoints", [0, 2.5]), ("recipes", "cnn", "checkpoints", [])],
        ["recipes.cnn.checkpoints: found 0 entries; allowed: at least 1",
         "recipes.mlp.checkpoints[1]: found 2.5; allowed: a whole number >= 0"],
    ),
    "an unknown kind, and other faults beside it": (
        [("networks", "mlp", "architecture", "mlpp"), ("networks", "mlp", "features", 0),
         ("objectives", "pal", "loss", None), ("objectives", "pal", "lambda_h", -1)],
        ["networks.mlp.architecture: found 'mlpp' (text); did you mean 'mlp'? allowed: cnn, mlp, resnet18, resnet34, "
         "resnet50, vgg16, vit, ufm",
         "networks.mlp.features: found 0; allowed: a whole number >= 1 and <= 65536",
         "objectives.pal.lambda_h: found -1; allowed: a number > 0",
         "objectives.pal.loss: found nothing (null); allowed: pal, bce, mse"],
    ),
    "a network that is called as the certified optimum is": (
        [("networks", "optimum", DEFAULT["networks"]["mlp"])],
        ["networks: found the name 'optimum', which is that of the certified optimum in tables and figures; allowed: "
         "any other name"],
    ),
    "a data set that is called as a table is": (
        [("datasets", "metrics.csv", DIGITS)],
        ["datasets: found the name 'metrics.csv', which is that of a table of the collapse stage; allowed: any other "
         "name"],
    ),
    "names that are too long": (
        [(section, "x" * 300, DEFAULT[section][name]) for section, name in
         (("datasets", "mlab_digits"), ("settings", "balanced"), ("objectives", "pal"), ("networks", "mlp"))],
        [f"{section}: found a name of 300 characters; allowed: at most 100" for section in
         ("datasets", "networks", "objectives", "settings")],
    ),
    "a folder at home": (
        [("datasets", "mlab_digits", "base", "mnist"), ("datasets", "mlab_digits", "folder", "~/mnist")],
        [f"datasets.mlab_digits.folder: found '~/mnist'; '~' is not expanded here, write '{Path.home()}/mnist'"],
    ),
    "a device that YAML reads as false": ([("device", False)], ["device: found false; allowed: auto, cpu, cuda"]),
}  # fmt: skip


@pytest.mark.parametrize("path", ["results", "a b/c", "/tmp/x", "../r", "结果", "it's $5", "a.b-c_d", "x/..y"])
def test_results_may_be_any_folder_that_the_workflow_can_name(path: str) -> None:
    assert problems(changed(("results", path))) == []


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("~/x", f"found '~/x'; '~' is not expanded here, write '{Path.home()}/x'"),
        ("~nobody-of-that-name/x", "found '~nobody-of-that-name/x'; '~' is not expanded here, write the whole path"),
        ("a{b}", "found 'a{b}'; allowed: no '{' '}', which are not read as they stand"),
        ("<a>", "found '<a>'; allowed: no '<' '>', which are not read as they stand"),
        ("a\nb", r"found 'a\nb'; allowed: no '\n', which are not read as they stand"),
        ("a\x07", r"found 'a\x07'; allowed: no '\x07', which are not read as they stand"),
        ("results/", "found 'results/'; allowed: the same without '.' and empty parts, 'results'"),
        ("./results", "found './results'; allowed: the same without '.' and empty parts, 'results'"),
        ("a//b", "found 'a//b'; allowed: the same without '.' and empty parts, 'a/b'"),
        (".", "found '.'; allowed: a folder of its own"),
        ("a/..", "found 'a/..'; allowed: a folder of its own"),
        ("/", "found '/'; allowed: a folder of its own"),
        ("-x", "found '-x'; allowed: no space at either end, no '-' at the beginning"),
        (" x", "found ' x'; allowed: no space at either end, no '-' at the beginning"),
        ("x" * 300, "found a path of 300 characters; allowed: 1000, and 200 bytes a folder"),
        ("x/" * 600 + "x", "found a path of 1201 characters; allowed: 1000, and 200 bytes a folder"),
    ],
)
def test_results_that_something_would_stumble_over_later(path: str, found: str) -> None:
    assert problems(changed(("results", path))) == [f"results: {found}"]


@pytest.mark.parametrize(("changes", "expected"), SINGLE_FAULTS.values(), ids=SINGLE_FAULTS)
def test_fault_says_key_found_and_allowed(changes: list[tuple], expected: list[str]) -> None:
    assert problems(changed(*changes)) == expected


def test_all_faults_are_collected_across_sections_and_kinds() -> None:
    """A misspelt key in one entry hides no cross-field fault of another."""
    kinds = ["misspelt key", "ratio 0", "unknown network", "more samples than images exist", "a seed twice",
             "keys of another architecture", "checkpoints out of order, beyond the end"]  # fmt: skip
    changes = [change for kind in kinds for change in SINGLE_FAULTS[kind][0]]
    expected = {line for kind in kinds for line in SINGLE_FAULTS[kind][1]}
    config = changed(*changes)
    # mlab_digits must stay selected by an entry of `runs` without a fault: its images are counted where it is used.
    assert set(problems(config)) == expected
    assert str(ConfigError(problems(config))).splitlines() == problems(config)


@pytest.mark.parametrize(
    ("network", "batch", "wrong"),
    [
        ({"architecture": "vit", "patch": 4, "depth": 1, "heads": 1, "features": 8}, 1, True),
        ({"architecture": "vit", "patch": 4, "depth": 1, "heads": 1, "features": 8}, 2, False),
        ({"architecture": "resnet18", "width": 2, "stem_stride": 2}, 1, True),
        ({"architecture": "resnet18", "width": 2}, 1, False),  # 2 x 2 pixels
        ({"architecture": "cnn", "width": 2}, 1, False),  # 4 x 4 pixels
        ({"architecture": "mlp", "hidden": [], "features": 2}, 1, False),  # no batch norm
    ],
)
def test_batches_of_one_sample_are_refused_where_batch_norm_sees_one_pixel(
    network: dict[str, Any], batch: int, wrong: bool
) -> None:
    config = changed(
        ("networks", "cnn", {**network, "objective": "pal", "recipe": "cnn"}), ("recipes", "cnn", "batch", batch)
    )
    assert [line.startswith(f"recipes.cnn.batch: found {batch}; of the ") for line in problems(config)] == 3 * wrong * [
        True
    ]


def test_files_are_asked_for_only_where_a_run_uses_them() -> None:
    mnist = {**DIGITS, "base": "mnist", "folder": "no/such/folder"}
    assert problems(changed(("datasets", "mlab_mnist", mnist))) == []
    config = changed(("datasets", "mlab_mnist", mnist), ("runs", 0, "datasets", ["mlab_digits", "mlab_mnist"]))
    assert problems(config) == [
        "datasets.mlab_mnist: no/such/folder: missing; allowed is the path where the files of mnist lie, "
        "ncpipe fetch mnist downloads them"
    ]


def test_no_image_file_is_read(tmp_path: Path) -> None:
    """What the official files hold is known; that the folder is there is all that is asked of it."""
    mnist = {**DIGITS, "base": "mnist", "folder": str(tmp_path), "train_counts": [5421, 5422], "test_counts": [892]}
    assert problems(changed(("datasets", "mlab_digits", mnist))) == [
        "datasets.mlab_digits.train_counts[1]: found 5422; the train split of mnist has 5421 images in its smallest "
        "class, allowed: 0 to 5421"
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "no such configuration file"),
        (b"a: [", "not YAML: "),
        (b"\xff\xfe\x00", "not YAML: "),
        (b"- a\n- b\n", "found a list; a configuration is a mapping of keys"),
        (b"", "found nothing (null); a configuration is a mapping of keys"),
    ],
)
def test_unreadable_files(tmp_path: Path, content: bytes | None, expected: str) -> None:
    path = tmp_path / "overlay.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(f"{path}: {expected}")) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_configuration_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_config(tmp_path)


def test_keys_that_stand_twice_are_named_with_both_lines(tmp_path: Path) -> None:
    path, other = tmp_path / "a.yaml", tmp_path / "b.yaml"
    path.write_text("recipes:\n  mlp: {epochs: 1}\n  cnn:\n    lr: 1\n    lr: 2\n  mlp: {epochs: 2}\nresults: x\n")
    other.write_text("results: y\nruns: [{seeds: [0], seeds: [1]}]\n'results': z\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, other)
    assert sorted(caught.value.problems) == [
        f"{path}: line 5: found the key 'lr' again, first in line 4",
        f"{path}: line 6: found the key 'mlp' again, first in line 2",
        f"{other}: line 2: found the key 'seeds' again, first in line 2",
        f"{other}: line 3: found the key 'results' again, first in line 1",
    ]


def test_a_merge_key_may_be_overridden(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("m: &m {x: 1, y: 2}\nn:\n  <<: *m\n  x: 3\n")
    assert load_config(path) == {"m": {"x": 1, "y": 2}, "n": {"x": 3, "y": 2}}


def test_no_key_stands_twice_in_what_comes_with_it() -> None:
    refuse_duplicate_keys([CHECKOUT / "config.yaml", *(CHECKOUT / "config").glob("*.yaml")])


def test_text_of_the_command_line_is_read_as_yaml_reads_it() -> None:
    """Snakemake makes `{"mlp": {"epochs": "2"}}` of `--config 'recipes={mlp: {epochs: 2}}'`."""
    given = {"recipes": {"mlp": {"epochs": "2", "lr": "5.0e-2", "compile": "true", "batch": "full"}}, "studies": "null",
             "runs": [{"seeds": ["0", "1"]}], "results": "2026-01-01", "device": "[cpu"}  # fmt: skip
    assert typed(given) == {
        "recipes": {"mlp": {"epochs": 2, "lr": 0.05, "compile": True, "batch": "full"}},
        "studies": None,
        "runs": [{"seeds": [0, 1]}],
        "results": "2026-01-01",
        "device": "[cpu",
    }


# --- anything at all ------------------------------------------------------------------------------------------------

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
    | st.sampled_from([10**400, "1e-3", "0", "full", "log", "balanced", "mnist", "cifar10", "explicit", "0+7",
                       "resnet18", datetime.date(2026, 1, 1), b"binary"])
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["ratio", "counts", "step", "width", "folder", "lr", "0+1", "a/b", "x\ny", ""]) | st.text()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key and index of nested mappings and lists."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield (*path, key)
        yield from places(inner, (*path, key))


MORE_NETWORKS = changed(
    ("networks", "vit", {"architecture": "vit", "patch": 4, "depth": 1, "heads": 2, "features": 8, "objective": "pal",
                         "recipe": "cnn"}),
    ("networks", "resnet", {"architecture": "resnet50", "width": 2, "stem_stride": 2, "objective": "pal",
                            "recipe": "cnn"}),
    ("runs", 0, "networks", ["cnn", "mlp", "vit", "resnet"]),
)  # fmt: skip


@fuzz(600)
@given(data=st.data())
def test_any_configuration_is_planned_or_refused_in_plain_lines(data: st.DataObject) -> None:
    config = copy.deepcopy(MORE_NETWORKS)
    for _ in range(data.draw(st.integers(1, 4))):
        everywhere = list(places(config))
        if not everywhere:
            break
        *parents, last = data.draw(st.sampled_from(everywhere))
        target: Any = config
        for key in parents:
            target = target[key]
        match data.draw(st.sampled_from(["delete", "replace", "rename"])):
            case "delete":
                del target[last]
            case "rename" if isinstance(target, dict):
                target[data.draw(NAMES)] = target.pop(last)
            case _:
                target[last] = data.draw(VALUES)
    lines = problems(config)
    for line in lines:
        assert line.strip()
        assert len(line.splitlines()) == 1
    assert len(set(lines)) == len(lines)
    if not lines:
        for run in plan_runs(config):
            planned = train_settings(config, run)
            assert sum(planned["counts"].values()) >= 1
            assert planned["checkpoints"][-1] == planned["epochs"] >= 1
            data_spec(config, run.dataset)
        for study in plan_studies(config):
            assert study_settings(config, study)["parameters"]


# --- the plan -------------------------------------------------------------------------------------------------------


def test_overlays_merge_mappings_and_replace_lists(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("m: {x: 1, y: {z: 2}}\nl: [1, 2]\nk: 0\n")
    (tmp_path / "b.yaml").write_text("m: {y: {w: 3}}\nl: [3]\nk: {n: 1}\n")
    merged = load_config(tmp_path / "a.yaml", tmp_path / "b.yaml")
    assert merged == {"m": {"x": 1, "y": {"z": 2, "w": 3}}, "l": [3], "k": {"n": 1}}


def test_runs_are_the_products_of_the_selection_each_once() -> None:
    config = changed(
        ("runs", [{"datasets": ["d"], "settings": ["a", "b"], "networks": ["n"], "seeds": [1, 0]},
                  {"datasets": ["d"], "settings": ["a"], "networks": ["n", "m"], "seeds": [0]}])
    )  # fmt: skip
    assert [run.name for run in plan_runs(config)] == [
        "d/a/n/seed-1", "d/a/n/seed-0", "d/b/n/seed-1", "d/b/n/seed-0", "d/a/m/seed-0",
    ]  # fmt: skip


def test_default_plan() -> None:
    """Balanced, 0.2 and 0.1 with cnn and mlp, exponential with mlp, five seeds each; ufm once for each setting."""
    runs = plan_runs(DEFAULT)
    for setting in ("balanced", "step-0.2", "step-0.1"):
        assert {(r.network, r.seed) for r in runs if r.setting == setting} == {
            *(("cnn", seed) for seed in range(5)), *(("mlp", seed) for seed in range(5)), ("ufm", 0),
        }  # fmt: skip
    assert {Run("mlab_digits", "exponential-0.1", "mlp", seed) for seed in range(5)} <= set(runs)


@pytest.mark.parametrize(
    ("setting", "multiplicity_one", "samples"),
    [
        ("balanced", [140] * 10, 2300),
        ("step-0.2", [140] * 5 + [28] * 5, 1740),
        ("step-0.1", [140] * 5 + [14] * 5, 1670),
        ("step-0.1-equal-steps", [140] * 5 + [14] * 5, 1670),
        # 140 * 0.1^(k/9): 140, 108.4, 83.9, 65.0, 50.3, 39.0, 30.2, 23.4, 18.1, 14
        ("exponential-0.1", [140, 108, 84, 65, 50, 39, 30, 23, 18, 14], 571 + 900),
    ],
)
def test_counts_of_the_default_settings(setting: str, multiplicity_one: list[int], samples: int) -> None:
    counts = setting_counts(DIGITS, DEFAULT["settings"][setting])
    assert [counts[str(k)] for k in range(10)] == multiplicity_one
    assert [counts[f"{a}+{b}"] for a, b in combinations(range(10), 2)] == [20] * 45
    assert list(counts) == [str(k) for k in range(10)] + [f"{a}+{b}" for a, b in combinations(range(10), 2)]
    assert sum(counts.values()) == samples


def test_uniform_puts_every_class_at_the_ratio() -> None:
    counts = setting_counts(DIGITS, {"profile": "uniform", "ratio": 0.25})
    assert {counts[str(k)] for k in range(10)} == {35}
    assert counts["0+1"] == 20


def test_a_fixed_total_keeps_the_shares_of_the_balanced_data_set() -> None:
    """The fixed-N twin, shrunk: its shares, with no more samples than the data set has."""
    dataset = {**DIGITS, "train_counts": [100, 20, 10]}
    for profile, ratio, share in (("step", 0.2, 0.6), ("uniform", 0.5, 0.5), ("step", 0.1, 0.55)):
        natural = setting_counts(dataset, {"profile": profile, "ratio": ratio})
        fixed = setting_counts(dataset, {"profile": profile, "ratio": ratio, "total": "fixed"})
        assert {k: n for k, n in fixed.items() if len(k) == 1} == {k: n for k, n in natural.items() if len(k) == 1}
        assert fixed["0+1"] == fixed["8+9"] == pytest.approx(20 * share)
        assert fixed["0+1+2"] == math.floor(10 * share + 0.5)
        alone = sum(n for k, n in fixed.items() if len(k) == 1)
        assert alone / (alone + 45 * fixed["0+1"]) == pytest.approx(1000 / 1900, rel=1e-12)
    without = {**DIGITS, "train_counts": [0, 20]}
    assert setting_counts(without, {"profile": "step", "ratio": 0.2, "total": "fixed"})["0+1"] == 20


def test_balanced_weights_give_every_class_the_same_part_of_the_loss() -> None:
    for target in ("normalised", "raw"):
        config = changed(("objectives", "pal", "class_weights", "balanced"), ("objectives", "pal", "target", target))
        entry = objective_entry(config, "mlab_digits", "step-0.2", "pal")
        mass, total = [0.0] * 10, 0.0
        for name, count in setting_counts(config["datasets"]["mlab_digits"], config["settings"]["step-0.2"]).items():
            members = [int(k) for k in name.split("+")]
            for k in members:
                part = count / (len(members) if target == "normalised" else 1)
                mass[k], total = mass[k] + part * entry["class_weights"][k], total + part
        assert mass == pytest.approx([total / 10] * 10, rel=1e-12)
        assert config["objectives"]["pal"]["class_weights"] == "balanced"


def test_an_objective_of_defaults_is_the_entry_of_before() -> None:
    """So finished runs stay valid."""
    config = changed(("objectives", "pal", "classifier", "learned"))
    entry = objective_entry(config, "mlab_digits", "balanced", "pal")
    assert entry == objective_entry(DEFAULT, "mlab_digits", "balanced", "pal") == DEFAULT["objectives"]["pal"]


@pytest.mark.parametrize(
    ("count", "ratio", "rounded"),
    [(10, 0.25, 3), (10, 0.35, 4), (10, 0.34, 3), (10, 0.05, 1), (10, 0.01, 1), (3, 0.5, 2)],
)
def test_rounding_is_half_up_and_never_to_nothing(count: int, ratio: float, rounded: int) -> None:
    counts = setting_counts({**DIGITS, "train_counts": [count]}, {"profile": "step", "ratio": ratio})
    assert [counts[str(k)] for k in range(10)] == [count] * 5 + [rounded] * 5


@given(
    st.sampled_from(["step", "exponential", "uniform"]),
    st.lists(st.floats(0.001, 1.0), min_size=2, max_size=2),
    st.lists(st.integers(0, 140), min_size=1, max_size=3).filter(any),
)
def test_smaller_ratios_give_subsets(profile: str, ratios: list[float], train_counts: list[int]) -> None:
    """Settings take the first samples of each label set: nested wherever counts are ordered."""
    dataset = {**DIGITS, "train_counts": train_counts}
    balanced = setting_counts(dataset, {"profile": "balanced"})
    small, large = (setting_counts(dataset, {"profile": profile, "ratio": r}) for r in sorted(ratios))
    assert small.keys() == large.keys() == balanced.keys()
    assert all(1 <= small[s] <= large[s] <= balanced[s] for s in balanced)


def test_explicit_counts_are_put_in_canonical_order() -> None:
    setting = {"profile": "explicit", "counts": {"7+0": 3, "9": 2, "1": 140}}
    assert list(setting_counts(DIGITS, setting).items()) == [("1", 140), ("9", 2), ("0+7", 3)]
    assert problems(changed(("settings", "balanced", setting))) == []


def test_balanced_counts_leave_out_label_sets_without_samples() -> None:
    counts = balanced_counts([0, 2, 1], 4)
    assert counts == {**dict.fromkeys(combinations(range(4), 2), 2), **dict.fromkeys(combinations(range(4), 3), 1)}


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        (1, [0, 1]),
        (2, [0, 1, 2]),
        (5, [0, 1, 2, 3, 4, 5]),
        (100, [0, 1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 100]),
        (200, [0, 1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 200]),
    ],
)
def test_log_checkpoints_are_two_in_every_doubling(epochs: int, expected: list[int]) -> None:
    assert checkpoint_epochs("log", epochs, epochs) == expected


def test_listed_checkpoints_scale_with_the_budget_and_end_with_the_last_epoch() -> None:
    assert checkpoint_epochs([0, 1, 50], 100, 100) == [0, 1, 50, 100]
    assert checkpoint_epochs([3], 10, 10) == [3, 10]
    assert checkpoint_epochs([0, 1, 50, 100], 138, 100) == [0, 1, 69, 138]


def test_checkpoints_every_so_many_epochs_have_both_ends() -> None:
    assert checkpoint_epochs({"every": 40}, 100, 100) == [0, 40, 80, 100]
    assert checkpoint_epochs({"every": 50}, 100, 100) == [0, 50, 100]
    assert checkpoint_epochs({"every": 50}, 138, 100) == [0, 50, 100, 138]
    assert checkpoint_epochs({"every": 1}, 3, 3) == [0, 1, 2, 3]


def test_what_is_kept_of_features_is_part_of_a_run_only_where_it_is_not_the_default() -> None:
    run = Run("mlab_digits", "balanced", "mlp", 0)
    assert train_settings(changed(("recipes", "mlp", "features", "float32")), run) == train_settings(DEFAULT, run)
    other = train_settings(changed(("recipes", "mlp", "features", "moments")), run)
    assert other == {**train_settings(DEFAULT, run), "features": "moments"}


def test_equal_steps_budget() -> None:
    """2,300 samples make 36 steps of 64, 1,670 make 27: 200 epochs become 200 * 36 / 27 = 266.7."""
    run = Run("mlab_digits", "step-0.1-equal-steps", "mlp", 0)
    assert run_epochs(DEFAULT, run) == 267
    assert train_settings(DEFAULT, run)["checkpoints"][-1] == 267
    assert run_epochs(DEFAULT, Run("mlab_digits", "step-0.1", "mlp", 0)) == 200
    full_batch = changed(("settings", "step-0.1-equal-steps", "profile", "step"), ("runs", 1, "networks", ["ufm"]))
    assert run_epochs(full_batch, Run("mlab_digits", "step-0.1-equal-steps", "ufm", 0)) == 6000


def test_settings_of_a_run_hold_what_it_depends_on_and_nothing_else() -> None:
    """What changes them retrains the run; a name, a selection, a place or a device does not."""
    run = Run("mlab_digits", "step-0.2", "cnn", 3)
    before = train_settings(DEFAULT, run)
    assert before["objective"] == DEFAULT["objectives"]["pal"]
    assert before["network"] == {"architecture": "cnn", "width": 16}
    assert before["seed"] == before["run"]["seed"] == 3
    touching = [
        ("recipes", "cnn", "lr", 0.2), ("recipes", "cnn", "epochs", 101), ("recipes", "cnn", "checkpoints", [0]),
        ("networks", "cnn", "width", 8), ("objectives", "pal", "lambda_h", 0.3), ("settings", "step-0.2", "ratio", 0.3),
        ("datasets", "mlab_digits", "train_counts", [140, 19]),
    ]  # fmt: skip
    for change in touching:
        assert train_settings(changed(change), run) != before, change
    others = [
        ("recipes", "mlp", "lr", 0.2), ("networks", "mlp", "features", 8), ("settings", "step-0.1", "ratio", 0.3),
        ("results", "elsewhere"), ("device", "cpu"), ("runs", 0, "seeds", [3]), ("datasets", "mlab_digits", "seed", 1),
    ]  # fmt: skip
    for change in others:
        assert train_settings(changed(change), run) == before, change
    assert data_spec(changed(others[-1]), "mlab_digits") != data_spec(DEFAULT, "mlab_digits")


def test_the_default_feature_penalty_is_no_part_of_a_run() -> None:
    run = Run("mlab_digits", "balanced", "cnn", 0)
    before = train_settings(DEFAULT, run)
    assert train_settings(changed(("recipes", "cnn", "feature_penalty", "per_sample")), run) == before
    other = train_settings(changed(("recipes", "cnn", "feature_penalty", "batch_sum")), run)
    assert other == {**before, "recipe": {**before["recipe"], "feature_penalty": "batch_sum"}}


def test_arithmetic_is_part_of_a_run_unless_it_is_the_default() -> None:
    run = Run("mlab_digits", "balanced", "cnn", 0)
    said = changed(*(("recipes", "cnn", key, value) for key, value in DEFAULT_ARITHMETIC.items()))
    assert problems(said) == []
    assert train_settings(said, run) == train_settings(DEFAULT, run)
    other = {"precision": "bfloat16", "compile": True, "deterministic": True}
    config = changed(*(("recipes", "cnn", key, value) for key, value in other.items()))
    assert problems(config) == []
    recipe = train_settings(DEFAULT, run)["recipe"]
    assert train_settings(config, run)["recipe"] == recipe | other


def test_sampling_touches_the_runs_of_its_setting_only() -> None:
    """Natural settings say nothing of sampling, so that runs made before there was any stay what they are."""
    name, run = "step-0.1-max-kappa", Run("mlab_digits", "step-0.1-max-kappa", "mlp", 0)
    natural = train_settings(DEFAULT, Run("mlab_digits", "step-0.1", "mlp", 0))
    rebalanced = train_settings(DEFAULT, run)
    assert {**rebalanced, "run": natural["run"]} == {**natural, "sampling": {"method": "max_kappa", "cap": 2.0}}
    for cap in (..., 2.0):  # the default, and the same number written otherwise
        assert train_settings(changed(("settings", name, "cap", cap)), run) == rebalanced
    assert train_settings(changed(("settings", name, "cap", 3)), run) != rebalanced
    spelt_out = changed(("settings", name, "sampling", "natural"), ("settings", name, "cap", ...))
    assert {**train_settings(spelt_out, run), "run": natural["run"]} == natural
    classes = changed(("settings", name, "sampling", "class_balanced"), ("settings", name, "cap", ...))
    assert train_settings(classes, run)["sampling"] == {"method": "class_balanced", "cap": None}


def test_there_are_sampling_weights_for_each_target() -> None:
    config = changed(("objectives", "raw", {**DEFAULT["objectives"]["pal"], "target": "raw"}))
    for objective, target in (("pal", "normalised"), ("raw", "raw")):
        assert sampling_target(config, "step-0.1-max-kappa", objective) == target
        assert sampling_target(config, "step-0.1", objective) is None


def test_studies_are_selected_by_not_being_null() -> None:
    assert plan_studies(DEFAULT) == list(STUDIES)
    left = changed(("studies", "phase", None), ("studies", "critical", ...))
    assert problems(left) == []
    assert plan_studies(left) == ["ratios", "spectrum", "tagwise", "synthetic"]


@pytest.mark.parametrize("nothing", [..., None, {}, {"phase": None}, {"objective": "pal"}])
def test_no_study_at_all_is_a_configuration_too(nothing: Any) -> None:
    config = changed(("studies", nothing))
    assert problems(config) == []
    assert plan_studies(config) == []


def test_settings_of_a_study_hold_what_it_depends_on_and_nothing_else() -> None:
    before = study_settings(DEFAULT, "tagwise")
    assert before == {
        "objective": DEFAULT["objectives"]["pal"],
        "labels": {"classes": 10, "counts": [3100, 200]},
        "parameters": DEFAULT["studies"]["tagwise"],
    }
    for change in (("studies", "spectrum", "seed", 1), ("recipes", "cnn", "lr", 0.2), ("studies", "phase", None)):
        assert study_settings(changed(change), "tagwise") == before, change
    for change in (("objectives", "pal", "lambda_b", 0.0), ("studies", "labels", "classes", 8)):
        assert study_settings(changed(change), "tagwise") != before, change
