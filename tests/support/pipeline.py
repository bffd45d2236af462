"""Snakemake run for real, on a copy of the checkout's rules and on three runs that train in a second."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
# A space in every path: no rule may split one.
RESULTS = "my results"
OVERLAY: dict[str, Any] = {
    "results": RESULTS,
    "device": "cpu",
    "datasets": {"mlab_digits": {"train_counts": [4, 1], "test_counts": [1, 1]}},
    "settings": {"thin": {"profile": "step", "ratio": 0.5}},
    "recipes": {
        "mlp": {"epochs": 2, "checkpoints": [0, 2]},
        "slow": {"epochs": 2, "checkpoints": [0, 2], "batch": 64, "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0,
                 "schedule": "constant"},
    },
    "networks": {
        "mlp": {"hidden": [8], "features": 4},
        "slow": {"architecture": "mlp", "hidden": [], "features": 4, "objective": "pal", "recipe": "slow"},
    },
    "runs": [
        {"datasets": ["mlab_digits"], "settings": ["balanced", "thin"], "networks": ["mlp"], "seeds": [0]},
        {"datasets": ["mlab_digits"], "settings": ["balanced"], "networks": ["slow"], "seeds": [0]},
    ],
}  # fmt: skip
RUNS = {
    "mlab_digits/balanced/mlp/seed-0",
    "mlab_digits/thin/mlp/seed-0",
    "mlab_digits/balanced/slow/seed-0",
}


@dataclass
class Outcome:
    """What one call of Snakemake did."""

    code: int
    stdout: str
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout + self.stderr

    @property
    def jobs(self) -> dict[str, int]:
        """Jobs by rule, as the table before the run counts them; empty where nothing is to be done."""
        table = re.search(r"^job +count\n[- ]+\n((?:\w+ +\d+\n)+)", self.text, flags=re.MULTILINE)
        rows = dict(line.split() for line in table[1].splitlines()) if table else {}
        return {rule: int(count) for rule, count in rows.items() if rule != "total"}

    @property
    def trained(self) -> set[str]:
        """Runs whose training job was started, or would be."""
        blocks = re.findall(r"^(?:local)?rule train_run:\n((?: +.*\n)+)", self.text, flags=re.M)
        wildcards = [dict(re.findall(r"(\w+)=([^,\n]+)", re.search(r"wildcards: (.*)", b)[1])) for b in blocks]
        return {"{dataset}/{setting}/{network}/seed-{seed}".format(**w) for w in wildcards}


@dataclass
class Project:
    """A working directory and a copy of the rules, with the configuration that is run."""

    folder: Path
    overlay: dict[str, Any] = field(default_factory=lambda: yaml.safe_load(yaml.safe_dump(OVERLAY)))
    shared_checkout: Path | None = None

    @property
    def checkout(self) -> Path:
        return self.shared_checkout or self.folder / "checkout"

    @property
    def results(self) -> Path:
        return self.folder / "work" / RESULTS

    def start(self, *arguments: str, configfile: Path | None = None, log: Path | None = None) -> subprocess.Popen[str]:
        """Start Snakemake as a user does, elsewhere than in the checkout; what it says goes to pipes, or to `log`."""
        overlay = self.folder / "overlay.yaml"
        overlay.write_text(yaml.safe_dump(self.overlay), encoding="utf-8")
        command = [
            sys.executable, "-m", "snakemake", "-s", str(self.checkout / "Snakefile"), "--directory",
            str(self.folder / "work"), "--configfile", str(configfile or overlay), "--cores", "2", "--nocolor",
        ]  # fmt: skip
        with contextlib.ExitStack() as stack:
            output = subprocess.PIPE if log is None else stack.enter_context(log.open("w", encoding="utf-8"))
            return subprocess.Popen(
                [*command, *arguments], stdout=output, stderr=output, encoding="utf-8", cwd=self.folder,
                env={**os.environ, "XDG_CACHE_HOME": str(self.folder / "cache")},
            )  # fmt: skip

    def snakemake(self, *arguments: str, configfile: Path | None = None, timeout: float = 600) -> Outcome:
        """Run Snakemake to its end."""
        with self.start(*arguments, configfile=configfile) as process:
            try:
                stdout, stderr = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.terminate()
                raise
        return Outcome(process.returncode, stdout, stderr)

    def manifest(self, run: str) -> Path:
        return self.results / "train" / run / "manifest.json"

    def log(self, run: str) -> str:
        return (self.results / f"logs/train/{run}.log").read_text(encoding="utf-8")

    def files(self, below: str = "") -> dict[str, tuple[int, bytes]]:
        """Time and content of every result, to see what has been written."""
        root = self.results / below
        return {
            str(f.relative_to(root)): (f.stat().st_mtime_ns, f.read_bytes())
            for f in root.rglob("*") if f.is_file() and f.name != "writer.lock"
        }  # fmt: skip


def make_project(folder: Path) -> Project:
    """A copy of what a checkout needs to run; the package itself is the one under test."""
    project = Project(folder)
    project.checkout.mkdir(parents=True)
    for name in ("Snakefile", "config.yaml", "config", "workflow", "profiles"):
        source = REPOSITORY / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, project.checkout / name)
    # Rules list modules as inputs: a copy, so that nobody's edit meanwhile counts as a change here.
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(REPOSITORY / "src", project.checkout / "src", ignore=ignored)
    (folder / "work").mkdir()
    return project
