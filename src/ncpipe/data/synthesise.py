"""From a specification to a finished data set: ``images.zarr`` and, last of all, ``manifest.json``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np

import ncpipe
from ncpipe.data import DATA_VERSION
from ncpipe.data.base import SPLITS, BaseImages, load_base
from ncpipe.data.compose import MAX_MULTIPLICITY, PLACES, Placement, Style, canonical_label_sets, compose
from ncpipe.errors import InputError, StoreError
from ncpipe.experiment.base_sets import known_base_set
from ncpipe.labels.names import LabelSet
from ncpipe.stores.files import hash_json, write_manifest
from ncpipe.stores.locks import exclusive
from ncpipe.stores.zarr import Array, Store, write_store

_KEYS = ("dataset", "base", "folder", "style", "placement", "train_counts", "test_counts", "seed")


def synthesise(spec: Mapping[str, Any], output_folder: Path, log: logging.Logger) -> dict[str, Any]:
    """Make a data set, or find it made: a finished, undamaged, equal one is kept and its manifest written again.

    Parameters
    ----------
    spec : mapping
        ``dataset`` (its name), ``base``, ``folder`` (or None), ``style``, ``placement``, ``train_counts``,
        ``test_counts`` (samples per label set of multiplicity 1, 2, ..., up to 4) and ``seed``.
    output_folder : Path
        Gets ``images.zarr`` and ``manifest.json``.
    log : logging.Logger

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    InputError
        If the specification or the base images are faulty.
    StoreError
        If the store cannot be written, or another writer is at work.
    """
    _check(spec)
    base = load_base(spec["base"], spec["folder"], spec["seed"])
    _check_capacity(spec, base)
    record = _record(spec, base)
    store, manifest = output_folder / "images.zarr", output_folder / "manifest.json"
    with exclusive(output_folder):
        if _is_finished(store, record, log):
            log.info("%s: finished and undamaged; kept", store)
        else:
            manifest.unlink(missing_ok=True)  # it never lies beside a store that it does not describe
            _write(store, spec, base, record, log)
        opened = Store(store)
        content = {**opened.attrs, "store": store.name, "store_digest": opened.digest()}
        write_manifest(manifest, content)
    return content


def _check(spec: Mapping[str, Any]) -> None:
    if set(spec) != set(_KEYS):
        raise InputError(f"data set: found the keys {', '.join(sorted(spec))}; allowed are exactly {', '.join(_KEYS)}")
    for key, kind in (("style", Style), ("placement", Placement)):
        if spec[key] not in get_args(kind):
            raise InputError(f"{key}: found {spec[key]!r}; allowed are {' and '.join(get_args(kind))}")
    for key in ("train_counts", "test_counts"):
        counts = spec[key]
        whole = isinstance(counts, list | tuple) and all(type(n) is int and n >= 0 for n in counts)
        if not whole or not 1 <= len(counts) <= MAX_MULTIPLICITY:
            raise InputError(f"{key}: found {counts}; allowed are 1 to {MAX_MULTIPLICITY} whole numbers >= 0")
    if not any(spec["train_counts"]):
        raise InputError(f"train_counts: found {spec['train_counts']}; allowed are counts with at least one above 0")
    if type(spec["seed"]) is not int or spec["seed"] < 0:
        raise InputError(f"seed: found {spec['seed']!r}; allowed are whole numbers >= 0")
    known_base_set(spec["base"])


def _check_capacity(spec: Mapping[str, Any], base: BaseImages) -> None:
    """Refuse more samples of a label set than its smallest class has images: none serves twice within a label set."""
    for split in SPLITS:
        available = int(np.bincount(base.part(split)[1], minlength=len(base.class_names)).min())
        for position, count in enumerate(spec[f"{split}_counts"]):
            if count > available:
                place = f" in {spec['folder']}" if spec["folder"] else ""
                raise InputError(
                    f"datasets.{spec['dataset']}.{split}_counts[{position}]: found {count}; the {split} split of "
                    f"{spec['base']}{place} has {available} images in its smallest class, allowed: 0 to {available}"
                )


def _label_sets(spec: Mapping[str, Any], classes: int) -> list[LabelSet]:
    """Label sets that occur in a split, in canonical order."""
    occurring = {m for key in ("train_counts", "test_counts") for m, n in enumerate(spec[key], start=1) if n > 0}
    return canonical_label_sets(classes, sorted(occurring))


def _record(spec: Mapping[str, Any], base: BaseImages) -> dict[str, Any]:
    """What the manifest says, but for the digest of the store; neither times nor hosts nor paths."""
    described = {key: spec[key] for key in _KEYS if key != "folder"} | {
        "train_counts": list(spec["train_counts"]),
        "test_counts": list(spec["test_counts"]),
        "base_sha256": base.digest(),
    }
    label_sets = _label_sets(spec, len(base.class_names))
    samples = {
        split: sum(n * sum(len(s) == m for s in label_sets) for m, n in enumerate(spec[f"{split}_counts"], start=1))
        for split in SPLITS
    }
    return {
        "dataset": spec["dataset"],
        "spec": described,
        "spec_sha256": hash_json(described),
        "algorithm_version": DATA_VERSION,
        "class_names": list(base.class_names),
        "samples": samples,
        "versions": {"ncpipe": ncpipe.__version__, "numpy": np.__version__},
    }


def _is_finished(path: Path, record: Mapping[str, Any], log: logging.Logger) -> bool:
    if not path.exists():
        return False
    try:
        store = Store(path)
    except StoreError as error:
        log.warning("%s; made again", error)
        return False
    if any(store.attrs.get(key) != record[key] for key in record if key != "versions"):
        log.info("%s: of another specification or other base images; made again", path)
        return False
    faults = store.verify()
    for fault in faults:
        log.warning("%s; made again", fault)
    return not faults


def _write(
    path: Path, spec: Mapping[str, Any], base: BaseImages, record: Mapping[str, Any], log: logging.Logger
) -> None:
    classes = len(base.class_names)
    label_sets = _label_sets(spec, classes)
    multi_hot = np.zeros((len(label_sets), classes), np.uint8)
    for row, label_set in enumerate(label_sets):
        multi_hot[row, list(label_set)] = 1
    arrays = {"label_sets": Array(("label_set", "class"), multi_hot, "label sets, multi-hot")}
    for split in SPLITS:
        composed = compose(
            *base.part(split),
            label_sets=label_sets,
            counts=spec[f"{split}_counts"],
            split=split,
            style=spec["style"],
            placement=spec["placement"],
            seed=spec["seed"],
        )
        log.info("%s: %d %s samples of %d label sets", path, len(composed.label_set), split, len(label_sets))
        sample = f"{split}_sample"
        arrays |= {
            f"images_{split}": Array(
                (sample, "row", "column", "channel"), composed.images, "composed images", "intensity / 255"
            ),
            f"label_set_{split}": Array((sample,), composed.label_set, "row of the sample's label set in label_sets"),
            f"base_index_{split}": Array(
                (sample, "place"), composed.base_index, f"position of the base image at {', '.join(PLACES)}; -1: none"
            ),
        }
    try:
        write_store(path, arrays, attributes=record)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error}); the data set is not finished") from error
