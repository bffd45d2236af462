"""From the tables to the page: where each stage stops, and what a changed module makes again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pipeline import Outcome, Project, make_project

from ncpipe.command.main import main

FIGURES = {
    "figures_dynamics": 4, "figures_final": 4, "figures_gap": 2, "figures_spectrum": 1, "figures_synthesis": 2,
    "figures_exponents": 2, "figures_bookkeeping": 1, "figures_readings": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, dict[str, tuple[Outcome, set[str]]]]:
    """A project run up to `collapse`, then `figures`, then `report`; and the results that each added."""
    project = make_project(tmp_path_factory.mktemp("reported") / "my project")
    project.overlay["studies"] = None
    stages, before = {}, set()
    for stage in ("collapse", "figures", "report"):
        outcome = project.snakemake(stage, timeout=300)
        assert outcome.code == 0, outcome.text
        after = set(project.files())
        stages[stage] = outcome, after - before
        before = after
    return project, stages


@pytest.fixture
def change(reported) -> Iterator[Callable[[str], None]]:
    """Append a comment to a file of the checkout; everything is as before when the test ends."""
    project, saved = reported[0], {}

    def append(name: str) -> None:
        path = project.checkout / name
        saved[path] = path.read_bytes(), path.stat()
        comment = "{# changed #}" if path.suffix == ".j2" else "# changed"
        path.write_text(f"{path.read_text()}\n{comment}\n")

    yield append
    for path, (content, status) in saved.items():
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_figures_stop_at_the_figures(reported) -> None:
    outcome, added = reported[1]["figures"]
    assert outcome.jobs == {**FIGURES, "figures": 1}
    assert {name.split("/")[0] for name in added} == {"figures", "logs"}
    for name in [n for n in added if n.endswith(".svg")]:
        assert {str(Path(name).with_suffix(s)) for s in (".png", ".csv")} <= added


def test_report_goes_on_from_there_and_stops_at_the_page(reported) -> None:
    outcome, added = reported[1]["report"]
    assert set(outcome.jobs) == {"report_claims", "report_rebalancing", "report_page", "report"}
    assert {name.split("/")[0] for name in added} == {"report", "logs"}
    assert {"report/index.html", "report/claims.json", "report/claims.csv"} <= added


def test_theory_needs_no_training(fresh: Project) -> None:
    assert fresh.snakemake("theory", "--dry-run").jobs == {"theory": 1, "theory_optimum": 2}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("src/ncpipe/figures/ncpipe.mplstyle", {**FIGURES, "report_page": 1}),
        ("src/ncpipe/figures/spectrum.py", {**FIGURES, "report_page": 1}),
        ("src/ncpipe/report/templates/page.html.j2", {"report_page": 1}),
        ("src/ncpipe/report/claims/claim_5.py", {"report_claims": 1, "report_page": 1}),
    ],
)
def test_a_changed_style_or_text_redraws_and_computes_nothing(reported, change, name: str, expected: dict) -> None:
    change(name)
    jobs = reported[0].snakemake("report", "--dry-run").jobs
    assert {rule: n for rule, n in jobs.items() if rule != "report"} == expected


@pytest.mark.parametrize("module", ["metrics", "moments"])
def test_a_changed_metric_measures_again_and_trains_nothing(reported, change, module: str) -> None:
    change(f"src/ncpipe/geometry/{module}.py")
    outcome = reported[0].snakemake("collapse", "--dry-run")
    assert outcome.jobs == {"collapse_run": 3, "collapse_tables": 1, "collapse": 1}
    assert outcome.trained == set()


def test_snakemakes_own_report_has_the_captions(reported, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    outcome = reported[0].snakemake("report", "--report", str(page))
    assert outcome.code == 0, outcome.text
    assert "Label covariance spectrum" in page.read_text()


def test_a_damaged_figure_table_or_page_is_named_and_made_again_with_what_shows_it(reported, capsys) -> None:
    project = reported[0]
    before = {name: content for name, (_, content) in project.files().items()}
    damaged = [
        "figures/spectrum.png", "figures/bookkeeping.csv", "report/claims.csv", "report/rebalancing.csv",
        "report/index.html",
    ]  # fmt: skip
    for name in damaged:
        content = bytearray((project.results / name).read_bytes())
        content[len(content) // 2] ^= 4
        (project.results / name).write_bytes(content)
    assert main(["verify", str(project.results), "--remove-damaged"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split(": ")[0] for line in lines if line.startswith("FAULT ")) == sorted(
        f"FAULT {project.results / name}" for name in damaged
    )
    outcome = project.snakemake("figures", "report", timeout=300)
    assert outcome.code == 0, outcome.text
    assert outcome.jobs == {
        "figures_spectrum": 1, "figures_bookkeeping": 1, "figures": 1, "report_claims": 1, "report_rebalancing": 1,
        "report_page": 1, "report": 1,
    }  # fmt: skip
    after = {name: content for name, (_, content) in project.files().items()}
    kept = [name for name in before if not name.startswith(("logs/", "benchmarks/"))]
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert main(["verify", str(project.results)]) == 0
