"""Integrity of a results folder: every store against its digests, every manifest against its store and itself."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ncpipe.errors import InputError, StoreError
from ncpipe.stores import Store, check_folder, hash_json, read_json, read_sealed


def verify_results(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each store under `folder` (or the one that it is) with its faults, one line each; whatever else is damaged.

    A manifest without its store is a fault, and so are a history or a resume state that is not what was written.

    Raises
    ------
    InputError
        If it is no folder, or holds neither stores nor manifests.
    """
    check_folder(folder)
    within = folder.glob("zarr.json") if folder.suffix == ".zarr" else folder.rglob("*.zarr/zarr.json")
    stores = {path.parent for path in within if not _superseded(path, folder)}
    expected: dict[Path, tuple[Path, str | None]] = {}
    faults: list[tuple[Path, list[str]]] = []
    for manifest in sorted(folder.rglob("manifest.json")):
        if _superseded(manifest, folder):
            continue
        try:
            content = _read_manifest(manifest)
            name, digest = content["store"], content["store_digest"]
        except (StoreError, KeyError) as error:
            text = str(error) if isinstance(error, StoreError) else f"{manifest}: damaged, it lacks {error}"
            faults.append((manifest, [text]))
            continue
        expected[manifest.parent / name] = manifest, digest
        history = manifest.with_name("history.csv")
        if "history_sha256" in content and _sha256(history) != content["history_sha256"]:
            faults.append((history, [f"{history}: missing, or not the history that {manifest} describes"]))
    for state in sorted(folder.rglob("state/state.npz")):
        if not _superseded(state, folder):
            try:
                read_sealed(state, "resume state")
            except StoreError as error:
                faults.append((state, [str(error)]))
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


def remove_manifests(damaged: Iterable[Path]) -> list[Path]:
    """Remove the manifest beside each damaged store, history or state; return those that were there.

    To Snakemake a manifest is the whole of a data set, run or analysis: without it that is made again.
    """
    manifests = {
        (path.parent.parent if path.parent.name == "state" else path.parent) / "manifest.json" for path in damaged
    }
    removed = sorted(manifest for manifest in manifests if manifest.exists())
    for manifest in removed:
        manifest.unlink()
    return removed


def _read_manifest(path: Path) -> dict[str, Any]:
    content = read_json(path)
    found = content.pop("manifest_hash", None)
    if found is not None and found != hash_json(content):
        raise StoreError(f"{path}: damaged (it does not match its own hash)")
    return content


def _sha256(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _superseded(path: Path, folder: Path) -> bool:
    """Whether a path lies in what a run has set aside until its successor is finished."""
    return "superseded" in path.relative_to(folder).parts
