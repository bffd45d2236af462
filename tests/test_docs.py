"""The documentation holds: its Python runs, its commands work, its links lead somewhere, its equations are defined."""

from __future__ import annotations

import importlib
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ncpipe.command.main import main
from ncpipe.stores.files import check_result
from ncpipe.stores.zarr import Array, EpochArray, EpochWriter

ROOT = Path(__file__).parents[1]
THEORY = ROOT / "docs" / "theory"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """Fenced blocks of a language with the line that each starts at."""
    text = page.read_text()
    fences = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, fence.start(1)), fence[1]) for fence in fences]


def write_run(path: Path) -> None:
    """Stand in for the run that a page opens: one epoch, three samples."""
    writer = EpochWriter.create(
        path,
        epochs=[0],
        arrays={"features_train": EpochArray(("train_sample", "feature"), (3, 2), "float32", "features")},
        static={"label_set_train": Array(("train_sample",), np.zeros(3, np.int32), "label set of each sample")},
        attributes={},
    )
    writer.write(0, {"features_train": np.ones((3, 2), np.float32)})


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=name)
def test_python_on_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in re.findall(r'Store\("(.*?/features\.zarr)"\)', page.read_text()):
        write_run(Path(path))
    scope: dict[str, object] = {"__name__": "page"}
    for line, code in blocks(page, "python"):
        exec(compile("\n" * line + code, str(page), "exec"), scope)


def test_commands_on_the_command_line_page_work(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    commands = [
        line.removeprefix("$ ncpipe ")
        for _, block in blocks(THEORY / "command-line.md", "console")
        for line in block.splitlines()
    ]
    assert {command.split()[0] for command in commands} == {"design", "spectrum", "optimum", "rebalance"}
    for command in commands:
        assert main(shlex.split(command)) == 0, command
    assert capsys.readouterr().err == ""


def test_the_command_line_page_names_every_key_of_the_json(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (THEORY / "command-line.md").read_text()
    main(["design", "labels.json", "--classes", "4", "--alone", "9"])
    penalties = ["--lambda-w", "0.01", "--lambda-h", "0.1"]
    for arguments in (["spectrum"], ["optimum", *penalties], ["rebalance"]):
        capsys.readouterr()
        main([arguments[0], "labels.json", *arguments[1:], "--json"])
        section = text.split(f"## `ncpipe {arguments[0]} FILE")[1].split("\n## ")[0]
        for key in _keys(json.loads(capsys.readouterr().out)):
            assert re.search(rf"\b{key}\b", section), (arguments[0], key)


def _keys(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {key for item in value.values() for key in _keys(item)}
    if isinstance(value, list):
        return {key for item in value for key in _keys(item)}
    return set()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{name(page)} links to {target}"


# --- equation numbers ---------------------------------------------------------------------------------------------

ROW = re.compile(r"^\| (\(.*?\)) \| .*? \| \[.*?\]\((.*?)\) \| (.*?) \|$", re.MULTILINE)


def equation_table() -> dict[str, tuple[str, str]]:
    """Number of each equation, the page that defines it, and what computes it."""
    table = {}
    for numbers, page, computed in ROW.findall((THEORY / "README.md").read_text()):
        ends = re.findall(r"\((\d+[a-z]?)\)", numbers)
        span = [str(n) for n in range(int(ends[0]), int(ends[1]) + 1)] if "–" in numbers else ends
        table |= dict.fromkeys(span, (page, computed))
    return table


def test_every_equation_is_defined_on_the_page_that_the_table_says():
    table = equation_table()
    assert set(table) == {*map(str, range(1, 31)), "32", "9a", "9b", "11a", "11b", "12a"}
    for number, (page, _) in table.items():
        definitions = "".join(text for _, text in blocks(THEORY / page, "text"))
        assert re.search(rf"^\({number}\)", definitions, re.MULTILINE), f"{page} does not define ({number})"


def test_what_the_table_says_computes_an_equation_is_there_and_cites_it():
    for number, (_, computed) in equation_table().items():
        for dotted in re.findall(r"`(ncpipe[\w.]*)`", computed):
            module, _, attribute = dotted.rpartition(".")
            try:
                found = importlib.import_module(dotted)
            except ModuleNotFoundError:
                found = getattr(importlib.import_module(module), attribute)
            document = found.__doc__
            assert re.search(rf"\({number}\)|\(1\)-\(6\)", document), f"{dotted} does not cite ({number})"


def test_every_citation_in_the_source_has_a_page():
    cited = set()
    for path in (ROOT / "src").rglob("*.py"):
        for tail in re.findall(r"theory\.md ((?:\(\d+[a-z]?\)[-, and]*)+)", path.read_text()):
            cited |= set(re.findall(r"\((\d+[a-z]?)\)", tail))
    assert len(cited) > 15
    assert cited <= set(equation_table())


def test_every_page_of_the_theory_is_in_its_index():
    index = (THEORY / "README.md").read_text()
    for page in THEORY.glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index, page.name


# --- kept results -------------------------------------------------------------------------------------------------

RESULTS = {"mnist": "MNIST", "cifar10": "CIFAR-10"}


def result_rows(result: str) -> list[str]:
    """The rows of the page of results, from the table that the workflow wrote."""
    table = pd.read_csv(ROOT / "docs" / "results" / result / "collapse" / "metrics.csv")
    table = table[table.variant.fillna("definition") == "definition"]
    first, last = table[table.epoch == 0], table[table.epoch == table.epoch.max()]

    def values(part: pd.DataFrame, setting: str, metric: str, split: str = "train") -> np.ndarray:
        chosen = part[(part.setting == setting) & (part.metric == metric) & (part.split == split)]
        assert len(chosen) == 5
        return chosen.sort_values("seed").value.to_numpy()

    rows = []
    for setting in ("balanced", "step-0.2", "step-0.1"):
        test = values(last, setting, "error", "test").mean()
        train, gap, distance = (
            values(last, setting, metric).mean() for metric in ("error", "gap_reference", "total_variation")
        )
        falls = values(first, setting, "nc1") / values(last, setting, "nc1")
        rows.append(
            f"| {RESULTS[result]} | {setting} | {100 * train:.2f} % | {100 * test:.1f} % | "
            f"{falls.min():,.0f} to {falls.max():,.0f} times | {gap:.4f} | {distance:.4f} |"
        )
    return rows


@pytest.mark.parametrize("result", RESULTS)
def test_kept_results_are_what_the_workflow_wrote(result: str) -> None:
    folder = ROOT / "docs" / "results" / result
    digests = list(folder.rglob("*.sha256"))
    assert len(digests) > 40
    for digest in digests:
        check_result(digest.with_suffix(""))
    text = (ROOT / "docs" / "results" / "README.md").read_text()
    for row in result_rows(result):
        assert row in text
