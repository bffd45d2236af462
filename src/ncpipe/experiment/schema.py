"""What is made from the models: the JSON schemas for editors, and the key tables of docs/configuration.md.

``python -m ncpipe.experiment.schema`` writes both anew, in a checkout.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ncpipe.experiment.messages import Schema, Union, allowed, inner, resolve, union_of
from ncpipe.experiment.settings import configuration_schema

DOCUMENT = "docs/configuration.md"
SCHEMAS = {"config": "workflow/schemas/config.schema.json", "overlay": "workflow/schemas/overlay.schema.json"}
SECTIONS = ("datasets", "settings", "objectives", "recipes", "networks", "studies", "runs")
_HEAD = "| key | meaning | allowed | without it |\n|---|---|---|---|\n"


# --- schemas ----------------------------------------------------------------------------------------------------


def config_schema() -> dict[str, Any]:
    """What a whole configuration is."""
    root = configuration_schema()
    schema: dict[str, Any] = {"$schema": "https://json-schema.org/draft/2020-12/schema", **_plain(root)}
    return schema


def overlay_schema() -> dict[str, Any]:
    """What an overlay may add: every key optional, and the keys of every kind together."""
    root = config_schema()
    return {**_optional(root, root), "title": "Overlay"}


def _plain(value: Any) -> Any:
    """Without what is ours (`without`) and what pydantic adds for no reader: titles of keys, its own discriminator."""
    if isinstance(value, dict):
        dropped = ("without", "discriminator") + (("title",) if isinstance(value.get("title"), str) else ())
        left = {key: _plain(inner_value) for key, inner_value in value.items() if key not in dropped}
        if "patternProperties" in left:
            left["additionalProperties"] = False
        return left
    return [_plain(inner_value) for inner_value in value] if isinstance(value, list) else value


def _optional(value: Any, root: Schema) -> Any:
    if isinstance(value, list):
        return [_optional(entry, root) for entry in value]
    if not isinstance(value, dict):
        return value
    if "oneOf" in value and all("$ref" in option for option in value["oneOf"]):
        properties: dict[str, list[Any]] = {}
        for option in value["oneOf"]:
            for key, fragment in resolve(option, root)["properties"].items():
                if fragment not in properties.setdefault(key, []):
                    properties[key].append(fragment)
        either = {key: f[0] if len(f) == 1 else {"anyOf": f} for key, f in properties.items()}
        return {"type": "object", "additionalProperties": False, "properties": _optional(either, root)}
    kept = {key: inner_value for key, inner_value in value.items() if key not in ("required", "minProperties")}
    if "items" in kept:
        kept["items"], required = _optional(kept["items"], root), kept["items"]
        if "$ref" in required:  # lists replace, so their entries are whole
            kept["items"] = {**_plain(resolve(required, root))}
        return {key: kept["items"] if key == "items" else _optional(v, root) for key, v in kept.items()}
    return {key: _optional(inner_value, root) for key, inner_value in kept.items()}


# --- documentation ----------------------------------------------------------------------------------------------


def key_table(section: str | None) -> str:
    """The table of the keys of a section, or of the top level, in markdown."""
    root = configuration_schema()
    if section is None:
        rows = list(_rows("", root, root, deep=False))
    else:
        fragment = inner(root, section, root)
        path = section
        if section == "runs":
            fragment = inner(fragment, 0, root)
        elif section != "studies":
            fragment, path = inner(fragment, "", root), f"{section}.<name>"
        rows = list(_rows(f"{path}.", fragment, root, deep=section == "studies"))
    return _HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _rows(path: str, fragment: Schema, root: Schema, *, deep: bool) -> Iterator[tuple[str, str, str, str]]:
    union = union_of(fragment, root)
    if union:
        for key in union.keys:
            yield f"`{path}{key}`", *_union_row(union, key, root)
        return
    if "anyOf" in fragment:
        fragment = resolve(fragment["anyOf"][0], root)
    for key, value in fragment.get("properties", {}).items():
        without = "required" if key in fragment.get("required", ()) else _default(resolve(value, root))
        yield f"`{path}{key}`", value["description"], allowed(value, root), without
        if deep:
            yield from _rows(f"{path}{key}.", resolve(value, root), root, deep=True)


def _default(fragment: Schema) -> str:
    if "without" in fragment:
        return str(fragment["without"])
    default = fragment["default"]
    return default if isinstance(default, str) else json.dumps(default)


def _union_row(union: Union, key: str, root: Schema) -> tuple[str, str, str]:
    """Meaning, what is allowed, and what holds without it, of a key of some kinds or of all."""
    if key == union.discriminator:
        told = (branch["properties"][key].get("description", "") for branch in union.branches.values())
        return max(told, key=len), ", ".join(union.branches), "required"
    fragments = union.with_key(key)
    any_of_them = max(fragments.values(), key=lambda fragment: len(allowed(fragment, root)))
    description = max((f.get("description", "") for f in fragments.values()), key=len)
    needing = [tag for tag in fragments if key in union.branches[tag].get("required", ())]
    if len(fragments) == len(union.branches):
        without = "required" if needing else _default(any_of_them)
    elif needing:
        without = f"required by {_listed(needing)}; the others have none"
    elif "without" in any_of_them:
        without = str(any_of_them["without"])
    else:
        without = f"{_default(any_of_them)} with {_listed(list(fragments))}; the others have none"
    return description, allowed(any_of_them, root), without


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def with_tables(page: str) -> str:
    """The documentation page with its key tables made anew."""
    for section in (None, *SECTIONS):
        heading = f"## {section or 'Top level'}\n"
        start = page.index(heading)
        begin = page.index(_HEAD, start)
        rows = re.compile(r"(?:^\|.*\n)+", re.MULTILINE).match(page, begin)
        assert rows is not None
        page = page[:begin] + key_table(section) + page[rows.end() :]
    return page


def main() -> None:
    """Write the schemas and the tables of the checkout that the working directory is."""
    for schema, path in ((config_schema(), SCHEMAS["config"]), (overlay_schema(), SCHEMAS["overlay"])):
        Path(path).write_text(json.dumps(schema, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    document = Path(DOCUMENT)
    document.write_text(with_tables(document.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
