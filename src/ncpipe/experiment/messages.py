"""The plain lines that say what is wrong with a configuration."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonschema import ValidationError

from ncpipe.errors import near_match
from ncpipe.experiment.plan import (
    Config,
)


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
