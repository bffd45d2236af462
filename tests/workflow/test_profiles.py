"""Profiles say how to run every rule, and a sweep does not submit its small jobs one by one."""

from __future__ import annotations

import re
from typing import Any

import yaml
from pipeline import REPOSITORY, Project

LOCAL = {"all", "data", "train", "theory", "studies", "collapse", "figures", "report"}


def profile(name: str) -> dict[str, Any]:
    return yaml.safe_load((REPOSITORY / "profiles" / name / "config.yaml").read_text())


def test_every_small_rule_travels_in_a_group(fresh: Project) -> None:
    """A rule that is added without a place in the SLURM profile would be submitted job by job."""
    listed = fresh.snakemake("--list-rules")
    assert listed.code == 0, listed.text
    rules = set(re.findall(r"^([a-z_]+) \(", listed.text, flags=re.MULTILINE)) - LOCAL
    assert "train_run" in rules
    assert rules - set(profile("slurm")["groups"]) == {"train_run"}
    for name in ("slurm", "gpu"):
        assert set(profile(name)["set-resources"]) <= rules


def test_a_sweep_is_planned_with_the_slurm_profile(fresh: Project) -> None:
    """500 runs; the plan is the same as without the profile, and takes seconds."""
    fresh.overlay["runs"] = [
        {"datasets": ["mlab_digits"], "settings": ["balanced", "thin"], "networks": ["mlp"], "seeds": list(range(250))}
    ]
    outcome = fresh.snakemake("collapse", "--dry-run", "--profile", str(fresh.checkout / "profiles/slurm"))
    assert outcome.code == 0, outcome.text
    assert outcome.jobs["train_run"] == outcome.jobs["collapse_run"] == 500
    components = profile("slurm")["group-components"]["collapse"]
    assert 500 / components <= 25
