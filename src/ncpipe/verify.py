"""Integrity of a results folder: every store against its digests, every manifest against its store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from ncpipe.errors import InputError, StoreError
from ncpipe.stores import Store, read_json


def verify_results(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each store under `folder` with its faults, one line each; a manifest without its store is a fault.

    Raises
    ------
    InputError
        If the folder does not exist or holds neither stores nor manifests.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    stores = {path.parent for path in folder.rglob("*.zarr/zarr.json") if not _superseded(path, folder)}
    expected: dict[Path, tuple[Path, str | None]] = {}
    faults: list[tuple[Path, list[str]]] = []
    for manifest in sorted(folder.rglob("manifest.json")):
        if _superseded(manifest, folder):
            continue
        try:
            content = read_json(manifest)
            name, digest = content["store"], content["store_digest"]
        except (StoreError, KeyError) as error:
            text = str(error) if isinstance(error, StoreError) else f"{manifest}: damaged, it lacks {error}"
            faults.append((manifest, [text]))
            continue
        expected[manifest.parent / name] = manifest, digest
        history = manifest.with_name("history.csv")
        if "history_sha256" in content and _sha256(history) != content["history_sha256"]:
            faults.append((history, [f"{history}: missing, or not the history that {manifest} describes"]))
    if not stores and not expected and not faults:
        raise InputError(f"{folder}: holds no store and no manifest; is it a results folder?")
    yield from faults
    for path in sorted(stores | expected.keys()):
        problems = []
        try:
            store = Store(path)
            problems = store.verify()
            if path in expected and store.digest() != expected[path][1]:
                problems.append(f"{path}: is not the store that {expected[path][0]} describes")
        except StoreError as error:
            problems.append(str(error))
        yield path, problems


def _sha256(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _superseded(path: Path, folder: Path) -> bool:
    """Whether a path lies in what a run has set aside until its successor is finished."""
    return "superseded" in path.relative_to(folder).parts
