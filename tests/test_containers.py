"""Container recipes, as far as they can be checked without an engine: building them is not tested.

What they copy is there and is enough to plan the whole pipeline; what they install is what the README installs.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from pipeline import OVERLAY

REPOSITORY = Path(__file__).parents[1]
HOME = "/opt/ncpipe"
DOCKER, APPTAINER = REPOSITORY / "containers/Dockerfile", REPOSITORY / "containers/ncpipe.def"


def copied(recipe: Path) -> dict[str, str]:
    """Target of each path of the checkout that a recipe copies."""
    text = recipe.read_text()
    if recipe == APPTAINER:
        section = re.search(r"^%files\n(.*?)^$", text, flags=re.MULTILINE | re.DOTALL)
        assert section is not None
        return dict(line.split() for line in section[1].splitlines())
    targets = {}
    for line in re.findall(r"^COPY (.*)$", text, flags=re.MULTILINE):
        *sources, target = line.split()
        # A folder given alone is copied as its target, everything else into it.
        targets |= {s: target + s if target.endswith("/") else target for s in sources}
    return targets


# What a user id without an entry sees, in Snakemake and in every program that it starts.
NO_ENTRY = """
import pwd
def missing(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = missing
"""


def test_a_user_whom_the_machine_does_not_know_plans_and_runs(tmp_path: Path) -> None:
    """As with ``docker run --user``: no entry in /etc/passwd, neither USER nor LOGNAME set, HOME only."""
    for name in ("shim", "home", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "shim/sitecustomize.py").write_text(NO_ENTRY, encoding="utf-8")
    overlay = {**OVERLAY, "results": "out", "studies": None}
    (tmp_path / "overlay.yaml").write_text(yaml.safe_dump(overlay), encoding="utf-8")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home")}
    environment |= {"PYTHONPATH": f"{tmp_path / 'shim'}:{REPOSITORY / 'src'}"}
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile"), "--cores", "1", "data"]
    for options in (["--dry-run"], []):
        done = subprocess.run(
            [*command, "--configfile", str(tmp_path / "overlay.yaml"), *options],
            cwd=tmp_path / "work",
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
    assert {path.name for path in (tmp_path / "work").iterdir()} == {".snakemake", "out"}


def installation(text: str) -> list[str]:
    """What pip is told to install."""
    command = re.search(r"pip install (.*?)(?: &&|$)", text, flags=re.MULTILINE)
    assert command is not None
    return [word for word in shlex.split(command[1]) if word not in ("-q", "--no-cache-dir")]


def test_what_the_recipes_copy_is_enough_to_plan_the_pipeline(tmp_path: Path) -> None:
    assert copied(DOCKER) == copied(APPTAINER)
    for source, target in copied(DOCKER).items():
        place = tmp_path / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (REPOSITORY / source).is_dir() else shutil.copy2)(REPOSITORY / source, place)
    inside, elsewhere = tmp_path / HOME.lstrip("/"), tmp_path / "elsewhere"
    project = tomllib.loads((inside / "pyproject.toml").read_text())["project"]
    assert all((inside / name).is_file() for name in (project["readme"], *project["license-files"]))
    elsewhere.mkdir()
    planned = subprocess.run(
        [sys.executable, "-m", "snakemake", "--snakefile", str(inside / "Snakefile"), "--dry-run"],
        cwd=elsewhere, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert planned.returncode == 0, planned.stderr
    assert f"Using workflow specific profile {inside}/profiles/default" in planned.stderr
    assert re.search(r"^report_page +1$", planned.stdout + planned.stderr, flags=re.MULTILINE)


@pytest.mark.parametrize("recipe", [DOCKER, APPTAINER], ids=lambda path: path.name)
def test_a_recipe_runs_the_snakefile_that_it_copies(recipe: Path) -> None:
    named = re.findall(r"--snakefile[\", ]+([\w/.]+)", recipe.read_text())
    assert named
    assert set(named) == {f"{HOME}/Snakefile"}


@pytest.mark.parametrize("recipe", [DOCKER, APPTAINER], ids=lambda path: path.name)
def test_a_recipe_installs_what_the_readme_does(recipe: Path) -> None:
    wanted = installation((REPOSITORY / "README.md").read_text())
    assert wanted == ["-r", "requirements.lock", "-e", "."]
    assert installation(recipe.read_text()) == ["-r", f"{HOME}/requirements.lock", "-e", HOME]
    base = re.search(r"^(?:FROM|From:) python:3\.(\d+)-slim$", recipe.read_text(), flags=re.MULTILINE)
    assert base is not None
    lowest = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["requires-python"]
    assert lowest.startswith(">=3.11")
    assert 11 <= int(base[1]) <= 13


def test_the_cluster_page_names_the_recipes() -> None:
    page = (REPOSITORY / "docs/cluster.md").read_text()
    assert set(re.findall(r"containers/[\w.]+", page)) == {"containers/Dockerfile", "containers/ncpipe.def"}
