"""The plain lines that say what is wrong with a configuration, made from pydantic's errors and the schema."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ncpipe.errors import near_match

Schema = Mapping[str, Any]
Path = tuple[Any, ...]  # keys and positions on the way from the top of the configuration to a value

_WORDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}
_LIMITS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


# --- words ------------------------------------------------------------------------------------------------------


def shown(value: Any) -> str:
    """A value in the words of a message."""
    match value:
        case None:
            return "nothing (null)"
        case bool():
            return str(value).lower()
        case str():
            return f"{value!r} (text)"
        case Mapping():
            return "a mapping"
        case list():
            return "a list"
    return repr(value)


def dotted(path: Sequence[Any]) -> str:
    """A path as messages write it: ``runs[0].seeds``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "the configuration"


def number_hint(text: str) -> str:
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


# --- schemas ----------------------------------------------------------------------------------------------------


def resolve(fragment: Schema, root: Schema) -> Schema:
    """Follow a reference to another part of the schema."""
    while "$ref" in fragment:
        target = root["$defs"][fragment["$ref"].rpartition("/")[2]]
        fragment = {**target, **{key: value for key, value in fragment.items() if key != "$ref"}}
    return fragment


def allowed(fragment: Schema, root: Schema) -> str:
    """Say in words what a fragment of a schema allows."""
    fragment = resolve(fragment, root)
    if "enum" in fragment:
        return ", ".join(map(str, fragment["enum"]))
    if "const" in fragment:
        return str(fragment["const"])
    if "anyOf" in fragment:
        return " or ".join(allowed(option, root) for option in fragment["anyOf"])
    if "discriminator" in fragment:
        return _WORDS["object"]
    if "oneOf" in fragment:
        return " or ".join(_alternative(resolve(option, root), root) for option in fragment["oneOf"])
    text = _WORDS[fragment["type"]] + (", not empty" if "minLength" in fragment else "")
    bounds = [f"{sign} {fragment[key]:.10g}" for key, sign in _LIMITS.items() if key in fragment]
    return f"{text} {' and '.join(bounds)}".strip()


def _alternative(fragment: Schema, root: Schema) -> str:
    """One of several kinds in words; a small mapping is written out."""
    if fragment.get("type") != "object":
        return allowed(fragment, root)
    return f"{{{', '.join(f'{key}: {allowed(inner, root)}' for key, inner in fragment['properties'].items())}}}"


class Union(NamedTuple):
    """Mappings of one place whose keys depend on the value of one of them, the discriminator."""

    discriminator: str
    branches: dict[str, Schema]  # by the discriminator's value

    @property
    def shared(self) -> list[str]:
        """Keys of every branch."""
        first, *others = (branch["properties"] for branch in self.branches.values())
        return [key for key in first if all(key in other for other in others)]

    @property
    def keys(self) -> list[str]:
        """Every key: the discriminator, those of some branches, those of all."""
        every = dict.fromkeys(key for branch in self.branches.values() for key in branch["properties"])
        own = [key for key in every if key not in self.shared]
        return list(dict.fromkeys([self.discriminator, *own, *self.shared]))

    def with_key(self, key: str) -> dict[str, Schema]:
        """Branches that have a key, and what they allow there."""
        return {tag: b["properties"][key] for tag, b in self.branches.items() if key in b["properties"]}


def union_of(fragment: Schema, root: Schema) -> Union | None:
    """The union that a fragment is, if it is one."""
    if "discriminator" not in fragment:
        return None
    name: str = fragment["discriminator"]["propertyName"]
    branches: dict[str, Schema] = {}
    for option in fragment["oneOf"]:
        branch = resolve(option, root)
        tag = branch["properties"][name]
        branches |= dict.fromkeys(tag["enum"] if "enum" in tag else [tag["const"]], branch)
    return Union(name, branches)


def inner(fragment: Schema, step: Any, root: Schema) -> Schema:
    """What a mapping or list allows at one of its keys or positions; empty where that is not known."""
    fragment = resolve(fragment, root)
    if "anyOf" in fragment:
        fragment = resolve(fragment["anyOf"][0], root)
    if isinstance(step, int):
        return resolve(fragment.get("items", {}), root)
    named = [*fragment.get("patternProperties", {}).values(), fragment.get("additionalProperties")]
    default = next((value for value in named if isinstance(value, Mapping)), {})
    return resolve(fragment.get("properties", {}).get(step, default), root)


# --- faults -----------------------------------------------------------------------------------------------------


class Fault(NamedTuple):
    """Something wrong at one place of the configuration."""

    path: (
        Path  # the value at fault; for a key that is missing or unknown the mapping that it should or should not be in
    )
    line: str
    order: int = 0  # among the faults of one mapping
    sound: bool = False  # whether all values of that mapping are right: only its keys do not suit the kind that it is


class _Place(NamedTuple):
    """Where an error is: the path without the tags of unions, the value there, and what is allowed there."""

    path: Path
    value: Any
    fragment: Schema
    holder: Schema  # what is allowed of the mapping or list around the value
    union: Union | None  # which that mapping is one of
    tag: str


def _place(location: Path, config: Any, root: Schema) -> _Place:
    path: list[Any] = []
    value, fragment, holder = config, root, root
    union, tag, entered = None, "", False
    for position, step in enumerate(location):
        if step == "[key]":
            break
        if "discriminator" in fragment:  # pydantic names the branch, which is no key
            union, tag, entered = union_of(fragment, root), step, True
            assert union is not None
            fragment = union.branches[step]
            continue
        if "oneOf" in fragment:  # likewise
            if position == len(location) - 1:
                break  # the whole value is at fault: each kind is allowed
            options = [resolve(option, root) for option in fragment["oneOf"]]
            fragment = next(option for option in options if option["type"] == step)
            continue
        path.append(step)
        union, entered = union if entered else None, False
        holder, fragment = fragment, inner(fragment, step, root)
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list):
            value = value[step]
    return _Place(tuple(path), value, fragment, holder, union, tag)


def faults(errors: Sequence[Mapping[str, Any]], config: Any, root: Schema) -> Iterator[Fault]:
    """Turn pydantic's errors into lines.

    Parameters
    ----------
    errors : sequence of mapping
        Of a `pydantic.ValidationError`.
    config : mapping
        What was validated.
    root : mapping
        Its JSON schema.
    """
    for error in errors:
        place = _place(error["loc"], config, root)
        where = dotted(place.path)
        match error["type"]:
            case "missing":
                of_kind = place.union is not None and place.path[-1] not in place.union.shared
                line = f"{where}: missing; {_needed(place, root)}"
                yield Fault(place.path[:-1], line, _order(place, root), sound=of_kind)
            case "extra_forbidden":
                of_kind = place.union is not None and place.path[-1] in place.union.keys
                line = f"{where}: {_surplus(place, root)}"
                yield Fault(place.path[:-1], line, _order(place, root), sound=of_kind)
            case "refused":
                named = dotted(place.path[:-1]) if error["loc"][-1] == "[key]" else where
                yield Fault(place.path, f"{named}: {error['ctx']['what']}")
            case "too_short":
                found = f"found {len(place.value)} entries"
                yield Fault(place.path, f"{where}: {found}; allowed: at least {error['ctx']['min_length']}")
            case "too_long":
                found = f"found {len(place.value)} entries"
                yield Fault(place.path, f"{where}: {found}; allowed: at most {error['ctx']['max_length']}")
            case "union_tag_not_found" | "union_tag_invalid" if "discriminator" in place.fragment:
                yield _wrong_tag(place, root)
            case _:
                yield Fault(place.path, f"{where}: {_wrong_value(place, root)}")


def _order(place: _Place, root: Schema) -> int:
    """Position of a key among those of its mapping; -1 for an unknown one."""
    keys = place.union.keys if place.union else list(_properties(place.holder, root))
    return keys.index(place.path[-1]) if place.path[-1] in keys else -1


def _needed(place: _Place, root: Schema) -> str:
    if place.union and place.path[-1] not in place.union.shared:
        return f"{place.union.discriminator} {place.tag} needs it"
    return f"allowed: {allowed(place.fragment, root)}"


def _surplus(place: _Place, root: Schema) -> str:
    keys = place.union.keys if place.union else list(_properties(place.holder, root))
    key = place.path[-1]
    if key in keys and place.union:
        return f"found {shown(place.value)}; {place.union.discriminator} {place.tag} does not use it, remove the key"
    return f"unknown key{near_match(key, keys) or ';'} allowed: {', '.join(keys)}"


def _properties(fragment: Schema, root: Schema) -> Schema:
    fragment = resolve(fragment, root)
    if "anyOf" in fragment:
        fragment = resolve(fragment["anyOf"][0], root)
    properties: Schema = fragment.get("properties", {})
    return properties


def _wrong_tag(place: _Place, root: Schema) -> Fault:
    union = union_of(place.fragment, root)
    assert union is not None
    path = (*place.path, union.discriminator)
    if union.discriminator not in place.value:
        return Fault(place.path, f"{dotted(path)}: missing; allowed: {', '.join(union.branches)}")
    found = place.value[union.discriminator]
    hint = near_match(found, list(union.branches)) if isinstance(found, str) else ""
    return Fault(path, f"{dotted(path)}: found {shown(found)}{hint or ';'} allowed: {', '.join(union.branches)}")


def _wrong_value(place: _Place, root: Schema) -> str:
    text, fragment, hint = allowed(place.fragment, root), place.fragment, ""
    if isinstance(place.value, str):
        hint = near_match(place.value, list(map(str, fragment.get("enum", []))))
        if not hint and "number" in text:
            hint = number_hint(place.value)
    others = place.union.with_key(place.path[-1]).values() if place.union else ()
    narrower = place.union is not None and any(allowed(other, root) != text for other in others)
    condition = f" with {place.union.discriminator} {place.tag}" if place.union and narrower else ""
    return f"found {shown(place.value)}{hint or ';'} allowed{condition}: {text}"
