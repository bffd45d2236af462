"""The configuration: all its faults at once as plain lines, and the plan of runs that it asks for.

Imports nothing heavy: every Snakemake process, and every SLURM job, reads this at start.
"""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain, combinations, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from jsonschema import ValidationError

from ncpipe.data.registry import BASE_SETS, base_capacity
from ncpipe.errors import ConfigError, InputError
from ncpipe.naming import LabelSet, label_set_name, parse_label_set

Config = Mapping[str, Any]
NETWORK_KEYS = {
    "cnn": ("width",),
    "mlp": ("hidden", "features"),
    "resnet18": ("width",),
    "resnet34": ("width",),
    "resnet50": ("width",),
    "vgg16": ("width",),
    "vit": ("patch", "depth", "heads", "features"),
    "ufm": ("features",),
}
RESNETS = ("resnet18", "resnet34", "resnet50")
OPTIONAL_NETWORK_KEYS = dict.fromkeys(RESNETS, ("stem_stride",))
VGG_SIDE = 32  # pixels: five poolings halve it to 1
DEFAULT_CAP = 2.0  # of sampling max_kappa
DEFAULT_FEATURE_PENALTY = "per_sample"  # of a recipe
DEFAULT_FEATURES = "float32"  # what a checkpoint keeps of the features
DEFAULT_ARITHMETIC = {"precision": "float32", "compile": False, "deterministic": False}  # of a recipe


STUDIES = ("phase", "critical", "ratios", "spectrum", "tagwise", "synthetic")


@dataclass(frozen=True, order=True)
class Run:
    """One network trained once."""

    dataset: str
    setting: str
    network: str
    seed: int

    @property
    def name(self) -> str:
        """``dataset/setting/network/seed-n``: its place in the results."""
        return f"{self.dataset}/{self.setting}/{self.network}/seed-{self.seed}"


# --- reading and checking ---------------------------------------------------------------------------------------


def load_config(*paths: Path) -> dict[str, Any]:
    """Read a configuration and its overlays as Snakemake does: mappings merge deeply, lists replace.

    Raises
    ------
    InputError
        If a file is missing, unreadable, or not a YAML mapping.
    """
    merged: dict[str, Any] = {}
    for path in paths:
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such configuration file") from error
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
        if not isinstance(loaded, dict):
            raise InputError(f"{path}: found {_shown(loaded)}; a configuration is a mapping of keys")
        _merge(merged, loaded)
    return merged


def _merge(base: dict[str, Any], overlay: Mapping[str, Any]) -> None:
    for key, value in overlay.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value


def load_checked(*overlays: Path) -> dict[str, Any]:
    """Read and check the configuration of the checkout that the working directory is, with overlays.

    Raises
    ------
    InputError, ConfigError
        As `load_config` and `check`; also outside a checkout.
    """
    schema = Path("workflow/schemas/config.schema.yaml")
    if not schema.is_file():
        raise InputError(f"{schema}: missing; run this command in the checkout of ncpipe")
    config = load_config(Path("config.yaml"), *overlays)
    check(config, yaml.safe_load(schema.read_text()))
    return config


def check(config: Config, schema: Mapping[str, Any]) -> None:
    """Check a merged configuration against the schema and across its fields.

    Raises
    ------
    ConfigError
        With every fault found, one line each. Cross-field checks leave out the entries whose shape is wrong.
    """
    problems: list[str] = []
    config = _text_keys_only(config, problems)
    broken: set[tuple[Any, ...]] = set()
    for path, line in _shape_problems(config, schema):
        broken.add(path[:2])
        problems.append(line)
    problems += _cross_problems(config, broken)
    if not problems:
        problems = list(_run_problems(config))
    if problems:
        raise ConfigError(list(dict.fromkeys(" ".join(line.split()) for line in problems)))


def _shown(value: Any) -> str:
    if value is None:
        return "nothing (null)"
    kinds: list[tuple[type, str]] = [
        (bool, "true/false"),
        (str, "text"),
        (Mapping, "a mapping"),
        (list, "a list"),
    ]
    for kind, name in kinds:
        if isinstance(value, kind):
            if isinstance(value, (bool, str)):
                return f"{value!r} ({name})" if isinstance(value, str) else str(value).lower()
            return name
    return repr(value)


def _path(parts: Sequence[Any]) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "the configuration"


def near_match(word: str, allowed: Sequence[str]) -> str:
    """``; did you mean 'x'?`` or nothing."""
    close = difflib.get_close_matches(word, allowed, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def _allowed(schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """Say in words what a schema fragment allows."""
    schema = _resolve(schema, root)
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if "anyOf" in schema:
        return " or ".join(_alternative(option, root) for option in schema["anyOf"])
    kinds = schema.get("type", "a value")
    names = {
        "integer": "a whole number", "number": "a number", "string": "text", "boolean": "true or false",
        "array": "a list", "object": "a mapping", "null": "null",
    }  # fmt: skip
    text = " or ".join(names.get(k, k) for k in ([kinds] if isinstance(kinds, str) else kinds))
    if "minLength" in schema:
        text += ", not empty"
    limits = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {schema[key]}" for key, sign in limits.items() if key in schema]
    return f"{text} {' and '.join(bounds)}".strip()


def _alternative(schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """One of several shapes in words; a small mapping is written out."""
    if schema.get("type") != "object":
        return _allowed(schema, root)
    return f"{{{', '.join(f'{key}: {_allowed(inner, root)}' for key, inner in schema['properties'].items())}}}"


def _resolve(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: Any = root
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return {**found, **{k: v for k, v in schema.items() if k != "$ref"}}


def _shape_problems(config: Config, schema: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Yield where the schema is broken, and the line that says so."""
    from jsonschema import Draft202012Validator, validators

    # JSON Schema would take 3.0 for a whole number, and NaN or infinity for numbers.
    checker = Draft202012Validator.TYPE_CHECKER.redefine_many(
        {"integer": lambda _, value: _is_whole(value), "number": lambda _, value: _is_number(value)}
    )
    validator = validators.extend(Draft202012Validator, type_checker=checker)(schema)
    for error in sorted(validator.iter_errors(config), key=lambda e: list(map(str, e.absolute_path))):
        path = tuple(error.absolute_path)
        for line in _fault_lines(_path(path), error, schema):
            yield path, line


def _fault_lines(where: str, error: ValidationError, root: Mapping[str, Any]) -> Iterator[str]:
    inside = "" if where == "the configuration" else f"{where}."
    found: Any = error.instance
    expected: Any = error.validator_value
    fragment: Any = error.schema
    match error.validator:
        case "additionalProperties":
            allowed = list(fragment["properties"])
            for key in found:
                if key not in allowed:
                    match = near_match(key, allowed) or ";"
                    yield f"{inside}{key}: unknown key{match} allowed: {', '.join(allowed)}"
        case "required":
            for key in expected:  # jsonschema has one error for each of them, all alike
                if key not in found:
                    yield f"{inside}{key}: missing; allowed: {_allowed(fragment['properties'][key], root)}"
        case "pattern":
            yield f"{where}: found the name {found!r}; allowed: {fragment['description']}"
        case "minItems" | "minProperties":
            yield f"{where}: found {len(found)} entries; allowed: at least {expected}"
        case "maxItems":
            yield f"{where}: found {len(found)} entries; allowed: at most {expected}"
        case "uniqueItems":
            yield f"{where}: found an entry twice; allowed: each at most once"
        case _:
            allowed_text, hint = _allowed(fragment, root), ""
            if isinstance(found, str):
                hint = near_match(found, [str(v) for v in fragment.get("enum", [])])
                if not hint and "number" in allowed_text:
                    hint = _number_hint(found)
            yield f"{where}: found {_shown(found)}{hint or ';'} allowed: {allowed_text}"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _number_hint(text: str) -> str:
    """How to write a number that YAML took for text: an exponent needs a point before it and a sign."""
    try:
        value = float(text)
    except ValueError:
        return ""
    if not math.isfinite(value):
        return ""
    mantissa, e, exponent = repr(value).partition("e")
    if not e:
        mantissa = mantissa.removesuffix(".0")
    elif "." not in mantissa:
        mantissa += ".0"
    return f"; YAML reads it as text, write {mantissa}{e}{exponent};"


def _text_keys_only(value: Any, problems: list[str], path: tuple[Any, ...] = ()) -> Any:
    """Leave out the keys that YAML did not read as text (a schema cannot name them), with a line for each."""
    if isinstance(value, Mapping):
        kept = {}
        for key, inner in value.items():
            if isinstance(key, str):
                kept[key] = _text_keys_only(inner, problems, (*path, key))
            else:
                where = _path((*path, str(key)))
                problems.append(f"{where}: found the key {key!r}, which is not text; write it in quotes")
        return kept
    if isinstance(value, list):
        return [_text_keys_only(inner, problems, (*path, i)) for i, inner in enumerate(value)]
    return value


# --- cross-field checks -----------------------------------------------------------------------------------------


def _cross_problems(config: Config, broken: Set[tuple[Any, ...]]) -> Iterator[str]:
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
    for name, objective in sound.get("objectives", {}).items():
        yield from _objective_problems(name, objective)
    for name, recipe in sound.get("recipes", {}).items():
        yield from _recipe_problems(name, recipe, config.get("device"))
    for name, network in sound.get("networks", {}).items():
        yield from _network_problems(name, network)
        for key, section in (("objective", "objectives"), ("recipe", "recipes")):
            yield from _unknown_name(f"networks.{name}.{key}", network[key], names.get(section))
        recipe = sound.get("recipes", {}).get(network["recipe"])
        if recipe and network["architecture"] == "ufm" and recipe["batch"] != "full":
            yield (
                f"networks.{name}.recipe: found {network['recipe']!r} with batch {recipe['batch']}; architecture ufm "
                f"needs a recipe with batch full"
            )
        if recipe and network["architecture"] == "ufm":
            for key in ("precision", "compile"):
                if recipe.get(key, DEFAULT_ARITHMETIC[key]) != DEFAULT_ARITHMETIC[key]:
                    yield (
                        f"networks.{name}.recipe: found {network['recipe']!r} with {key} {_shown(recipe[key])}; "
                        f"architecture ufm has no layers to compute, remove that key"
                    )
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
    if folder and not BASE_SETS[dataset["base"]].needs_folder:
        yield f"{where}.folder: found {folder!r}; base {dataset['base']} comes with a package, allowed: null"
    if not in_use:
        return
    try:
        capacity = base_capacity(dataset["base"], folder)
    except InputError as error:
        yield f"{where}: {error}"
        return
    except OSError as error:
        yield f"{where}.folder: found {folder!r}; it cannot be read ({error.strerror})"
        return
    if capacity is None:
        return
    for split, available in zip(("train", "test"), capacity[:2], strict=True):
        for position, count in enumerate(dataset[f"{split}_counts"]):
            if count > available:
                yield (
                    f"{where}.{split}_counts[{position}]: found {count}; the {split} split of {dataset['base']} has "
                    f"{available} images in its smallest class, allowed: 0 to {available}"
                )


def _setting_problems(name: str, setting: Mapping[str, Any]) -> Iterator[str]:
    where, profile = f"settings.{name}", setting["profile"]
    needs = {"step": "ratio", "exponential": "ratio", "uniform": "ratio", "explicit": "counts"}.get(profile)
    for key in ("ratio", "counts"):
        if key == needs and key not in setting:
            yield f"{where}.{key}: missing; profile {profile} needs it"
        elif key != needs and key in setting:
            yield f"{where}.{key}: found {_shown(setting[key])}; profile {profile} does not use it, remove the key"
    if "total" in setting and profile in ("balanced", "explicit"):
        yield f"{where}.total: found {_shown(setting['total'])}; profile {profile} does not use it, remove the key"
    sampling = setting.get("sampling", "natural")
    if "cap" in setting and sampling != "max_kappa":
        yield f"{where}.cap: found {_shown(setting['cap'])}; sampling {sampling} does not use it, remove the key"
    spelt: dict[LabelSet, str] = {}
    for key in setting.get("counts", {}):
        other = spelt.setdefault(parse_label_set(key), key)
        if other != key:
            yield f"{where}.counts.{key}: found the label set of {other!r} again; allowed: each at most once"


def _objective_problems(name: str, objective: Mapping[str, Any]) -> Iterator[str]:
    where, loss = f"objectives.{name}", objective["loss"]
    if loss == "bce" and objective["target"] != "raw":
        yield f"{where}.target: found {objective['target']!r}; loss bce takes the labels as they are, allowed: raw"
    weights = objective.get("class_weights", [])
    if loss != "pal" and "class_weights" in objective:
        yield f"{where}.class_weights: found {_shown(weights)}; loss {loss} does not use them, remove the key"
    for i, weight in enumerate(weights if isinstance(weights, list) else []):
        if not _is_number(weight) or weight <= 0:
            yield f"{where}.class_weights[{i}]: found {_shown(weight)}; allowed: a number > 0"


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
    where, architecture = f"networks.{name}", network["architecture"]
    needed, optional = NETWORK_KEYS[architecture], OPTIONAL_NETWORK_KEYS.get(architecture, ())
    for key in dict.fromkeys(chain(*NETWORK_KEYS.values(), *OPTIONAL_NETWORK_KEYS.values())):
        if key in needed and key not in network:
            yield f"{where}.{key}: missing; architecture {architecture} needs it"
        elif key not in (*needed, *optional) and key in network:
            found = f"found {_shown(network[key])}"
            yield f"{where}.{key}: {found}; architecture {architecture} does not use it, remove the key"
    if {"heads", "features"} <= network.keys() and "heads" in needed and network["features"] % network["heads"]:
        yield f"{where}.heads: found {network['heads']}; allowed: a divisor of {where}.features = {network['features']}"


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


def _run_problems(config: Config) -> Iterator[str]:
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
    if network["architecture"] == "vgg16" and side < VGG_SIDE:
        yield f"networks.{name}.architecture: found vgg16; {images}, five poolings need {VGG_SIDE} x {VGG_SIDE} or more"


def _batch_problems(config: Config, dataset: str, setting: str, name: str) -> Iterator[str]:
    """Check that no batch is one number a channel where batch norm stands: it has no variance then."""
    network = config["networks"][name]
    recipe = network["recipe"]
    batch = config["recipes"][recipe]["batch"]
    samples = sum(setting_counts(config["datasets"][dataset], config["settings"][setting]).values())
    last = samples if batch == "full" else samples % batch or min(batch, samples)
    if last == 1 and batch_norm_side(network, image_side(config, dataset)) == 1:
        yield (
            f"recipes.{recipe}.batch: found {batch}; of the {samples} samples of setting {setting} of data set "
            f"{dataset} it leaves 1 to the last batch, and batch norm in network {name} needs 2"
        )


def image_side(config: Config, dataset: str) -> int:
    """Height and width of the images of a data set, pixels: twice those of its base images."""
    return 2 * BASE_SETS[config["datasets"][dataset]["base"]].side


def batch_norm_side(network: Mapping[str, Any], side: int) -> int | None:
    """Height and width of what the last batch norm of a network sees; None for one without.

    Parameters
    ----------
    network : mapping
        Entry of ``networks``.
    side : int
        Height and width of the images, pixels.
    """
    match network["architecture"]:
        case "cnn":
            return -(-side // 4)
        case "vgg16":
            return side // 16
        case "vit":
            return 1
        case architecture if architecture in RESNETS:
            return -(-side // (8 * network.get("stem_stride", 1)))
    return None


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
    from ncpipe.storage import network_size  # which reads this module

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
    width = network_size(config["networks"][network], (base.channels, 2 * base.side, 2 * base.side), 1).features
    if width < classes:
        yield (
            f"networks.{network}: found feature width {width} with objective {name}, whose classifier is a simplex "
            f"ETF; {dataset} has {classes} classes, allowed: a feature width of {classes} or more"
        )


# --- the plan ---------------------------------------------------------------------------------------------------


def plan_runs(config: Config) -> list[Run]:
    """All runs that the configuration selects, each once, in the order of the selection."""
    keys = ("datasets", "settings", "networks", "seeds")
    return list(dict.fromkeys(Run(*names) for e in config["runs"] for names in product(*(e[k] for k in keys))))


def plan_studies(config: Config) -> list[str]:
    """Names of the studies that the configuration selects, in their fixed order."""
    studies = config.get("studies") or {}
    return [name for name in STUDIES if studies.get(name) is not None]


def study_settings(config: Config, name: str) -> dict[str, Any]:
    """What a study depends on: the entry of its objective, the labels it starts from, and its own parameters."""
    studies = config["studies"]
    return {
        "objective": dict(config["objectives"][studies["objective"]]),
        "labels": dict(studies["labels"]),
        "parameters": dict(studies[name]),
    }


def balanced_counts(per_set: Sequence[int], classes: int) -> dict[LabelSet, int]:
    """Samples of every label set of a balanced data set, in canonical order; label sets without samples left out."""
    return {
        label_set: count
        for m, count in enumerate(per_set, start=1)
        if count
        for label_set in combinations(range(classes), m)
    }


def setting_counts(dataset: Mapping[str, Any], setting: Mapping[str, Any]) -> dict[str, int]:
    """Training samples of every label set under a setting: ``{"0": 140, ..., "8+9": 20}``, canonical order.

    The profiles act on multiplicity one: ``step`` keeps the first half of the classes and puts
    the rest at ratio r, ``exponential`` gives n_k = n_1 r^(k/(K-1)), ``uniform`` puts every class at r. With ``total:
    fixed`` every other multiplicity shrinks as multiplicity one does in all, so that their shares stay those of the
    balanced data set. Counts are rounded half up and never below 1.
    """
    classes = BASE_SETS[dataset["base"]].classes
    counts = balanced_counts(dataset["train_counts"], classes)
    if setting["profile"] == "explicit":
        wanted = {parse_label_set(key): n for key, n in setting["counts"].items()}
        return {label_set_name(s): wanted[s] for s in counts if s in wanted}
    ratio = float(setting.get("ratio", 1.0))
    share = {
        "balanced": lambda k: 1.0,
        "step": lambda k: 1.0 if k < (classes + 1) // 2 else ratio,
        "exponential": lambda k: ratio ** (k / (classes - 1)),
        "uniform": lambda k: ratio,
    }[setting["profile"]]
    scaled = {s: max(1, math.floor(n * share(s[0]) + 0.5)) if len(s) == 1 else n for s, n in counts.items()}
    if setting.get("total", "natural") == "fixed" and dataset["train_counts"][0]:
        left, whole = (sum(n for s, n in c.items() if len(s) == 1) for c in (scaled, counts))
        # In whole numbers, since a half must be rounded up.
        others = {s: max(1, (2 * n * left + whole) // (2 * whole)) for s, n in counts.items() if len(s) > 1}
        scaled |= others
    return {label_set_name(s): n for s, n in scaled.items()}


def setting_sampling(setting: Mapping[str, Any]) -> dict[str, Any] | None:
    """How a setting weights its label sets in training: ``{"method": ..., "cap": ...}``; None where it does not.

    The cap is None but for ``max_kappa``, whose weights stay within it.
    """
    method = setting.get("sampling", "natural")
    if method == "natural":
        return None
    return {"method": method, "cap": float(setting.get("cap", DEFAULT_CAP)) if method == "max_kappa" else None}


def balanced_class_weights(mass: Sequence[float]) -> list[float]:
    """Inverse class frequencies: c_k = Σ_j M_j / (K M_k), M_k > 0 what class k has of all targets.

    The loss then weighs every class alike, E[c_k t_k] = E[τ] / K, and all of them as much as without weights.
    """
    total = sum(mass)
    return [total / (len(mass) * own) for own in mass]


def objective_entry(config: Config, dataset: str, setting: str, objective: str) -> dict[str, Any]:
    """An entry of ``objectives`` as a setting has it: its class weights numbers, defaults left out."""
    entry = dict(config["objectives"][objective])
    if entry.get("classifier") == "learned":
        del entry["classifier"]
    if entry.get("class_weights") == "balanced":
        mass = [0.0] * BASE_SETS[config["datasets"][dataset]["base"]].classes
        for name, count in setting_counts(config["datasets"][dataset], config["settings"][setting]).items():
            label_set = parse_label_set(name)
            for k in label_set:
                mass[k] += count / len(label_set) if entry["target"] == "normalised" else count
        entry["class_weights"] = balanced_class_weights(mass)
    return entry


def sampling_file(config: Config, dataset: str, setting: str, objective: str) -> str | None:
    """Where the sampling weights of a setting lie, None where it has none.

    What is the weakest contrast depends on the target of an objective, so there is a file for each target.
    """
    if setting_sampling(config["settings"][setting]) is None:
        return None
    target = config["objectives"][objective]["target"]
    return f"{config['results']}/theory/{dataset}/{setting}/sampling/{target}.json"


def checkpoint_epochs(checkpoints: str | Mapping[str, int] | Sequence[int], epochs: int, planned: int) -> list[int]:
    """Epochs to checkpoint: two per doubling (``log``), every n (``{every: n}``), or the list.

    A list is scaled where a step budget changed the epochs. The last epoch is always one of them, and so is epoch 0
    but for a list that leaves it out.
    """
    if isinstance(checkpoints, Mapping):
        return sorted({*range(0, epochs, checkpoints["every"]), epochs})
    if checkpoints == "log":
        powers = (round(2 ** (i / 2)) for i in range(2 * epochs.bit_length() + 1))
        return sorted({0, epochs, *(e for e in powers if e < epochs)})
    return sorted({epochs, *(round(int(e) * epochs / planned) for e in checkpoints)})


def run_epochs(config: Config, run: Run) -> int:
    """Epochs of a run: the recipe's, or those that make as many steps as the balanced setting (``budget: steps``)."""
    dataset, setting = config["datasets"][run.dataset], config["settings"][run.setting]
    recipe = config["recipes"][config["networks"][run.network]["recipe"]]
    if setting.get("budget", "epochs") == "epochs" or recipe["batch"] == "full":
        return int(recipe["epochs"])
    steps, balanced = (
        -(-sum(setting_counts(dataset, s).values()) // recipe["batch"]) for s in (setting, {"profile": "balanced"})
    )
    return math.floor(recipe["epochs"] * balanced / steps + 0.5)


def train_settings(config: Config, run: Run) -> dict[str, Any]:
    """Every value that a run's result depends on (its data set apart), as plain builtins."""
    network = dict(config["networks"][run.network])
    recipe = dict(config["recipes"][network.pop("recipe")])
    planned, checkpoints = recipe.pop("epochs"), recipe.pop("checkpoints")
    for key, value in {"feature_penalty": DEFAULT_FEATURE_PENALTY, **DEFAULT_ARITHMETIC}.items():
        if recipe.get(key) == value:  # said or not, it is the same run
            del recipe[key]
    features = recipe.pop("features", DEFAULT_FEATURES)
    epochs = run_epochs(config, run)
    sampling = setting_sampling(config["settings"][run.setting])
    return {
        "run": {"dataset": run.dataset, "setting": run.setting, "network": run.network, "seed": run.seed},
        "network": network,
        "objective": objective_entry(config, run.dataset, run.setting, network.pop("objective")),
        "recipe": recipe,
        "counts": setting_counts(config["datasets"][run.dataset], config["settings"][run.setting]),
        **({} if sampling is None else {"sampling": sampling}),
        "epochs": epochs,
        "checkpoints": checkpoint_epochs(checkpoints, epochs, planned),
        **({} if features == DEFAULT_FEATURES else {"features": features}),
        "seed": run.seed,
    }


def data_spec(config: Config, dataset: str) -> dict[str, Any]:
    """Every value that a data set depends on, as plain builtins."""
    entry = config["datasets"][dataset]
    return {
        "dataset": dataset,
        "base": entry["base"],
        "folder": entry.get("folder"),
        "style": entry["style"],
        "placement": entry.get("placement", "reference"),
        "train_counts": list(entry["train_counts"]),
        "test_counts": list(entry["test_counts"]),
        "seed": entry["seed"],
    }
