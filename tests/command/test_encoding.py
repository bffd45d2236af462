"""Every command where only ASCII can be shown: it shows what it can, and what it writes is UTF-8."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ncpipe.collapse.analyse import analyse_run
from ncpipe.data.synthesise import synthesise

REPOSITORY = Path(__file__).parents[2]
RUN = "mlab_digits/balanced/mlp/seed-0"
DATA = {
    "dataset": "mlab_digits",
    "base": "digits",
    "folder": None,
    "style": "mnist",
    "placement": "reference",
    "train_counts": [1, 1],
    "test_counts": [1, 1],
    "seed": 0,
}
OVERLAY = {
    "results": "out",
    "device": "cpu",
    "datasets": {"mlab_digits": {"train_counts": [1, 1], "test_counts": [1, 1]}},
    "recipes": {"mlp": {"epochs": 1, "checkpoints": [0, 1]}},
    "networks": {"mlp": {"hidden": [], "features": 4}},
}
LABELS = "größe κ.csv"
PENALTIES = ("--lambda-w", "0.01", "--lambda-h", "0.05")
COMMANDS = [
    ("--help",),
    ("fetch",),
    ("spectrum", LABELS, "--out", "猫.json", "--plot", "猫.svg"),
    ("spectrum", "nowhere κ.csv"),
    ("optimum", LABELS, *PENALTIES),
    ("optimum", LABELS, *PENALTIES, "--json"),
    ("rebalance", LABELS, "--out", "weights.npz"),
    ("design", "--help"),
    ("design", "designed λ.json", "--classes", "4"),
    ("train", RUN, "--configfile", "tiny.yaml"),
    ("show", RUN, "--results", "out"),
    ("collapse", "toy/λ/mlp/seed-0", "--results", "out"),
    ("verify", "out"),
    ("clean", "out", "--configfile", "tiny.yaml"),
    ("compare", "out", "out"),
]
# In one process, since each start of torch takes seconds; what each prints and returns is kept apart.
DRIVER = """
import json, os, sys
from ncpipe.command.main import main
for arguments in json.loads(sys.argv[1]):
    arguments = [os.fsdecode(a.encode()) for a in arguments]  # as a shell gives them
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = ended.code
    print("END", arguments[0], code, flush=True)
"""
ASCII = {
    "a terminal of ASCII": {"PYTHONIOENCODING": "ascii"},
    "a locale of ASCII": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, run_maker, theory_path: Path) -> Path:
    """A folder like a checkout with a data set, a measured run, and labels whose classes have names of all kinds."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copy2(REPOSITORY / "config.yaml", folder)
    shutil.copytree(REPOSITORY / "workflow/schemas", folder / "workflow/schemas")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(OVERLAY), encoding="utf-8")
    synthesise(DATA, folder / "out/data/mlab_digits", logging.getLogger("test"))
    run = run_maker.write(folder / "out/train/toy/λ/mlp/seed-0", epochs=1)
    analyse_run(run, theory_path, folder / "out/collapse/toy/λ/mlp/seed-0", logging.getLogger("test"))
    (folder / LABELS).write_text("ameise,ä,猫\n1,0,0\n0,1,0\n0,0,1\n1,1,0\n0,1,1\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("environment", ASCII.values(), ids=ASCII)
def test_every_command_where_only_ascii_can_be_shown(checkout: Path, environment: dict[str, str]) -> None:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHONIO", "PYTHONUTF8"))}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(COMMANDS)],
        cwd=checkout,
        env={**inherited, **environment},
        capture_output=True,
        check=False,
    )
    errors = done.stderr.decode("ascii")
    assert done.returncode == 0, errors
    assert "Traceback" not in errors
    assert "UnicodeEncodeError" not in errors
    output = done.stdout.decode("ascii")
    ends = [tuple(line.split()[1:]) for line in output.splitlines() if line.startswith("END ")]
    assert ends == [(name, "2" if "nowhere κ.csv" in rest else "0") for name, *rest in COMMANDS]
    assert "kappa_max" in output  # Greek letters by name
    assert r"\u732b" in output  # everything else escaped, so that names stay apart
    written = json.loads((checkout / "猫.json").read_text(encoding="utf-8"))
    assert written["class_names"] == ["ameise", "ä", "猫"]


def test_the_log_of_a_job_is_utf_8(checkout: Path) -> None:
    code = (
        "from ncpipe.jobs import job\n"
        "with job('a.log') as log:\n"
        "    log.info('\\u03ba of \\u732b')\n"
        "    print('\\u03ba')"
    )
    environment = {**os.environ, **ASCII["a locale of ASCII"]}
    done = subprocess.run([sys.executable, "-c", code], cwd=checkout, env=environment, capture_output=True, check=True)
    assert done.stdout == b"kappa\n"
    assert (checkout / "a.log").read_text(encoding="utf-8").endswith("INFO κ of 猫\n")
