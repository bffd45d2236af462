"""Reading and checking a configuration: all its faults at once, as plain lines."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ncpipe.errors import ConfigError, InputError, near_match
from ncpipe.experiment.checks import entry_problems, run_problems
from ncpipe.experiment.messages import Fault, dotted, faults, shown
from ncpipe.experiment.plan import Config
from ncpipe.experiment.settings import Configuration, configuration_schema

# --- files ------------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """Reads YAML and notes keys that stand twice in a mapping, of which YAML would silently take the last."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.twice: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Build a mapping; keys that come from a merge (``<<``) may be overridden, as YAML has it."""
        first: dict[Hashable, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key, line = self.construct_object(key_node, deep=True), key_node.start_mark.line + 1
            if isinstance(key, Hashable):
                if key in first:
                    self.twice.append(f"line {line}: found the key {key!r} again, first in line {first[key]}")
                first.setdefault(key, line)
        return super().construct_mapping(node, deep)


def _read(path: Path) -> tuple[Any, list[str]]:
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such configuration file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    try:
        loaded = loader.get_single_data()
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    finally:
        loader.dispose()
    return loaded, [f"{path}: {line}" for line in loader.twice]


def refuse_duplicate_keys(paths: Iterable[str | Path]) -> None:
    """Read files again that Snakemake has read.

    Raises
    ------
    ConfigError
        With a line for each key that stands twice in a mapping.
    """
    twice = [line for path in dict.fromkeys(map(Path, paths)) for line in _read(path)[1]]
    if twice:
        raise ConfigError(twice)


def load_config(*paths: Path) -> dict[str, Any]:
    """Read a configuration and its overlays as Snakemake does: mappings merge deeply, lists replace.

    Raises
    ------
    InputError
        If a file is missing, unreadable, or not a YAML mapping.
    ConfigError
        If a key stands twice in a mapping.
    """
    merged: dict[str, Any] = {}
    twice: list[str] = []
    for path in paths:
        loaded, lines = _read(path)
        twice += lines
        if not isinstance(loaded, dict):
            raise InputError(f"{path}: found {shown(loaded)}; a configuration is a mapping of keys")
        merge(merged, loaded)
    if twice:
        raise ConfigError(twice)
    return merged


def merge(base: dict[str, Any], overlay: Mapping[str, Any]) -> None:
    """Merge an overlay into a configuration, in place."""
    for key, value in overlay.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            merge(base[key], value)
        else:
            base[key] = value


def typed(value: Any) -> Any:
    """Values of Snakemake's ``--config``, which leaves all that is nested as text, as YAML reads them."""
    if isinstance(value, Mapping):
        return {key: typed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [typed(inner) for inner in value]
    if isinstance(value, str):
        try:
            read = yaml.safe_load(value)
        except yaml.YAMLError:
            return value
        return read if read is None or isinstance(read, bool | int | float) else value
    return value


def load_checked(*overlays: Path) -> dict[str, Any]:
    """Read and check the configuration of the checkout that the working directory is, with overlays.

    Raises
    ------
    InputError, ConfigError
        As `load_config` and `check`; also outside a checkout.
    """
    if not Path("config.yaml").is_file():
        raise InputError("config.yaml: missing; run this command in the checkout of ncpipe")
    config = load_config(Path("config.yaml"), *overlays)
    check(config)
    return config


# --- checks -----------------------------------------------------------------------------------------------------


def check(config: Config) -> None:
    """Check a merged configuration by its models and across its fields.

    Raises
    ------
    ConfigError
        With every fault found, one line each. Cross-field checks leave out the entries whose shape is wrong.
    """
    problems: list[str] = []
    config = _text_keys_only(config, problems)
    shape = sorted(_shape_faults(config), key=lambda fault: (list(map(str, fault.path)), fault.order))
    problems += [fault.line for fault in shape]
    problems += entry_problems(config, {fault.path[:2] for fault in shape if not fault.sound})
    if not problems:
        problems = list(run_problems(config))
    if problems:
        raise ConfigError(list(dict.fromkeys(" ".join(line.split()) for line in problems)))


def _shape_faults(config: Config) -> list[Fault]:
    try:
        Configuration.model_validate(config)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
    else:
        return []
    schema = configuration_schema()
    found = list(faults(errors, config, schema))
    # The other keys of an entry of an unknown kind: checked as if it were of the kind that is probably meant.
    patched, unknown = copy.deepcopy(dict(config)), set()
    for problem in errors:
        if problem["type"] == "union_tag_invalid" and str(problem["ctx"]["discriminator"]).startswith("'"):
            section, name = map(str, problem["loc"])
            key = str(problem["ctx"]["discriminator"]).strip("'")
            tags = [tag.strip("'") for tag in str(problem["ctx"]["expected_tags"]).split(", ")]
            meant = near_match(str(patched[section][name][key]), tags).split("'")
            patched[section][name] = {**patched[section][name], key: meant[1] if len(meant) > 1 else tags[0]}
            unknown.add((section, name))
    if not unknown:
        return found
    try:
        Configuration.model_validate(patched)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        values = [e for e in errors if e["loc"][:2] in unknown and e["type"] not in ("missing", "extra_forbidden")]
        found += faults(values, patched, schema)
    return found


def _text_keys_only(value: Any, problems: list[str], path: tuple[Any, ...] = ()) -> Any:
    """Leave out the keys that YAML did not read as text (no model can name them), with a line for each."""
    if isinstance(value, Mapping):
        kept = {}
        for key, inner in value.items():
            if isinstance(key, str):
                kept[key] = _text_keys_only(inner, problems, (*path, key))
            else:
                where = dotted((*path, str(key)))
                problems.append(f"{where}: found the key {key!r}, which is not text; write it in quotes")
        return kept
    if isinstance(value, list):
        return [_text_keys_only(inner, problems, (*path, i)) for i, inner in enumerate(value)]
    return value
