"""The plan of runs that a checked configuration asks for, and every value that each of them depends on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any, Final

from ncpipe.experiment.base_sets import BASE_SETS
from ncpipe.labels.names import LabelSet, label_set_name, parse_label_counts, parse_label_set

Config = Mapping[str, Any]
# What holds where a key is left out. The models of `settings` and the plan both have it from here.
DEFAULT_PLACEMENT: Final = "reference"  # of a data set
DEFAULT_TOTAL: Final = "natural"  # of a setting, as the next three
DEFAULT_BUDGET: Final = "epochs"
DEFAULT_SAMPLING: Final = "natural"
DEFAULT_CAP: Final = 2.0  # of sampling max_kappa
DEFAULT_CLASSIFIER: Final = "learned"  # of an objective
DEFAULT_FEATURE_PENALTY: Final = "per_sample"  # of a recipe
DEFAULT_FEATURES: Final = "float32"  # what a checkpoint keeps of the features
DEFAULT_ARITHMETIC: dict[str, Any] = {"precision": "float32", "compile": False, "deterministic": False}  # of a recipe

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


def image_side(config: Config, dataset: str) -> int:
    """Height and width of the images of a data set, pixels: twice those of its base images."""
    return 2 * BASE_SETS[config["datasets"][dataset]["base"]].side


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
        wanted = parse_label_counts(setting["counts"])
        return {label_set_name(s): wanted[s] for s in counts if s in wanted}
    ratio = float(setting.get("ratio", 1.0))
    share = {
        "balanced": lambda k: 1.0,
        "step": lambda k: 1.0 if k < (classes + 1) // 2 else ratio,
        "exponential": lambda k: ratio ** (k / (classes - 1)),
        "uniform": lambda k: ratio,
    }[setting["profile"]]
    scaled = {s: max(1, math.floor(n * share(s[0]) + 0.5)) if len(s) == 1 else n for s, n in counts.items()}
    if setting.get("total", DEFAULT_TOTAL) == "fixed" and dataset["train_counts"][0]:
        left, whole = (sum(n for s, n in c.items() if len(s) == 1) for c in (scaled, counts))
        # In whole numbers, since a half must be rounded up.
        others = {s: max(1, (2 * n * left + whole) // (2 * whole)) for s, n in counts.items() if len(s) > 1}
        scaled |= others
    return {label_set_name(s): n for s, n in scaled.items()}


def setting_sampling(setting: Mapping[str, Any]) -> dict[str, Any] | None:
    """How a setting weights its label sets in training: ``{"method": ..., "cap": ...}``; None where it does not.

    The cap is None but for ``max_kappa``, whose weights stay within it.
    """
    method = setting.get("sampling", DEFAULT_SAMPLING)
    if method == DEFAULT_SAMPLING:
        return None
    return {"method": method, "cap": float(setting.get("cap", DEFAULT_CAP)) if method == "max_kappa" else None}


def balanced_class_weights(mass: Sequence[float]) -> list[float]:
    """Inverse class frequencies: c_k = Σ_j M_j / (K M_k), M_k > 0 what class k has of all targets.

    The loss then weighs every class alike, E[c_k t_k] = E[τ] / K, and all of them as much as without weights.
    """
    total = sum(mass)
    return [total / (len(mass) * of_class) for of_class in mass]


def objective_entry(config: Config, dataset: str, setting: str, objective: str) -> dict[str, Any]:
    """An entry of ``objectives`` as a setting has it: its class weights numbers, defaults left out."""
    entry = dict(config["objectives"][objective])
    if entry.get("classifier") == DEFAULT_CLASSIFIER:
        del entry["classifier"]
    if entry.get("class_weights") == "balanced":
        mass = [0.0] * BASE_SETS[config["datasets"][dataset]["base"]].classes
        for name, count in setting_counts(config["datasets"][dataset], config["settings"][setting]).items():
            label_set = parse_label_set(name)
            for k in label_set:
                mass[k] += count / len(label_set) if entry["target"] == "normalised" else count
        entry["class_weights"] = balanced_class_weights(mass)
    return entry


def sampling_target(config: Config, setting: str, objective: str) -> str | None:
    """The target that the sampling weights of a setting are made for, None where it has none.

    What is the weakest contrast depends on the target of an objective, so there are weights for each target.
    """
    if setting_sampling(config["settings"][setting]) is None:
        return None
    return str(config["objectives"][objective]["target"])


def plan_theory(config: Config) -> list[tuple[str, str, str]]:
    """Data set, setting and objective of every label distribution that a selected run has, each once."""
    objectives = {name: network["objective"] for name, network in config["networks"].items()}
    return list(dict.fromkeys((run.dataset, run.setting, objectives[run.network]) for run in plan_runs(config)))


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
    if setting.get("budget", DEFAULT_BUDGET) == "epochs" or recipe["batch"] == "full":
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
        if recipe.get(key) == value:  # a default written out is the same run
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
        "placement": entry.get("placement", DEFAULT_PLACEMENT),
        "train_counts": list(entry["train_counts"]),
        "test_counts": list(entry["test_counts"]),
        "seed": entry["seed"],
    }
