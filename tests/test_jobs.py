"""What a workflow script says when it ends in any way."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ncpipe.errors import StoreError
from ncpipe.jobs import job


def test_a_job_logs_plain_lines_and_leaves_the_logger_as_it_was(tmp_path: Path) -> None:
    logger = logging.getLogger("ncpipe")
    before = list(logger.handlers), logger.level
    path = tmp_path / "job.log"
    path.write_text("of an earlier attempt\n")
    with job(str(path)) as log:
        log.info("%d images", 3)
        logging.getLogger("ncpipe.train").warning("careful")
    lines = path.read_text().splitlines()
    assert [line[20:] for line in lines] == ["INFO 3 images", "WARNING careful"]
    assert (list(logger.handlers), logger.level) == before


def test_a_fault_is_one_line_in_log_and_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught, job(str(tmp_path / "job.log")):
        raise StoreError("store: damaged")
    assert caught.value.code == 1
    assert capsys.readouterr().err == "ncpipe: store: damaged\n"
    (line,) = (tmp_path / "job.log").read_text().splitlines()
    assert line.endswith("ERROR store: damaged")


def test_a_defect_has_its_traceback_in_the_log_and_is_raised(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), job(str(tmp_path / "job.log")):
        _ = 1 / 0
    text = (tmp_path / "job.log").read_text()
    assert "ERROR unexpected failure" in text
    assert text.rstrip().endswith("ZeroDivisionError: division by zero")


def test_ctrl_c_is_no_defect(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught, job(str(tmp_path / "job.log")):
        raise KeyboardInterrupt
    assert caught.value.code == 130
    assert (tmp_path / "job.log").read_text().endswith("WARNING interrupted\n")
