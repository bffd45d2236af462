"""`ncpipe compare`: every kind of difference has its line, and rounding has none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ncpipe.command.main import main
from ncpipe.errors import InputError
from ncpipe.results.compare import compare_results
from ncpipe.stores.files import digest_file, read_json, write_json, write_manifest, write_result

RUN = "train/digits/balanced/mlp/seed-0"


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two equal results."""
    a, b = tmp_path / "a", tmp_path / "b"
    identity = {"settings": {"recipe": {"lr": 0.1}, "epochs": 3}, "data": "0" * 64}
    environment = {"torch": "2.6", "threads": 1}
    write_manifest(a / RUN / "manifest.json", {"identity": identity, "environment": environment, "store_digest": "1"})
    write_json(a / "theory/digits/balanced/pal.json", {"optimum": {"objective": 0.5, "weight": [1.0, 2.0]}})
    (a / "collapse").mkdir()
    (a / "collapse/metrics.csv").write_text("metric,epoch,value\nnc1,0,2.0\nnc1,3,0.25\nnc3,3,\n")
    shutil.copytree(a, b)
    return a, b


def change_manifest(folder: Path, **changes: object) -> None:
    path = folder / RUN / "manifest.json"
    content = read_json(path)
    content.pop("manifest_hash")
    write_manifest(path, {**content, **changes})


def test_the_same_is_the_same(pair: tuple[Path, Path], capsys: pytest.CaptureFixture) -> None:
    assert list(compare_results(*pair)) == []
    assert main(["compare", *map(str, pair)]) == 0
    assert capsys.readouterr().out == "0 differences\n"


def test_digests_beside_results_are_no_difference(pair: tuple[Path, Path]) -> None:
    """One of two results may be of a version that wrote none, and rounding gives other digests."""
    path = pair[0] / "theory/digits/balanced/pal.json"
    write_result(path, {"optimum": {"objective": 0.5 + 1e-12, "weight": [1.0, 2.0]}})
    assert digest_file(path).exists()
    assert list(compare_results(*pair)) == []


def test_settings_and_versions_are_named_by_key(pair: tuple[Path, Path]) -> None:
    identity = {"settings": {"recipe": {"lr": 0.2}, "epochs": 3}, "data": "0" * 64}
    environment = {"torch": "2.7", "threads": 1}
    change_manifest(pair[1], identity=identity, environment=environment, store_digest="2")
    assert list(compare_results(*pair)) == [
        f"{RUN}/manifest.json: environment.torch: was '2.6', now '2.7'",
        f"{RUN}/manifest.json: identity.settings.recipe.lr: was 0.1, now 0.2",
        f"{RUN}/manifest.json: other values in its store",
    ]


def test_other_bytes_from_the_same_settings_are_said_to_be_that(pair: tuple[Path, Path]) -> None:
    change_manifest(pair[1], environment={"torch": "2.6", "threads": 2}, store_digest="2")
    assert list(compare_results(*pair))[-1].endswith(
        "other values in its store, although settings and data are the same"
    )


def test_numbers_differ_beyond_rounding_only(pair: tuple[Path, Path], capsys: pytest.CaptureFixture) -> None:
    theory, table = pair[1] / "theory/digits/balanced/pal.json", pair[1] / "collapse/metrics.csv"
    write_json(theory, {"optimum": {"objective": 0.5 + 1e-9, "weight": [1.0, 2.0 - 1e-9]}})
    table.write_text("metric,epoch,value\nnc1,0,2.0000000001\nnc1,3,0.25\nnc3,3,\n")
    assert list(compare_results(*pair)) == []
    assert len(list(compare_results(*pair, tolerance=1e-12))) == 3
    write_json(theory, {"optimum": {"objective": 0.5, "weight": [1.0, 2.1]}})
    table.write_text("metric,epoch,value\nnc1,0,2.1\nnc1,3,0.75\nnc3,3,1.0\n")
    assert list(compare_results(*pair)) == [
        "theory/digits/balanced/pal.json: optimum.weight[1]: was 2.0, now 2.1",
        "collapse/metrics.csv: value: 3 of 3 differ, most in row 3: was , now 1.0",
    ]
    assert main(["compare", *map(str, pair)]) == 1


def test_what_is_only_in_one_of_them(pair: tuple[Path, Path]) -> None:
    a, b = pair
    shutil.copytree(a / RUN, a / "train/digits/balanced/mlp/seed-1")
    shutil.rmtree(b / "collapse")
    assert list(compare_results(a, b)) == [
        f"train/digits/balanced/mlp/seed-1/manifest.json: only in {a}",
        f"collapse/metrics.csv: only in {a}",
    ]


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n1,2,3\n", b"\xff\xfe\x00,"], ids=["empty", "ragged", "no text"])
def test_a_damaged_table_is_named(pair: tuple[Path, Path], content: bytes, capsys: pytest.CaptureFixture) -> None:
    table = pair[1] / "collapse/metrics.csv"
    table.write_bytes(content)
    assert main(["compare", *map(str, pair)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"ncpipe compare: {table}: damaged, not a table (")
    assert error.count("\n") == 1


@pytest.mark.parametrize("tolerance", ["nan", "-1"])
def test_what_is_no_tolerance(pair: tuple[Path, Path], tolerance: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["compare", *map(str, pair), "--tolerance", tolerance])
    assert "allowed: a number >= 0" in capsys.readouterr().err


def test_what_is_no_results_folder(pair: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no manifest and no theory file"):
        list(compare_results(pair[0], tmp_path / "empty"))
