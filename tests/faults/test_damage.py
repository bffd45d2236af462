"""Damage on the disk: each is found and named, and what is made again is the damaged run and what depends on it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pipeline import Project

from ncpipe.command.main import main
from ncpipe.results.verify import verify_results

MLP, THIN, SLOW = "mlab_digits/balanced/mlp/seed-0", "mlab_digits/thin/mlp/seed-0", "mlab_digits/balanced/slow/seed-0"


def flip(path: Path) -> None:
    """Flip one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def truncate(path: Path) -> None:
    """Cut off the second half of a file."""
    os.truncate(path, path.stat().st_size // 2)


PLACES = {
    "images": "data/mlab_digits/images.zarr/images_train/c/0/0/0/0",
    "chunk": f"train/{MLP}/features.zarr/features_train/c/1/0/0",
    "static array": f"train/{MLP}/features.zarr/label_set_train/c/0",
    "digest": f"train/{MLP}/features.zarr/digest/c/0/0/0",
    "finished epochs": f"train/{MLP}/features.zarr/finished/c/0",
    "array metadata": f"train/{MLP}/features.zarr/features_train/zarr.json",
    "store metadata": f"train/{MLP}/features.zarr/zarr.json",
    "manifest": f"train/{MLP}/manifest.json",
    "state": f"train/{MLP}/state/state.npz",
    "history": f"train/{MLP}/history.csv",
    "metrics": f"collapse/{MLP}/metrics.zarr/objective/c/0",
    "manifest of metrics": f"collapse/{MLP}/manifest.json",
}


@pytest.mark.parametrize("damage", [flip, truncate, Path.unlink])
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_damage_anywhere_is_found_and_named(whole: Project, place: str, damage: Callable[[Path], None]) -> None:
    damaged = whole.results / place
    folder = next(p for p in damaged.parents if p.name in ("mlab_digits", "seed-0"))
    content, times = damaged.read_bytes(), damaged.stat()
    damage(damaged)
    try:
        faults = [line for _, lines in verify_results(folder) for line in lines]
    finally:
        damaged.write_bytes(content)
        os.utime(damaged, ns=(times.st_atime_ns, times.st_mtime_ns))
    if damage is Path.unlink and damaged.name in ("manifest.json", "state.npz"):
        assert faults == []  # an unfinished run, or one whose state was dropped: not damaged
    else:
        assert faults
        assert all(line.startswith(str(folder)) for line in faults), faults


def test_what_is_damaged_is_made_again_and_nothing_else(copy: Project, capsys: pytest.CaptureFixture) -> None:
    """Three runs damaged in three ways, and the metrics of one: `verify --remove-damaged`, then the same command."""
    before = copy.files()
    flip(copy.results / f"train/{MLP}/features.zarr/features_train/c/1/0/0")
    truncate(copy.results / f"train/{THIN}/state/state.npz")
    flip(copy.results / f"collapse/{SLOW}/metrics.zarr/objective/c/0")
    assert copy.snakemake("collapse").jobs == {}  # Snakemake itself sees nothing of this
    assert main(["verify", str(copy.results)]) == 1
    assert copy.manifest(MLP).exists()
    assert main(["verify", str(copy.results), "--remove-damaged"]) == 1
    said = capsys.readouterr().out
    for manifest in (copy.manifest(MLP), copy.manifest(THIN), copy.results / f"collapse/{SLOW}/manifest.json"):
        assert f"removed {manifest}; snakemake makes it again" in said
    outcome = copy.snakemake("train", "collapse")
    assert outcome.code == 0, outcome.text
    assert outcome.trained == {MLP, THIN}
    after = copy.files()
    for stage in ("data", "train", "theory", "collapse"):
        for name in (n for n in before if n.startswith(f"{stage}/") and not n.endswith("state.npz")):
            assert after[name][1] == before[name][1], name
    assert {n: v for n, v in after.items() if SLOW in n and n.startswith("train/")} == {
        n: v for n, v in before.items() if SLOW in n and n.startswith("train/")
    }
    assert main(["verify", str(copy.results)]) == 0


def test_a_damaged_theory_file_and_table_are_made_again_and_what_depends_on_them(
    copy: Project, capsys: pytest.CaptureFixture
) -> None:
    before = copy.files()
    theory, table = copy.results / "theory/mlab_digits/thin/pal.json", copy.results / "collapse/synthesis.csv"
    for path in (theory, table):
        flip(path)
    assert main(["verify", str(copy.results), "--remove-damaged"]) == 1
    said = capsys.readouterr().out
    for path in (theory, table):
        assert f"FAULT {path}: damaged (it does not match {path.name}.sha256 beside it)" in said
        assert f"removed {path}; snakemake makes it again" in said
    outcome = copy.snakemake("collapse")
    assert outcome.code == 0, outcome.text
    assert outcome.jobs == {"theory_optimum": 1, "collapse_run": 1, "collapse_tables": 1, "collapse": 1}
    after = copy.files()
    results = [name for name in before if name.startswith(("theory/", "collapse/", "train/", "data/"))]
    assert {name: after[name][1] for name in results} == {name: before[name][1] for name in results}
    assert main(["verify", str(copy.results)]) == 0


def test_nothing_is_made_from_a_damaged_theory_file(copy: Project) -> None:
    path = copy.results / "theory/mlab_digits/thin/pal.json"
    path.write_text(path.read_text().replace('"certified": true', '"certified": false'))  # JSON all the same
    (copy.results / f"collapse/{THIN}/manifest.json").unlink()
    refused = copy.snakemake("collapse")
    assert refused.code == 1
    assert f"{path.relative_to(copy.folder / 'work')}: damaged (it does not match pal.json.sha256" in refused.text


def test_a_damaged_data_set_stops_training_and_is_made_again_alike(copy: Project) -> None:
    before = copy.files()
    flip(copy.results / PLACES["images"])
    copy.overlay["networks"]["slow"]["features"] = 5  # a run that must read it
    refused = copy.snakemake("train")
    assert refused.code == 1
    (line,) = {line for line in refused.stderr.splitlines() if line.startswith("ncpipe: ")}
    assert "images.zarr: array 'images_train'" in line
    assert main(["verify", str(copy.results / "data"), "--remove-damaged"]) == 1
    outcome = copy.snakemake("train")
    assert outcome.code == 0, outcome.text
    after = copy.files()
    assert {n: v[1] for n, v in after.items() if n.startswith("data/")} == {
        n: v[1] for n, v in before.items() if n.startswith("data/")
    }
    for run in (MLP, THIN):  # asked again, since the data set was made again, and found to be finished
        assert "already finished: all stored digests verified" in copy.log(run)
        assert all(after[n][1] == before[n][1] for n in before if n.startswith(f"train/{run}"))


@pytest.mark.parametrize("years", [-20, 20])
def test_file_times_do_not_matter(copy: Project, years: int) -> None:
    """A clock that was wrong: half of the files, chosen by a seeded draw, are of another time."""
    before = {name: content for name, (_, content) in copy.files().items()}
    rng, elsewhen = np.random.default_rng(7), time.time() + years * 365.25 * 86400
    for path in sorted(copy.results.rglob("*")):
        if path.is_file() and rng.random() < 0.5:
            os.utime(path, (elsewhen, elsewhen))
    outcome = copy.snakemake("collapse")
    assert outcome.code == 0, outcome.text
    assert all("already finished" in copy.log(run) for run in outcome.trained)
    after = {name: content for name, (_, content) in copy.files().items()}
    kept = [name for name in before if not name.startswith(("logs/", "benchmarks/"))]
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert copy.snakemake("collapse", "--dry-run").jobs == {}
