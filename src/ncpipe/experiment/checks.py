"""What no single value of a configuration shows: names that refer to others, values that must fit together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from ncpipe.errors import InputError, near_match
from ncpipe.experiment.architectures import ARCHITECTURES
from ncpipe.experiment.base_sets import BASE_SETS, folder_of, known_base_set
from ncpipe.experiment.messages import shown
from ncpipe.experiment.plan import (
    DEFAULT_ARITHMETIC,
    DEFAULT_SAMPLING,
    STUDIES,
    Config,
    Run,
    balanced_counts,
    image_side,
    plan_runs,
    setting_counts,
)
from ncpipe.labels.names import LabelSet, parse_label_set


def entry_problems(config: Config, broken: Set[tuple[Any, ...]]) -> Iterator[str]:
    """Check each entry whose shape is right, (section, name) not in `broken`, and the names that it refers to."""
    tables = {section: config.get(section) for section in ("datasets", "settings", "objectives", "recipes", "networks")}
    names = {section: list(table) for section, table in tables.items() if isinstance(table, Mapping)}
    sound = {s: {n: e for n, e in (tables[s] or {}).items() if (s, n) not in broken} for s in names}
    selected = config.get("runs")
    runs = {i: e for i, e in enumerate(selected if isinstance(selected, list) else []) if ("runs", i) not in broken}

    in_use = {name for entry in runs.values() for name in entry["datasets"]}
    for name, dataset in sound.get("datasets", {}).items():
        yield from _dataset_problems(name, dataset, in_use=name in in_use)
    for name, setting in sound.get("settings", {}).items():
        yield from _setting_problems(name, setting)
    for name, recipe in sound.get("recipes", {}).items():
        yield from _recipe_problems(name, recipe, config.get("device"))
    for name, network in sound.get("networks", {}).items():
        yield from _network_problems(name, network)
        for key, section in (("objective", "objectives"), ("recipe", "recipes")):
            yield from _unknown_name(f"networks.{name}.{key}", network[key], names.get(section))
        recipe = sound.get("recipes", {}).get(network["recipe"])
        if recipe and ARCHITECTURES[network["architecture"]].free:
            yield from _free_feature_problems(f"networks.{name}.recipe: found {network['recipe']!r}", network, recipe)
    for i, entry in runs.items():
        for key in ("datasets", "settings", "networks"):
            for j, name in enumerate(entry[key]):
                yield from _unknown_name(f"runs[{i}].{key}[{j}]", name, names.get(key))
    if ("studies",) not in broken and config.get("studies"):
        yield from _study_problems(config["studies"], broken, names.get("objectives"), sound.get("objectives", {}))


def _dataset_problems(name: str, dataset: Mapping[str, Any], *, in_use: bool) -> Iterator[str]:
    """Check one data set; its files only where a run uses it, so that a checkout needs no more than it trains on."""
    where, folder = f"datasets.{name}", dataset.get("folder")
    for split in ("train", "test"):
        if not any(dataset[f"{split}_counts"]):
            yield f"{where}.{split}_counts: found only zeros; allowed: at least one sample"
    if not in_use:
        return
    try:
        base = known_base_set(dataset["base"])
        if base.needs_folder:
            folder_of(base.name, folder)
    except InputError as error:
        yield f"{where}: {error}"
        return
    except OSError as error:
        yield f"{where}.folder: found {folder!r}; it cannot be read ({error.strerror})"
        return
    for split, available in zip(("train", "test"), base.capacity, strict=True):
        for position, count in enumerate(dataset[f"{split}_counts"]):
            if count > available:
                yield (
                    f"{where}.{split}_counts[{position}]: found {count}; the {split} split of {base.name} has "
                    f"{available} images in its smallest class, allowed: 0 to {available}"
                )


def _setting_problems(name: str, setting: Mapping[str, Any]) -> Iterator[str]:
    where, sampling = f"settings.{name}", setting.get("sampling", DEFAULT_SAMPLING)
    if "cap" in setting and sampling != "max_kappa":
        yield f"{where}.cap: found {shown(setting['cap'])}; sampling {sampling} does not use it, remove the key"
    spelt: dict[LabelSet, str] = {}
    for key in setting.get("counts", {}) if setting["profile"] == "explicit" else ():
        other = spelt.setdefault(parse_label_set(key), key)
        if other != key:
            yield f"{where}.counts.{key}: found the label set of {other!r} again; allowed: each at most once"


def _recipe_problems(name: str, recipe: Mapping[str, Any], device: Any) -> Iterator[str]:
    if recipe.get("feature_penalty") == "batch_sum" and recipe["batch"] == "full":
        yield (
            f"recipes.{name}.feature_penalty: found 'batch_sum' with batch full; it differs from per_sample in a short "
            f"last batch only, remove the key"
        )
    if device == "cpu" and recipe.get("precision") == "tf32":
        yield f"recipes.{name}.precision: found 'tf32' with device cpu; allowed there: float32, bfloat16, float16"
    where, checkpoints = f"recipes.{name}.checkpoints", recipe["checkpoints"]
    if checkpoints == "log":
        return
    if isinstance(checkpoints, Mapping):
        if checkpoints["every"] > recipe["epochs"]:
            allowed = f"1 to recipes.{name}.epochs = {recipe['epochs']}"
            yield f"{where}.every: found {checkpoints['every']}; allowed: {allowed}"
        return
    if checkpoints != sorted(checkpoints):
        yield f"{where}: found {checkpoints}; allowed: epochs in increasing order"
    if max(checkpoints) > recipe["epochs"]:
        yield f"{where}: found epoch {max(checkpoints)}; allowed: 0 to recipes.{name}.epochs = {recipe['epochs']}"


def _network_problems(name: str, network: Mapping[str, Any]) -> Iterator[str]:
    where = f"networks.{name}"
    if "heads" in ARCHITECTURES[network["architecture"]].keys and {"heads", "features"} <= network.keys():
        heads, features = network["heads"], network["features"]
        if features % heads:
            yield f"{where}.heads: found {heads}; allowed: a divisor of {where}.features = {features}"


def _free_feature_problems(found: str, network: Mapping[str, Any], recipe: Mapping[str, Any]) -> Iterator[str]:
    """Check that a recipe suits free features, which are all trained at once and computed by no layer."""
    architecture = f"architecture {network['architecture']}"
    if recipe["batch"] != "full":
        yield f"{found} with batch {recipe['batch']}; {architecture} needs a recipe with batch full"
    for key in ("precision", "compile"):
        if recipe.get(key, DEFAULT_ARITHMETIC[key]) != DEFAULT_ARITHMETIC[key]:
            has = f"{found} with {key} {shown(recipe[key])}"
            yield f"{has}; {architecture} has no layers to compute, remove that key"


def _study_problems(
    studies: Mapping[str, Any],
    broken: Set[tuple[Any, ...]],
    objectives: Sequence[str] | None,
    sound: Mapping[str, Mapping[str, Any]],
) -> Iterator[str]:
    """Check what the selected studies share, and those of a right shape."""
    selected = [name for name in STUDIES if studies.get(name) is not None]
    shaped = [name for name in ("labels", *selected) if name in studies and ("studies", name) not in broken]
    parts: dict[str, Any] = {name: studies[name] for name in shaped}
    for key in ("objective", "labels"):
        if selected and key not in studies:
            yield f"studies.{key}: missing; needed by the studies that are selected ({', '.join(selected)})"
    if "objective" in studies and ("studies", "objective") not in broken:
        yield from _unknown_name("studies.objective", studies["objective"], objectives)
        entry = sound.get(studies["objective"])
        if entry and (entry["loss"] != "pal" or "class_weights" in entry or entry.get("classifier") == "etf"):
            yield (
                f"studies.objective: found {studies['objective']!r}; allowed: an objective with loss pal, without "
                f"class_weights, its classifier learned"
            )
    for key, grid in parts.get("phase", {}).items():
        if isinstance(grid, Mapping) and not grid["low"] < grid["high"]:
            yield f"studies.phase.{key}: found low {grid['low']} and high {grid['high']}; allowed: low < high"
    classes = parts.get("labels", {}).get("classes", 0)
    if "tagwise" in parts and classes % 2:
        yield f"studies.labels.classes: found {classes}; study tagwise needs an even number (perfect matchings)"


def _unknown_name(where: str, name: str, defined: Sequence[str] | None) -> Iterator[str]:
    """One line where `name` is not among the `defined` (None: those could not be read)."""
    if defined is not None and name not in defined:
        match = near_match(name, defined) or ";"
        yield f"{where}: found {name!r}{match} allowed: {', '.join(defined)}"


def run_problems(config: Config) -> Iterator[str]:
    """Check each selected setting and network against the data set that they meet; all else must be right."""
    runs = plan_runs(config)
    for dataset, name in sorted({(run.dataset, run.network) for run in runs}):
        yield from _image_problems(config, dataset, name)
    yield from _setting_run_problems(config, runs)
    for dataset, setting, name in sorted({(run.dataset, run.setting, run.network) for run in runs}):
        yield from _batch_problems(config, dataset, setting, name)


def _image_problems(config: Config, dataset: str, name: str) -> Iterator[str]:
    """Check that a network can take the images of a data set."""
    network, side = config["networks"][name], image_side(config, dataset)
    images = f"images of data set {dataset} are {side} x {side} pixels"
    if network["architecture"] == "vit" and side % network["patch"]:
        yield f"networks.{name}.patch: found {network['patch']}; {images}, allowed: a divisor of {side}"
    smallest = ARCHITECTURES[network["architecture"]].smallest_side
    if side < smallest:
        found = f"networks.{name}.architecture: found {network['architecture']}"
        yield f"{found}; {images}, allowed: {smallest} x {smallest} or more"


def _batch_problems(config: Config, dataset: str, setting: str, name: str) -> Iterator[str]:
    """Check that no batch is one number a channel where batch norm stands: it has no variance then."""
    network = config["networks"][name]
    recipe = network["recipe"]
    batch = config["recipes"][recipe]["batch"]
    samples = sum(setting_counts(config["datasets"][dataset], config["settings"][setting]).values())
    last = samples if batch == "full" else samples % batch or min(batch, samples)
    if last == 1 and _batch_norm_side(config, dataset, name) == 1:
        yield (
            f"recipes.{recipe}.batch: found {batch}; of the {samples} samples of setting {setting} of data set "
            f"{dataset} it leaves 1 to the last batch, and batch norm in network {name} needs 2"
        )


def _batch_norm_side(config: Config, dataset: str, name: str) -> int | None:
    network = config["networks"][name]
    return ARCHITECTURES[network["architecture"]].batch_norm_side(network, image_side(config, dataset))


def _setting_run_problems(config: Config, runs: Sequence[Run]) -> Iterator[str]:
    """Check the explicit counts of each selected setting against the data set that it selects from."""
    pairs = sorted({(run.dataset, run.setting) for run in runs})
    for dataset, setting in pairs:
        classes = BASE_SETS[config["datasets"][dataset]["base"]].classes
        balanced = balanced_counts(config["datasets"][dataset]["train_counts"], classes)
        for key, count in config["settings"][setting].get("counts", {}).items():
            where, label_set = f"settings.{setting}.counts.{key}", parse_label_set(key)
            if label_set[-1] >= classes or len(set(label_set)) != len(label_set):
                yield f"{where}: found {key!r}; classes of {dataset} are 0 to {classes - 1}, each at most once"
            elif count > balanced.get(label_set, 0):
                yield (
                    f"{where}: found {count}; data set {dataset} has {balanced.get(label_set, 0)} samples of it "
                    f"(datasets.{dataset}.train_counts)"
                )
    for dataset, setting, network in dict.fromkeys((r.dataset, r.setting, r.network) for r in plan_runs(config)):
        yield from _classes_problems(config, dataset, setting, network)


def _classes_problems(config: Config, dataset: str, setting: str, network: str) -> Iterator[str]:
    """Check what an objective needs of the classes of the data set that a network trains on."""
    name, base = config["networks"][network]["objective"], BASE_SETS[config["datasets"][dataset]["base"]]
    objective, classes = config["objectives"][name], base.classes
    weights = objective.get("class_weights")
    if weights == "balanced":
        counts = setting_counts(config["datasets"][dataset], config["settings"][setting])
        absent = sorted(set(range(classes)) - {k for label_set in counts for k in parse_label_set(label_set)})
        if absent:
            yield (
                f"objectives.{name}.class_weights: found 'balanced'; class {absent[0]} has no sample in setting "
                f"{setting} of {dataset}, allowed: a list, or samples of every class"
            )
    elif weights is not None and len(weights) != classes:
        yield (
            f"objectives.{name}.class_weights: found {len(weights)} numbers; {dataset} has {classes} classes, allowed: "
            f"one number > 0 for each"
        )
    if objective.get("classifier") != "etf":
        return
    width = ARCHITECTURES[config["networks"][network]["architecture"]].features(config["networks"][network])
    if width < classes:
        yield (
            f"networks.{network}: found feature width {width} with objective {name}, whose classifier is a simplex "
            f"ETF; {dataset} has {classes} classes, allowed: a feature width of {classes} or more"
        )
