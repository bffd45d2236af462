"""From a specification to a store: the same bytes always, and never a broken store that passes as finished."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from ncpipe.data.base import load_base
from ncpipe.data.compose import canonical_label_sets
from ncpipe.data.synthesise import synthesise
from ncpipe.errors import InputError, StoreError
from ncpipe.results.datasets import open_dataset
from ncpipe.stores import zarr as stores
from ncpipe.stores.files import hash_json, read_json
from ncpipe.stores.zarr import Store

TINY_STORE_DIGEST = "70f60cc7e669c713c8102ce92e2a2fa5c6b76551f66823adc1aac6afda7077c1"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_store_has_the_arrays_of_the_contract(tmp_path, tiny_spec, log):
    manifest = synthesise(tiny_spec, tmp_path, log)
    data = Store(tmp_path / "images.zarr").static()
    sizes = {"train": 10 * 5 + 45 * 3, "test": 10 * 2 + 45}
    assert manifest["samples"] == sizes
    for split, n in sizes.items():
        sample = f"{split}_sample"
        images, label_set, index = (data[f"{name}_{split}"] for name in ("images", "label_set", "base_index"))
        assert images.dims == (sample, "row", "column", "channel")
        assert images.shape == (n, 16, 16, 1)
        assert label_set.dims == (sample,)
        assert index.dims == (sample, "place")
        assert (images.dtype, label_set.dtype, index.dtype) == (np.uint8, np.int32, np.int32)
        assert np.all(np.diff(label_set.values) >= 0)
    label_sets = [tuple(np.flatnonzero(row).tolist()) for row in data["label_sets"].values]
    assert data["label_sets"].dims == ("label_set", "class")
    assert label_sets == canonical_label_sets(10, [1, 2])


def test_images_are_the_base_images_that_the_index_names(tmp_path, tiny_spec, log):
    synthesise(tiny_spec | {"style": "cifar"}, tmp_path, log)
    base = load_base("digits", None, 0)
    for split in ("train", "test"):
        data = open_dataset(tmp_path, split)
        images, labels, index = base.part(split)
        row_of = {position: row for row, position in enumerate(index.tolist())}
        for i in range(0, len(data.images), 7):
            used = [row_of[p] for p in data.base_index[i].tolist() if p >= 0]
            assert sorted(labels[used].tolist()) == np.flatnonzero(data.label_sets[data.label_set[i]]).tolist()
            ink = data.images[i].sum(dtype=int)
            assert ink <= images[used].sum(dtype=int)  # maximum, never a sum; nothing is cut off
            assert ink >= max(images[u].sum(dtype=int) for u in used)
    train, test = (open_dataset(tmp_path, split).base_index for split in ("train", "test"))
    assert not set(train[train >= 0].tolist()) & set(test[test >= 0].tolist())


def test_bytes_are_frozen(tmp_path, tiny_spec, log):
    assert synthesise(tiny_spec, tmp_path, log)["store_digest"] == TINY_STORE_DIGEST


def test_two_folders_and_a_second_call_give_the_same_bytes(tmp_path, tiny_spec, log, caplog):
    for name in ("a", "b c"):
        synthesise(tiny_spec, tmp_path / name, log)
    first = contents(tmp_path / "a")
    second = contents(tmp_path / "b c")
    del first["writer.lock"], second["writer.lock"]  # names its process
    assert first == second
    touched = (tmp_path / "a" / "images.zarr" / "zarr.json").stat().st_mtime_ns
    (tmp_path / "a" / "manifest.json").unlink()  # what Snakemake does to an output before its job
    with caplog.at_level(logging.INFO):
        synthesise(tiny_spec, tmp_path / "a", log)
    assert "kept" in caplog.text
    assert (tmp_path / "a" / "images.zarr" / "zarr.json").stat().st_mtime_ns == touched
    again = contents(tmp_path / "a")
    del again["writer.lock"]
    assert again == first


def test_manifest_says_what_made_it_and_no_path(tmp_path, tiny_spec, log):
    synthesise(tiny_spec, tmp_path, log)
    manifest = read_json(tmp_path / "manifest.json")
    assert manifest["store_digest"] == Store(tmp_path / "images.zarr").digest()
    assert manifest["spec_sha256"] == hash_json(manifest["spec"])
    assert manifest["spec"]["base_sha256"] == load_base("digits", None, 0).digest()
    assert set(manifest["spec"]) == (set(tiny_spec) - {"folder"}) | {"base_sha256"}
    assert set(manifest["versions"]) == {"ncpipe", "numpy"}
    assert str(tmp_path) not in json.dumps(manifest)


def test_folder_of_the_base_images_does_not_matter(tmp_path, tiny_spec, log, shared_data):
    spec = tiny_spec | {"base": "mnist", "folder": str(shared_data / "mnist"), "train_counts": [1], "test_counts": [1]}
    link = tmp_path / "elsewhere"
    link.symlink_to(shared_data / "mnist")
    one = synthesise(spec, tmp_path / "one", log)
    other = synthesise(spec | {"folder": str(link)}, tmp_path / "other", log)
    assert one == other


def test_mnist_at_the_papers_scale_has_its_counts(tmp_path, tiny_spec, log, shared_data):
    counts = {"train_counts": [3100, 200], "test_counts": [800, 50]}
    spec = tiny_spec | {"base": "mnist", "folder": str(shared_data / "mnist")} | counts
    assert synthesise(spec, tmp_path, log)["samples"] == {"train": 40_000, "test": 10_250}
    data = open_dataset(tmp_path, "train")
    assert data.images.shape == (40_000, 56, 56, 1)
    assert np.bincount(data.label_set).tolist() == [3100] * 10 + [200] * 45
    single = data.images[:31_000, 6:28, 6:28]  # what multiplicity one reaches by wrapping lies outside
    assert not single.any()


def test_another_specification_replaces_the_store(tmp_path, tiny_spec, log):
    one = synthesise(tiny_spec, tmp_path, log)
    other = synthesise(tiny_spec | {"seed": 1}, tmp_path, log)
    assert one["store_digest"] != other["store_digest"]
    assert open_dataset(tmp_path, "test").store_digest == other["store_digest"]
    assert {p.name for p in tmp_path.iterdir()} == {"images.zarr", "manifest.json", "writer.lock"}


def test_multiplicity_that_only_one_split_has(tmp_path, tiny_spec, log):
    synthesise(tiny_spec | {"train_counts": [2], "test_counts": [0, 1]}, tmp_path, log)
    train, test = (open_dataset(tmp_path, split) for split in ("train", "test"))
    assert len(train.label_sets) == 55
    assert set(train.label_set.tolist()) == set(range(10))
    assert set(test.label_set.tolist()) == set(range(10, 55))


def damage(folder: Path) -> None:
    chunk = max((folder / "images.zarr" / "images_train").rglob("*"), key=lambda p: p.stat().st_size)
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 4
    chunk.write_bytes(content)


def test_damage_is_seen_by_readers_and_repaired_by_another_call(tmp_path, tiny_spec, log, caplog):
    manifest = synthesise(tiny_spec, tmp_path, log)
    whole = contents(tmp_path)
    damage(tmp_path)
    with pytest.raises(StoreError, match="array 'images_train'"):
        open_dataset(tmp_path, "train")
    with caplog.at_level(logging.WARNING):
        assert synthesise(tiny_spec, tmp_path, log) == manifest
    assert "images_train" in caplog.text
    assert contents(tmp_path) == whole


def test_unreadable_store_is_made_again(tmp_path, tiny_spec, log, caplog):
    manifest = synthesise(tiny_spec, tmp_path, log)
    (tmp_path / "images.zarr" / "zarr.json").write_text("{")
    with caplog.at_level(logging.WARNING):
        assert synthesise(tiny_spec, tmp_path, log) == manifest
    assert "cannot be opened" in caplog.text


def test_interrupted_writing_leaves_nothing_that_passes_as_finished(tmp_path, tiny_spec, log, monkeypatch):
    synthesise(tiny_spec, tmp_path, log)
    calls = iter(range(10))

    def interrupted(values):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return b"\0" * 32

    with monkeypatch.context() as patched:
        patched.setattr(stores, "digest_values", interrupted)
        with pytest.raises(KeyboardInterrupt):
            synthesise(tiny_spec | {"seed": 1}, tmp_path, log)
    assert not (tmp_path / "manifest.json").exists()
    with pytest.raises(StoreError, match=r"manifest\.json: missing"):
        open_dataset(tmp_path, "train")
    manifest = synthesise(tiny_spec | {"seed": 1}, tmp_path, log)
    assert manifest == synthesise(tiny_spec | {"seed": 1}, tmp_path / "fresh", log)


def test_full_disk_leaves_nothing_that_passes_as_finished(tmp_path, tiny_spec, log):
    """A limit on file sizes makes a write fail in the middle of the store, as a full disk does."""
    code = f"""
        import logging, resource
        from pathlib import Path
        from ncpipe.data.synthesise import synthesise
        from ncpipe.errors import StoreError
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
        try:
            synthesise({tiny_spec!r}, Path({str(tmp_path)!r}), logging.getLogger())
        except StoreError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert "images.zarr: cannot be written" in done.stdout
    assert "not finished" in done.stdout
    assert not (tmp_path / "manifest.json").exists()
    assert not (tmp_path / "images.zarr").exists()
    assert synthesise(tiny_spec, tmp_path, log)["store_digest"] == TINY_STORE_DIGEST


FAULTS = {
    "unknown base": ({"base": "stl10"}, "base: found 'stl10'; allowed are digits, mnist5k"),
    "unknown style": ({"style": "svhn"}, "style: found 'svhn'; allowed are mnist and cifar"),
    "unknown placement": ({"placement": 0}, "placement: found 0; allowed are reference and random"),
    "no counts": ({"train_counts": []}, r"train_counts: found \[\]; allowed are 1 to 4 whole numbers >= 0"),
    "five counts": ({"test_counts": [1] * 5}, r"test_counts: found \[1, 1, 1, 1, 1\]; allowed are 1 to 4 whole"),
    "negative count": ({"train_counts": [5, -1]}, r"train_counts: found \[5, -1\]; allowed"),
    "broken count": ({"train_counts": [0.5]}, r"train_counts: found \[0\.5\]; allowed"),
    "true as count": ({"train_counts": [True]}, r"train_counts: found \[True\]; allowed"),
    "a number for counts": ({"train_counts": 5}, "train_counts: found 5; allowed"),
    "nothing to train on": (
        {"train_counts": [0, 0]},
        r"train_counts: found \[0, 0\]; allowed are counts with at least",
    ),
    "negative seed": ({"seed": -1}, "seed: found -1; allowed are whole numbers >= 0"),
    "too many": (
        {"train_counts": [141]},
        r"train_counts\[0\]: found 141; the train split of digits has 140 images in its smallest",
    ),
    "too many tests": (
        {"test_counts": [1, 35]},
        r"test_counts\[1\]: found 35; the test split of digits has 34 images in its smallest class",
    ),
    "another key": ({"size": 3}, "data set: found the keys base, dataset, .*size.*; allowed are exactly dataset, base"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_specifications(tmp_path, tiny_spec, log, fault):
    change, message = FAULTS[fault]
    with pytest.raises(InputError, match=message):
        synthesise(tiny_spec | change, tmp_path, log)
    assert not (tmp_path / "manifest.json").exists()
    assert not (tmp_path / "images.zarr").exists()
