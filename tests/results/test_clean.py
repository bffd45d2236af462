"""`ncpipe clean`: what goes, what stays, and that nothing goes unasked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ncpipe.command.main import main
from ncpipe.errors import InputError
from ncpipe.results.clean import find_leftovers
from ncpipe.stores.files import write_json, write_result
from ncpipe.stores.locks import exclusive

CONFIG = {
    "results": "results",
    "runs": [{"datasets": ["digits"], "settings": ["balanced"], "networks": ["mlp"], "seeds": [0]}],
}
RUN, OTHER = "digits/balanced/mlp/seed-0", "digits/balanced/mlp/seed-1"


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run with leftovers, and a run that is not finished."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "results"
    for name in (f"data/{name}" for name in ("digits", "old")):
        write_json(root / name / "manifest.json", {})
    write_json(root / "theory/digits/balanced/pal.json", {})
    write_json(root / "theory/digits/gone/pal.json", {})
    for run in (RUN, OTHER):
        for file in ("features.zarr/zarr.json", "state/state.npz", "superseded/features.zarr/zarr.json"):
            path = root / "train" / run / file
            path.parent.mkdir(parents=True)
            path.write_bytes(b"x" * 1000)
    write_json(root / "train" / RUN / "manifest.json", {})
    (root / "train" / RUN / "state/.state.npz.4711.partial").write_bytes(b"half")
    (root / "data/digits/images.zarr.partial").mkdir()
    return root


def names(results: Path, **options: object) -> set[str]:
    return {str(found.path.relative_to(results)) for found in find_leftovers(results, **options)}


INTERRUPTED = {
    f"train/{RUN}/superseded",
    f"train/{RUN}/state/.state.npz.4711.partial",
    "data/digits/images.zarr.partial",
}


def test_only_what_was_interrupted_goes_where_nothing_else_is_said(results: Path) -> None:
    """What an unfinished run has set aside is all that there is of the old one: it stays."""
    assert names(results) == INTERRUPTED


def test_what_a_configuration_does_not_select_goes_too(results: Path) -> None:
    assert names(results, config=CONFIG) == INTERRUPTED | {"data/old", "theory/digits/gone", f"train/{OTHER}"}


def test_a_digest_goes_where_its_file_has_gone(results: Path) -> None:
    for name in ("figures/here.svg", "figures/gone.svg"):
        write_result(results / name, "<svg/>")
    (results / "figures/gone.svg").unlink()
    assert names(results) == INTERRUPTED | {"figures/gone.svg.sha256"}


def test_unfinished_runs_go_when_asked_for(results: Path) -> None:
    assert names(results, unfinished=True) == INTERRUPTED | {f"train/{OTHER}"}


def test_what_is_being_written_stays(results: Path) -> None:
    """The lock of another process is what counts; here it is held by a child."""
    import multiprocessing

    context = multiprocessing.get_context("fork")
    held, done = context.Event(), context.Event()

    def hold() -> None:
        with exclusive(results / "train" / RUN):
            held.set()
            done.wait(20)

    writer = context.Process(target=hold)
    writer.start()
    try:
        assert held.wait(20)
        assert names(results) == {"data/digits/images.zarr.partial"}
    finally:
        done.set()
        writer.join()
    assert names(results) == INTERRUPTED


def test_listing_writes_nothing(results: Path) -> None:
    """Not even into the lock, whose record is its writer's."""
    lock = results / "train" / RUN / "writer.lock"
    lock.write_text("host elsewhere, process 1\n")
    before = {path: path.stat() for path in results.rglob("*")}
    names(results, config=CONFIG, unfinished=True)
    assert {path: path.stat() for path in results.rglob("*") if path.is_file()} == {
        path: status for path, status in before.items() if path.is_file()
    }


def test_nothing_goes_unasked_and_then_only_what_was_listed(results: Path, capsys: pytest.CaptureFixture) -> None:
    before = sorted(results.rglob("*"))
    assert main(["clean", "results"]) == 0
    assert sorted(results.rglob("*")) == before
    assert "3 found, 0.0 MB; remove them with --yes" in capsys.readouterr().out
    assert main(["clean", "results", "--yes"]) == 0
    gone = {str(p.relative_to(results)) for p in set(before) - set(results.rglob("*"))}
    assert gone >= INTERRUPTED
    assert all(any(name == i or name.startswith(f"{i}/") for i in INTERRUPTED) for name in gone)
    assert main(["clean", "results"]) == 0
    assert capsys.readouterr().out.endswith("0 found, 0.0 MB\n")


def test_what_lies_behind_a_link_goes_and_the_link_stays(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The train stage on another disk; a folder in it that links back to the results is not walked twice."""
    shutil.move(results / "train", tmp_path / "scratch")
    (results / "train").symlink_to(tmp_path / "scratch")
    (results / "train/digits/back").symlink_to(results)
    assert names(results) == INTERRUPTED
    assert main(["clean", "results", "--yes"]) == 0
    said = capsys.readouterr().out
    assert f"train: leads to {tmp_path / 'scratch'}, outside of results; followed" in said
    assert f"back: leads back to {results}, which holds it; not followed" in said
    assert not (tmp_path / "scratch" / RUN / "superseded").exists()
    assert (tmp_path / "scratch" / RUN / "manifest.json").is_file()
    assert (results / "train").is_symlink()


def test_another_configurations_results_are_refused(results: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the configuration writes to elsewhere"):
        find_leftovers(results, {**CONFIG, "results": "elsewhere"})
    with pytest.raises(InputError, match="is it a results folder"):
        find_leftovers(tmp_path)
