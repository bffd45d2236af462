"""``ncpipe collapse`` on a run's folder and on its name."""

from __future__ import annotations

import json
import logging

import pytest

from ncpipe.collapse.analyse import analyse_run
from ncpipe.command.main import main
from ncpipe.command.measure import _few

NAME = "toy/step/mlp/seed-0"


@pytest.fixture(scope="module")
def results(run_maker, theory_path, tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    run = run_maker.write(root / "train" / NAME, epochs=9)
    analyse_run(run, theory_path, root / "collapse" / NAME, logging.getLogger("test"))
    return root


def test_table_shows_a_few_epochs_reasons_and_names(results, capsys):
    assert main(["collapse", NAME, "--results", str(results)]) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert lines[0] == NAME
    assert lines[1].split()[2:] == ["epoch", "0", "epoch", "2", "epoch", "3", "epoch", "5", "epoch", "6", "epoch", "8"]
    assert any(line.startswith("nc3 li2024") for line in lines)
    assert any(line.startswith("weakest contrast classifier: ") for line in lines)
    assert "(split test, multiplicity 3): no label set of multiplicity 3" in text
    assert "nan" not in text


def test_a_folder_works_like_a_name(results, capsys):
    assert main(["collapse", str(results / "collapse" / NAME)]) == 0
    assert capsys.readouterr().out.startswith(NAME)


def test_json_holds_every_epoch_and_is_valid(results, capsys):
    assert main(["collapse", NAME, "--results", str(results), "--json"]) == 0
    payload = json.loads(capsys.readouterr().out)
    assert {row["epoch"] for row in payload["metrics"]} == set(range(9))
    assert any(row["value"] is None for row in payload["metrics"])


def test_an_unknown_run_is_said_in_one_line(results, capsys):
    assert main(["collapse", "toy/step/cnn/seed-7", "--results", str(results)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_few_epochs_are_first_last_and_between():
    assert _few([0, 1]) == [0, 1]
    chosen = _few(list(range(100)))
    assert chosen[0] == 0
    assert chosen[-1] == 99
    assert len(chosen) == 6
