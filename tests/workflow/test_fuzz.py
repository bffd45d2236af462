"""Configurations with something wrong in them, through Snakemake itself: a plan, or plain lines; never a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import yaml
from pipeline import REPOSITORY, Project

VALUES = [None, True, -1, 0, 3, 0.5, float("nan"), "", "x", "1e-3", "../up", "log", "full", [], [1, 2], {}, {"a": 1}]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key and index of nested mappings and lists."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield (*path, key)
        yield from places(inner, (*path, key))


def mutated(rng: np.random.Generator) -> dict[str, Any]:
    """The default configuration with one to three of its values removed, renamed or replaced."""
    config = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    for _ in range(rng.integers(1, 4)):
        everywhere = list(places(config))
        *parents, last = everywhere[rng.integers(len(everywhere))]
        target: Any = config
        for key in parents:
            target = target[key]
        kind = rng.integers(4)
        if kind == 0:
            del target[last]
        elif kind == 1 and isinstance(target, dict):
            target[f"{last}x"] = target.pop(last)
        else:
            target[last] = VALUES[rng.integers(len(VALUES))]
    return config


@pytest.mark.slow
def test_twenty_configurations_are_planned_or_refused_in_plain_lines(fresh: Project) -> None:
    rng, refused = np.random.default_rng(2605), 0
    fresh.overlay = {"device": "cpu"}
    for _ in range(20):
        config = mutated(rng)
        (fresh.checkout / "config.yaml").write_text(yaml.safe_dump(config))
        outcome = fresh.snakemake("--dry-run", "--quiet", "all")
        if outcome.code:
            refused += 1
            assert "The configuration cannot be used:" in outcome.stderr, outcome.text
        for fragment in ("Traceback", "Error in rule", 'File "'):
            assert fragment not in outcome.text, (config, outcome.text)
    assert 5 <= refused < 20
