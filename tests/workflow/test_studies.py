"""Studies of label distributions in the workflow: selected, computed alone, and missed by nothing where left out."""

from __future__ import annotations

import copy

import pytest
from pipeline import Project

TINY = {
    "labels": {"classes": 4, "counts": [31, 4]},
    "phase": None,
    "critical": None,
    "ratios": None,
    "spectrum": {"members": 4, "graphs": 1, "critical_members": 4},
    "tagwise": {"ratios": [1.0], "shares": [0.0, 1.0]},
    "synthetic": None,
}


@pytest.fixture
def computed(fresh: Project) -> Project:
    """A project with two small studies computed."""
    fresh.overlay["studies"] = copy.deepcopy(TINY)
    outcome = fresh.snakemake("studies")
    assert outcome.code == 0, outcome.text
    assert outcome.jobs == {"studies": 1, "theory_study": 2}
    return fresh


def test_selected_studies_are_made_from_labels_alone_and_a_change_touches_its_own_table(computed: Project) -> None:
    made = {name for name in computed.files() if not name.startswith(("logs/", "benchmarks/"))}
    assert made == {f"theory/studies/{name}.csv{end}" for name in ("spectrum", "tagwise") for end in ("", ".sha256")}
    assert "3 rows, 3 of them certified" in (computed.results / "logs/theory/studies/tagwise.log").read_text()
    assert computed.snakemake("studies", "--dry-run").jobs == {}
    computed.overlay["studies"]["tagwise"]["shares"] = [0.0, 0.5, 1.0]
    outcome = computed.snakemake("studies", "--dry-run")
    assert outcome.jobs == {"studies": 1, "theory_study": 1}
    assert "theory/studies/tagwise.csv" in outcome.text


@pytest.mark.parametrize(
    ("studies", "expected"),
    [(TINY, {"theory_study": 2, "figures_study_spectrum": 1, "figures_study_tagwise": 1}), (None, {})],
    ids=["two", "none"],
)
def test_report_and_figures_are_planned_with_the_studies_that_there_are(fresh: Project, studies, expected) -> None:
    fresh.overlay["studies"] = studies
    outcome = fresh.snakemake("--dry-run")
    assert outcome.code == 0, outcome.text
    assert {rule: count for rule, count in outcome.jobs.items() if "study" in rule} == expected
    assert outcome.jobs["report_page"] == outcome.jobs["report_claims"] == 1


def test_a_study_follows_the_modules_that_it_is_made_of_and_no_others(computed: Project) -> None:
    """What draws every study's families counts; a word of a printed table, a network and a figure do not."""
    for module, jobs in (
        ("command/labels.py", {}),
        ("command/terminal.py", {}),
        ("train/loop.py", {}),
        ("figures/style.py", {}),
        ("streams.py", {"studies": 1, "theory_study": 2}),
    ):
        path = computed.checkout / "src/ncpipe" / module
        path.write_text(f"{path.read_text(encoding='utf-8')}\n# changed\n", encoding="utf-8")
        assert computed.snakemake("studies", "--dry-run").jobs == jobs, module
