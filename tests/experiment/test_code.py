"""What a rule depends on: read from imports, in both directions: what counts is there, and what does not is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from ncpipe.experiment.code import reachable_modules

REPOSITORY = Path(__file__).parents[2]


def modules_of(script: str) -> set[str]:
    return set(reachable_modules(REPOSITORY / "workflow/scripts" / script, REPOSITORY / "src"))


@pytest.mark.parametrize(
    ("script", "module"),
    [
        ("theory_study.py", "streams.py"),
        ("theory_study.py", "geometry/moments.py"),
        ("theory_study.py", "optimum/optimum.py"),
        ("theory_optimum.py", "labels/spectrum.py"),
        ("collapse_run.py", "geometry/moments.py"),
        ("collapse_run.py", "stores/zarr.py"),
        ("figures_draw.py", "figures/style.py"),
        ("data_images.py", "streams.py"),
        ("report_page.py", "report/page.py"),
    ],
)
def test_a_script_depends_on_what_it_reaches(script: str, module: str) -> None:
    assert f"ncpipe/{module}" in modules_of(script)


@pytest.mark.parametrize("script", sorted(path.name for path in (REPOSITORY / "workflow/scripts").glob("*.py")))
def test_no_script_depends_on_the_command_line_or_on_another_stage(script: str) -> None:
    stage, reached = script.split("_", maxsplit=1)[0], {path.split("/")[1] for path in modules_of(script)}
    stages = {"data", "train", "theory", "collapse", "figures", "report"}
    assert reached & stages == {stage}
    assert "command" not in reached


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A package of four modules, of which nobody imports anything yet."""
    for name in ("__init__", "a", "b", "c", "inner/__init__", "inner/d"):
        path = tmp_path / f"ncpipe/{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text("", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import ncpipe.a", {"a"}),
        ("import ncpipe.a as other", {"a"}),
        ("from ncpipe import a, b as other", {"a", "b"}),
        ("from ncpipe import (\n    a,\n    b,\n)", {"a", "b"}),
        ("from ncpipe.inner import d", {"inner/__init__", "inner/d"}),
        ("from ncpipe.inner.d import function", {"inner/__init__", "inner/d"}),
        ("def f():\n    from ncpipe.c import g", {"c"}),
        ("if TYPE_CHECKING:\n    from ncpipe.a import A\n\nfrom ncpipe import b", {"b"}),
        ("# import ncpipe.a", set()),
        ("x = 'import ncpipe.a'", set()),
        ("from ncpipe.absent import nothing", set()),
        ("import numpy", set()),
    ],
)
def test_every_form_of_import(source: Path, text: str, expected: set[str]) -> None:
    script = source / "script.py"
    script.write_text(f"{text}\n", encoding="utf-8")
    reached = {path.removeprefix("ncpipe/").removesuffix(".py") for path in reachable_modules(script, source)}
    assert reached - {"__init__"} == expected


def test_circles_end_and_each_file_is_read_once(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source / "ncpipe/a.py").write_text("from ncpipe import b\n", encoding="utf-8")
    (source / "ncpipe/b.py").write_text("from ncpipe import a, c\n", encoding="utf-8")
    script = source / "script.py"
    script.write_text("import ncpipe.a\nimport ncpipe.b\n", encoding="utf-8")
    read, text_of = [], Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, **options: read.append(path.name) or text_of(path, **options))
    reachable_modules(script, source)
    assert sorted(read) == ["__init__.py", "a.py", "b.py", "c.py", "script.py"]
