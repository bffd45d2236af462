"""Schemas and documentation are what the models make of them; an editor accepts what the checks accept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from ncpipe.experiment import schema
from ncpipe.experiment.plan import DEFAULT_ARITHMETIC, STUDIES, data_spec
from ncpipe.experiment.reading import load_config
from ncpipe.experiment.settings import Studies

CHECKOUT = Path(__file__).parents[2]
DEFAULT = load_config(CHECKOUT / "config.yaml")
OVERLAYS = sorted((CHECKOUT / "config").glob("*.yaml"))
PAGE = (CHECKOUT / schema.DOCUMENT).read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|\n").split(" | ")]
    for section in (None, *schema.SECTIONS)
    for line in schema.key_table(section).splitlines()[2:]
]


def test_what_is_committed_is_what_the_models_make() -> None:
    """`python -m ncpipe.experiment.schema` writes all three anew."""
    for made, path in ((schema.config_schema(), "config"), (schema.overlay_schema(), "overlay")):
        assert json.loads((CHECKOUT / schema.SCHEMAS[path]).read_text(encoding="utf-8")) == made
    assert schema.with_tables(PAGE) == PAGE


@pytest.mark.parametrize("path", [CHECKOUT / "config.yaml", *OVERLAYS], ids=lambda path: path.name)
def test_an_editor_accepts_what_comes_with_it_and_underlines_a_misspelt_key(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    named = path.parent / first.removeprefix("# yaml-language-server: $schema=")
    validator = Draft202012Validator(json.loads(named.read_text(encoding="utf-8")))
    Draft202012Validator.check_schema(validator.schema)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert not list(validator.iter_errors(content))
    assert list(validator.iter_errors({**content, "setings": {}}))
    assert list(validator.iter_errors({**content, "recipes": {"cnn": {"momemtum": 0.9}}}))
    assert list(validator.iter_errors({**content, "networks": {"cnn": {"widht": 4}}}))
    assert list(validator.iter_errors({**content, "settings": {"a b": {"profile": "balanced"}}}))
    assert list(validator.iter_errors({**content, "device": "gpu"}))


def test_every_mapping_of_the_schemas_is_closed() -> None:
    def mappings(fragment: Any) -> Iterator[Mapping[str, Any]]:
        if isinstance(fragment, Mapping):
            if fragment.get("type") == "object":
                yield fragment
            for inner in fragment.values():
                yield from mappings(inner)

    for made in (schema.config_schema(), schema.overlay_schema()):
        found = list(mappings(made))
        assert len(found) > 20
        for fragment in found:
            assert "additionalProperties" in fragment, fragment.get("title", fragment)


def test_every_study_has_a_model() -> None:
    assert list(Studies.model_fields) == ["objective", "labels", *STUDIES]


def keys_of(config: Any, path: str = "") -> Iterator[str]:
    if isinstance(config, list):
        for entry in config:
            yield from keys_of(entry, path)
    elif isinstance(config, Mapping):
        named = path in ("datasets.", "settings.", "objectives.", "recipes.", "networks.")
        for key, inner in config.items():
            step = "<name>" if named else key
            if not named:
                yield f"{path}{step}"
            yield from keys_of(inner, f"{path}{step}.")


def test_default_configuration_shows_every_key_that_is_not_optional() -> None:
    documented = [row[0].strip("`") for row in ROWS]
    shown = set(keys_of(DEFAULT))
    assert shown <= set(documented)
    assert len(documented) == len(set(documented))
    # `counts` belongs to explicit settings, the others to residual networks, transformers and other arithmetic than
    # float32's: the default has none.
    assert set(documented) - shown == {
        *(f"settings.<name>.{key}" for key in ("counts", "total")),
        *(f"objectives.<name>.{key}" for key in ("class_weights", "classifier")),
        *(f"recipes.<name>.{key}" for key in ("feature_penalty", "features", *DEFAULT_ARITHMETIC)),
        *(f"networks.<name>.{key}" for key in ("stem_stride", "patch", "depth", "heads")),
    }


def test_documentation_says_what_holds_without_a_key() -> None:
    without = {row[0].strip("`").rpartition(".")[2]: row[-1] for row in ROWS if "studies" not in row[0]}
    assert without["ratio"] == "required by step, exponential and uniform; the others have none"
    assert without["total"] == "natural with step, exponential and uniform; the others have none"
    assert without["stem_stride"] == "1 with resnet18, resnet34 and resnet50; the others have none"
    assert without["compile"] == "false"
    assert without["folder"] == "null"
    assert without["lr"] == "required"
    spec = {key: value for key, value in DEFAULT["datasets"]["mlab_digits"].items() if key != "placement"}
    assert data_spec({**DEFAULT, "datasets": {"d": spec}}, "d")["placement"] == without["placement"]
