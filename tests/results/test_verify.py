"""`ncpipe verify`: links are followed, and what tables or the configuration name is missed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from configurations import CASES, make_results

from ncpipe.command.main import main
from ncpipe.results.layout import Layout
from ncpipe.results.verify import verify_results

RUN = "d/given/mlp/seed-0"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "results"
    make_results(root, CASES["two classes"])
    # The images of this data set are nobody's concern here.
    manifest = Path(Layout(root).manifest("data", "d"))
    shutil.copytree(root / "train" / RUN, manifest.parent)
    return root


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    """Results whose train stage lies on another disk."""
    root = shutil.copytree(made, tmp_path / "results")
    shutil.move(root / "train", tmp_path / "scratch")
    (root / "train").symlink_to(tmp_path / "scratch")
    return root


def faults(results: Path, **options: object) -> list[str]:
    return [problem for _, problems in verify_results(results, **options) for problem in problems]


def test_a_linked_stage_is_checked_and_said(results: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["verify", str(results)]) == 0
    said = capsys.readouterr().out
    assert f"link  {results / 'train'}: leads to " in said
    assert f"ok    {results / 'train' / RUN / 'features.zarr'}\n" in said


def test_a_chunk_damaged_behind_a_link_is_found(results: Path) -> None:
    chunk = results / "train" / RUN / "features.zarr/features_train/c/1/0/0"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 4
    chunk.write_bytes(content)
    assert [text for text in faults(results) if "features_train" in text]
    assert main(["verify", str(results)]) == 1


def test_a_link_to_nothing_and_a_run_that_is_gone_are_faults(results: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "scratch")
    missing = results / "train" / RUN / "manifest.json"
    assert faults(results) == [
        f"{results / 'train'}: a link to nothing",
        f"{missing}: missing, {results / 'collapse/metrics.csv'} lists the run",
    ]


def test_a_loop_ends_and_is_said(results: Path, capsys: pytest.CaptureFixture) -> None:
    (results / "figures").mkdir()
    (results / "figures/back").symlink_to(results)
    (results / "figures/itself").symlink_to(results / "figures/itself")
    assert faults(results) == [f"{results / 'figures/itself'}: a link to nothing"]
    main(["verify", str(results)])
    assert f"link  {results / 'figures/back'}: leads back to {results}" in capsys.readouterr().out


def test_theory_that_a_table_lists_is_missed(results: Path) -> None:
    path = Path(Layout(results).theory("d", "given", "raw"))
    path.unlink()
    path.with_name(path.name + ".sha256").unlink()
    assert faults(results) == [f"{path}: missing, {results / 'collapse/optimum.csv'} lists its optimum"]


def test_what_the_configuration_plans_is_missed(results: Path) -> None:
    config = {
        "runs": [{"datasets": ["d"], "settings": ["given"], "networks": ["mlp"], "seeds": [0, 1]}],
        "networks": {"mlp": {"objective": "raw"}},
    }
    run = "d/given/mlp/seed-1"
    assert faults(results, config=config) == [
        f"{results / stage / run / 'manifest.json'}: missing, the configuration plans it"
        for stage in ("collapse", "train")
    ]
