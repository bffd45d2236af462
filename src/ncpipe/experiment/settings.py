"""The configuration, typed: a model for each mapping in it. Editors, documentation and messages are made from these.

The models only check. What the rest of the package gets is the plain mapping that was checked. Imports nothing heavy:
every Snakemake process, and every SLURM job, reads this at start.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache, reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, create_model
from pydantic_core import PydanticCustomError

from ncpipe.experiment.architectures import ARCHITECTURES
from ncpipe.experiment.base_sets import BASE_SETS
from ncpipe.experiment.plan import (
    DEFAULT_ARITHMETIC,
    DEFAULT_BUDGET,
    DEFAULT_CLASSIFIER,
    DEFAULT_FEATURE_PENALTY,
    DEFAULT_FEATURES,
    DEFAULT_PLACEMENT,
    DEFAULT_SAMPLING,
    DEFAULT_TOTAL,
)

# --- names and paths --------------------------------------------------------------------------------------------

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
_LONGEST_NAME = 100  # characters; a file name is made of two names and a few words, and holds 255 bytes
_LONGEST_PATH, _LONGEST_FOLDER = 1000, 200
_RESERVED = {
    "dataset": {f"{table}.csv": "a table of the collapse stage" for table in ("metrics", "optimum", "synthesis")},
    "network": {"optimum": "the certified optimum in tables and figures"},
}


def _refuse(what: str) -> PydanticCustomError:
    """A fault whose message is `what`: what was found, and what is allowed."""
    return PydanticCustomError("refused", "{what}", {"what": what})


def _name(kind: str = "") -> Callable[[str], str]:
    def check(name: str) -> str:
        if len(name) > _LONGEST_NAME:
            raise _refuse(f"found a name of {len(name)} characters; allowed: at most {_LONGEST_NAME}")
        if not re.fullmatch(NAME_PATTERN.strip("^$"), name):
            allowed = "letters, digits, '_', '-' and '.', starting with a letter or digit"
            raise _refuse(f"found the name {name!r}; allowed: {allowed}")
        if name in _RESERVED.get(kind, ()):
            raise _refuse(f"found the name {name!r}, which is that of {_RESERVED[kind][name]}; allowed: any other name")
        return name

    return check


def _label_set(name: str) -> str:
    if not re.fullmatch(r"[0-9]{1,4}([+][0-9]{1,4})*", name):
        raise _refuse(f"found the name {name!r}; allowed: class numbers joined by '+'")
    return name


def _not_home(path: str) -> str:
    if path.startswith("~"):
        try:
            whole = f"write {str(Path(path).expanduser())!r}"
        except RuntimeError:
            whole = "write the whole path"
        raise _refuse(f"found {path!r}; '~' is not expanded here, {whole}")
    return path


def _results_path(path: str) -> str:
    """Refuse what Snakemake or a file system would stumble over later."""
    parts = path.split("/")
    strange = sorted({c for c in path if c in "{}<>" or not c.isprintable()})
    if strange:
        raise _refuse(f"found {path!r}; allowed: no {' '.join(map(repr, strange))}, which are not read as they stand")
    if len(path) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_FOLDER for part in parts):
        raise _refuse(
            f"found a path of {len(path)} characters; allowed: {_LONGEST_PATH}, and {_LONGEST_FOLDER} bytes a folder"
        )
    if path != path.strip() or path.startswith("-"):
        raise _refuse(f"found {path!r}; allowed: no space at either end, no '-' at the beginning")
    if path == "/" or parts[-1] in (".", ".."):
        raise _refuse(f"found {path!r}; allowed: a folder of its own")
    if "" in parts[1:] or "." in parts:
        raise _refuse(f"found {path!r}; allowed: the same without '.' and empty parts, {str(Path(path))!r}")
    return path


def _each_once(values: list[Any]) -> list[Any]:
    twice = next((value for i, value in enumerate(values) if value in values[:i]), None)
    if twice is not None:
        raise _refuse(f"found {twice!r} twice; allowed: each at most once")
    return values


def kind_of(value: Any) -> str:
    """The kind of a value in the words of JSON schemas."""
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
    return kinds.get(type(value), "object" if isinstance(value, Mapping) else "other")


_BY_KIND = Discriminator(kind_of)

Name = Annotated[str, AfterValidator(_name()), Field(json_schema_extra={"pattern": NAME_PATTERN})]
DatasetName = Annotated[str, AfterValidator(_name("dataset")), Field(json_schema_extra={"pattern": NAME_PATTERN})]
NetworkName = Annotated[str, AfterValidator(_name("network")), Field(json_schema_extra={"pattern": NAME_PATTERN})]
LabelSetName = Annotated[str, AfterValidator(_label_set)]
Results = Annotated[str, Field(min_length=1), AfterValidator(_not_home), AfterValidator(_results_path)]
Folder = Annotated[str, AfterValidator(_not_home)]

# --- numbers and lists ------------------------------------------------------------------------------------------

Count = Annotated[int, Field(ge=0, le=1_000_000)]
Size = Annotated[int, Field(ge=1, le=65_536)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Points = Annotated[int, Field(ge=2, le=1000)]
Members = Annotated[int, Field(ge=4, le=10_000)]
Positive = Annotated[float, Field(gt=0)]
Penalty = Annotated[float, Field(ge=0)]
Ratio = Annotated[float, Field(gt=0, le=1)]

_SOME = Field(min_length=1, json_schema_extra={"uniqueItems": True})
_ONCE = AfterValidator(_each_once)
Counts = Annotated[list[Count], Field(min_length=1, max_length=4)]
Names = Annotated[list[str], _SOME, _ONCE]
Ratios = Annotated[list[Ratio], _SOME, _ONCE]
PerPair = Annotated[list[Count], _SOME, _ONCE]


_ABSENT: Any = None  # the default of a key that may be left out, and is never null


class Model(BaseModel):
    """A mapping of the configuration: no other keys, no conversions, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, defer_build=True)


def _without(text: str) -> dict[str, Any]:
    """What the documentation says in the column "without it", where that is no default."""
    return {"without": text}


# --- data sets --------------------------------------------------------------------------------------------------

_PACKAGED = tuple(name for name, base in BASE_SETS.items() if not base.needs_folder)
_IN_FOLDERS = tuple(name for name, base in BASE_SETS.items() if base.needs_folder)

_BASE = "base images, see below"


class _Dataset(Model):
    folder: Folder | None = Field(
        None,
        description=(
            "where the files of `mnist`, `fashion_mnist`, `cifar10` and `svhn` lie, relative to the working directory"
        ),
    )
    style: Literal["mnist", "cifar"] = Field(
        description=(
            "composition rule; `mnist`: two independent shifts, rolled round the border; `cifar`: one shift for both "
            "axes, no roll"
        )
    )
    placement: Literal["reference", "random"] = Field(
        DEFAULT_PLACEMENT,
        description=(
            "where multiplicity one lies; `reference`: as Li et al. (2024) place it; `random`: anywhere that "
            "multiplicity two may lie"
        ),
    )
    train_counts: Counts = Field(
        description="training samples of each label set of multiplicity 1, 2, ... (up to 4), balanced"
    )
    test_counts: Counts = Field(description="the same for the test split, which no setting changes")
    seed: Seed = Field(description="of the synthesis: split of the base images, draws, shifts")


class PackagedDataset(_Dataset):
    """Base images that come with a package."""

    base: Literal[_PACKAGED] = Field(description=_BASE)  # type: ignore[valid-type]
    folder: None = None


class FolderDataset(_Dataset):
    """Base images in files that the user has."""

    base: Literal[_IN_FOLDERS] = Field(description=_BASE)  # type: ignore[valid-type]


Dataset = Annotated[PackagedDataset | FolderDataset, Field(discriminator="base")]

# --- settings ---------------------------------------------------------------------------------------------------

_Total = Annotated[
    Literal["natural", "fixed"],
    Field(description="`natural`: other multiplicities keep their counts; `fixed`: their shares, see below"),
]


class _Setting(Model):
    budget: Literal["epochs", "steps"] = Field(
        DEFAULT_BUDGET,
        description="train for the recipe's epochs, or for as many steps as the balanced setting takes",
    )
    sampling: Literal["natural", "class_balanced", "effective_number", "max_kappa"] = Field(
        DEFAULT_SAMPLING, description="weights of the label sets in training, see below"
    )
    cap: Annotated[float, Field(gt=1)] = Field(
        _ABSENT,
        description="ρ: a label set's share is multiplied or divided by no more than this",
        json_schema_extra=_without("2 with max_kappa; the others have none"),
    )


class Balanced(_Setting):
    """Every label set in full."""

    profile: Literal["balanced"] = Field(
        description=(
            "`balanced`: n₁; `step`: n₁ for the first half of the classes, r·n₁ for the others; `exponential`: "
            "n₁·r^(k/(K−1)); `uniform`: r·n₁; `explicit`: `counts`"
        )
    )


class Thinned(_Setting):
    """Multiplicity one downsampled by a ratio."""

    profile: Literal["step", "exponential", "uniform"]
    ratio: Ratio = Field(description="r")
    total: _Total = DEFAULT_TOTAL


class Explicit(_Setting):
    """Counts of label sets by name."""

    profile: Literal["explicit"]
    counts: Annotated[dict[LabelSetName, Annotated[int, Field(ge=1, le=1_000_000)]], Field(min_length=1)] = Field(
        description="samples of each label set, written `3` or `0+7`; label sets that are not named are absent"
    )


Setting = Annotated[Balanced | Thinned | Explicit, Field(discriminator="profile")]

# --- objectives -------------------------------------------------------------------------------------------------


ClassWeights = Annotated[
    Annotated[Literal["balanced"], Tag("string")] | Annotated[list[Positive], Tag("array")],
    _BY_KIND,
]


class _Objective(Model):
    target: Literal["normalised", "raw"] = Field(description="y / m for a sample of m labels, or y; raw with bce")
    lambda_w: Positive = Field(description="on the classifier (its weight decay)")
    lambda_h: Positive = Field(description="on each sample's feature, averaged over samples")
    lambda_b: Penalty = Field(description="on the bias (its weight decay); 0: a free bias")
    bias: bool = Field(description="whether the classifier has a bias")
    classifier: Literal["learned", "etf"] = Field(
        DEFAULT_CLASSIFIER, description="`etf`: fixed to a simplex equiangular tight frame, see below"
    )


class MseObjective(_Objective):
    """Half the squared error."""

    loss: Literal["mse"] = Field(
        description=(
            "`pal`: pick-all-labels cross-entropy τ·logsumexp(z) − tᵀz; `bce`: binary cross-entropy, summed over the "
            "classes; `mse`: ‖z − t‖²/2"
        )
    )


class PalObjective(_Objective):
    """Pick-all-labels cross-entropy."""

    loss: Literal["pal"]
    class_weights: ClassWeights = Field(
        _ABSENT,
        description=(
            "with pal: c_k t_k in place of t_k, one number > 0 for each class; `balanced`: inverse class frequency, "
            "see below"
        ),
        json_schema_extra=_without("every class weighs the same"),
    )


class BceObjective(_Objective):
    """Binary cross-entropy, of labels as they are."""

    loss: Literal["bce"]
    target: Literal["raw"]


Objective = Annotated[PalObjective | BceObjective | MseObjective, Field(discriminator="loss")]

# --- recipes ----------------------------------------------------------------------------------------------------


class Every(Model):
    """Checkpoints every so many epochs."""

    every: Annotated[int, Field(ge=1)]


Epoch = Annotated[int, Field(ge=0)]
Checkpoints = Annotated[
    Annotated[Literal["log"], Tag("string")]
    | Annotated[list[Epoch], _SOME, _ONCE, Tag("array")]
    | Annotated[Every, Tag("object")],
    _BY_KIND,
]
Batch = Annotated[
    Annotated[int, Field(ge=1), Tag("integer")] | Annotated[Literal["full"], Tag("string")],
    _BY_KIND,
]


class Recipe(Model):
    """Optimiser, schedule and checkpoints."""

    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = Field(description="passes over the training samples")
    batch: Batch = Field(description="samples in a step, the last batch of an epoch may be smaller; or all of them")
    lr: Positive = Field(description="learning rate, at its peak")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(description="of SGD, not Nesterov's")
    weight_decay: Penalty = Field(
        description=(
            "on every parameter of the backbone, batch norm and biases too; free features (`ufm`) have the feature "
            "penalty instead"
        )
    )
    schedule: Literal["cosine", "constant"] = Field(description="`cosine`: from lr to lr / 1000, stepped once an epoch")
    feature_penalty: Literal["per_sample", "batch_sum"] = Field(
        DEFAULT_FEATURE_PENALTY, description="of the short last batch of an epoch, see below"
    )
    precision: Literal["float32", "tf32", "bfloat16", "float16"] = Field(
        DEFAULT_ARITHMETIC["precision"], description="in which the backbone computes, see below"
    )
    compile: bool = Field(
        DEFAULT_ARITHMETIC["compile"],
        description="compile the backbone's training step, see below; not for ufm",
    )
    deterministic: bool = Field(
        DEFAULT_ARITHMETIC["deterministic"], description="have runs on CUDA repeat bit for bit, see below"
    )
    checkpoints: Checkpoints = Field(
        description=(
            "epochs after which features are stored, ascending, 0 is the untrained network; `log`: 0, two in every "
            "doubling; `{every: n}`: 0, n, 2n, ...; the last epoch always"
        )
    )
    features: Literal["float32", "float16", "moments"] = Field(
        DEFAULT_FEATURES, description="what a checkpoint keeps of the features, see [storage](storage.md)"
    )


# --- networks ---------------------------------------------------------------------------------------------------

# Every key that an architecture may have; which has which is said in `ARCHITECTURES`.
_NETWORK_KEYS: dict[str, tuple[Any, str]] = {
    "width": (Size, "channels of the first layer; the feature width is a multiple of it"),
    "stem_stride": (
        Annotated[int, Field(ge=1, le=4)],
        "stride of the first convolution: 2 makes everything behind it four times cheaper",
    ),
    "hidden": (list[Size], "widths of the hidden layers, each a whole number from 1 to 65536; may be empty"),
    "features": (Size, "feature width"),
    "patch": (Annotated[int, Field(ge=1, le=64)], "side of a patch in pixels, a divisor of the side of the images"),
    "depth": (Annotated[int, Field(ge=1, le=64)], "transformer blocks"),
    "heads": (Annotated[int, Field(ge=1, le=1024)], "attention heads, a divisor of `features`"),
}
_NETWORK_DEFAULTS = {"stem_stride": 1}


def _network_model(name: str) -> type[Model]:
    architecture = ARCHITECTURES[name]
    fields: dict[str, Any] = {
        "architecture": (Literal[name], Field(description="see below")),
        "objective": (str, Field(description="a name under `objectives`")),
        "recipe": (str, Field(description="a name under `recipes`; for ufm one with `batch: full`")),
    }
    for key, (kind, description) in _NETWORK_KEYS.items():
        if key in architecture.keys:
            fields[key] = (kind, Field(description=description))
        elif key in architecture.optional:
            fields[key] = (kind, Field(_NETWORK_DEFAULTS[key], description=description))
    return create_model(f"Network_{name}", __base__=Model, **fields)


if TYPE_CHECKING:
    Network = Model
else:
    Network = Annotated[reduce(or_, map(_network_model, ARCHITECTURES)), Field(discriminator="architecture")]

# --- studies ----------------------------------------------------------------------------------------------------


class StudyLabels(Model):
    """The balanced distribution that studies start from."""

    classes: Annotated[int, Field(ge=4, le=30)] = Field(description="K; even for `tagwise`")
    counts: Annotated[list[Annotated[int, Field(ge=1, le=1_000_000)]], Field(min_length=2, max_length=2)] = Field(
        description="n₁ and n₂, each a whole number from 1 to 1000000"
    )


class RatioGrid(Model):
    """Ratios in equal factors."""

    low: Ratio = Field(description="the smallest")
    high: Ratio = Field(description="the largest")
    points: Points = Field(description="how many")


class LambdaGrid(Model):
    """Penalties in equal factors."""

    low: Positive = Field(description="the smallest")
    high: Positive = Field(description="the largest")
    points: Points = Field(description="how many")


_RATIOS = "r, each > 0 and <= 1"
_STEP_RATIOS = "r of the step profile, each > 0 and <= 1"
_PER_PAIR = "n₂, each a whole number from 0 to 1000000"


class Phase(Model):
    """Rank of the optimum over ratio, penalty and samples of pairs."""

    ratios: RatioGrid = Field(description="r, in equal factors")
    lambdas: LambdaGrid = Field(description="λ = √(λ_w·λ_h), in equal factors")
    per_pair: PerPair = Field(description=_PER_PAIR)


class Critical(Model):
    """The penalty at which full rank is lost."""

    ratios: Ratios = Field(description=_RATIOS)
    per_pair: PerPair = Field(description=_PER_PAIR)


class RatioStudy(Model):
    """Optimum, bound and synthesis over ratios."""

    ratios: Ratios = Field(description=_RATIOS)


class Spectrum(Model):
    """Families with fixed class counts."""

    ratio: Ratio = Field(description="r of the step profile in the families F2 and F2b")
    members: Members = Field(
        description="distributions in each family; a claim of no correlation takes about 80 to contradict"
    )
    graphs: Annotated[int, Field(ge=1, le=100)] = Field(
        description="graphs that F2b relabels, each a family of its own"
    )
    critical_members: Members = Field(
        description="the first members of each family, whose critical λ is found too (ten times the cost)"
    )
    seed: Seed = Field(description="of the graphs")


class Tagwise(Model):
    """Anisotropies of multiplicity one and two."""

    ratios: Ratios = Field(description=_STEP_RATIOS)
    shares: Annotated[list[Annotated[float, Field(ge=0, le=1)]], _SOME, _ONCE] = Field(
        description="shares of the pairs in a perfect matching, or between two halves of the classes, each from 0 to 1"
    )


class Synthetic(Model):
    """Labels from independent to strongly correlated."""

    ratios: Ratios = Field(description=_STEP_RATIOS)
    strengths: Annotated[list[Annotated[float, Field(ge=0, le=4)]], _SOME, _ONCE] = Field(
        description="of the correlations between the classes of a pair, each from 0 (independent) to 4"
    )
    lambdas: Annotated[list[Positive], _SOME, _ONCE] = Field(description="λ, each > 0")
    draws: Annotated[int, Field(ge=1, le=1000)] = Field(description="draws of the correlations")
    seed: Seed = Field(description="of the draws")


_LEFT_OUT = _without("left out")
_ANY_STUDY = _without("required by any study")


class Studies(Model):
    """Studies of label distributions, by name; null leaves one out."""

    objective: str = Field(
        _ABSENT,
        description="a name under `objectives`; where a study sweeps λ, only its target and bias count",
        json_schema_extra=_ANY_STUDY,
    )
    labels: StudyLabels = Field(_ABSENT, description="the balanced distribution", json_schema_extra=_ANY_STUDY)
    phase: Phase | None = Field(
        None,
        description=("rank of the optimum over r (step profile), λ and n₂, beside the closed forms for collapse"),
        json_schema_extra=_LEFT_OUT,
    )
    critical: Critical | None = Field(
        None,
        description=(
            "the λ at which the optimum loses its full rank, over r for the profiles step, exponential and uniform"
        ),
        json_schema_extra=_LEFT_OUT,
    )
    ratios: RatioStudy | None = Field(
        None,
        description=(
            "optimum, spectral bound, optimum with features >= 0, collapse metrics at both and exponents of synthesis, "
            "over r for the three profiles"
        ),
        json_schema_extra=_LEFT_OUT,
    )
    spectrum: Spectrum | None = Field(
        None,
        description="families with fixed class counts: what the label spectrum controls (claim 2)",
        json_schema_extra=_LEFT_OUT,
    )
    tagwise: Tagwise | None = Field(
        None,
        description="residual of tag-wise averaging over the anisotropies of multiplicity one and two (claim 4)",
        json_schema_extra=_LEFT_OUT,
    )
    synthetic: Synthetic | None = Field(
        None,
        description="labels from independent to strongly correlated: spectra, bounds, and what they bound",
        json_schema_extra=_LEFT_OUT,
    )


# --- all of it --------------------------------------------------------------------------------------------------


class Selection(Model):
    """An entry of ``runs``: every combination of what it names."""

    datasets: Names = Field(description="names under `datasets`")
    settings: Names = Field(description="names under `settings`")
    networks: Names = Field(description="names under `networks`")
    seeds: Annotated[list[Seed], _SOME, _ONCE] = Field(
        description="of initialisation and order; each a whole number from 0 to 4294967295"
    )


class Configuration(Model):
    """config.yaml, merged with its overlays."""

    results: Results = Field(description="folder that everything is written to, relative to the working directory")
    device: Literal["auto", "cpu", "cuda"] = Field(
        description="where networks are trained; `auto`: CUDA where there is one"
    )
    datasets: Annotated[dict[DatasetName, Dataset], Field(min_length=1)] = Field(description="data sets, by name")
    settings: Annotated[dict[Name, Setting], Field(min_length=1)] = Field(description="label distributions, by name")
    objectives: Annotated[dict[Name, Objective], Field(min_length=1)] = Field(
        description="what training minimises, by name"
    )
    recipes: Annotated[dict[Name, Recipe], Field(min_length=1)] = Field(
        description="optimiser, schedule and checkpoints, by name"
    )
    networks: Annotated[dict[NetworkName, Network], Field(min_length=1)] = Field(
        description="networks with their objective and recipe, by name"
    )
    studies: Studies | None = Field(
        None, description="studies of label distributions", json_schema_extra=_without("no study")
    )
    runs: Annotated[list[Selection], Field(min_length=1)] = Field(description="which of all these are run")


@cache
def configuration_schema() -> dict[str, Any]:
    """The JSON schema of a whole configuration, as pydantic makes it."""
    return Configuration.model_json_schema()
