"""Inputs that once failed, where the folder of trials is there: each ends in a page, a table, or one plain line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pipeline import Project
from shared import SHARED_DATA

from ncpipe.command.main import main

TRIALS = SHARED_DATA / "trials"
OVERLAYS = sorted(TRIALS.glob("*.yaml"))
LABELS = sorted(path for path in TRIALS.glob("*") if path.suffix in (".csv", ".svm", ".txt", ".arff", ".json"))
PENALTIES = ("--lambda-w", "5e-4", "--lambda-h", "0.256", "--rtol", "1e-3")

pytestmark = pytest.mark.slow


@pytest.mark.skipif(not OVERLAYS, reason=f"{TRIALS}: no trials here")
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_a_configuration_ends_in_a_page_or_is_refused_before_the_first_job(fresh: Project, overlay: Path) -> None:
    outcome = fresh.snakemake("--configfile", str(fresh.checkout / "config/smoke.yaml"), str(overlay))
    assert "Traceback" not in outcome.text
    if "The configuration cannot be used:" in outcome.stderr:
        assert outcome.code == 1
        assert not outcome.jobs
        return
    assert outcome.code == 0, outcome.text
    assert list((fresh.folder / "work").rglob("report/index.html"))


@pytest.mark.skipif(not LABELS, reason=f"{TRIALS}: no trials here")
@pytest.mark.parametrize("command", [("spectrum",), ("optimum", *PENALTIES)], ids=["spectrum", "optimum"])
@pytest.mark.parametrize("path", LABELS, ids=lambda path: path.name)
def test_a_label_file_is_read_or_refused(path: Path, command: tuple[str, ...], tmp_path: Path, capsys) -> None:
    plot = ("--plot", str(tmp_path / "a.png")) if path.stem == "mathnames" else ()
    with pytest.raises(SystemExit) as ended:
        sys.exit(main([command[0], str(path), *command[1:], *plot]))
    captured = capsys.readouterr()
    assert ended.value.code in (0, 2), captured.err
    assert captured.err.count("\n") <= 1  # of 0 too: what could not be drawn, or taken for certain, is said once
    assert captured.out or captured.err
