"""Integrity of a results folder: stores, manifests, theory files, tables and figures against their digests."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ncpipe.errors import InputError, StoreError
from ncpipe.stores.files import (
    DIGEST_SUFFIX,
    check_folder,
    check_result,
    digest_file,
    hash_json,
    read_json,
    read_sealed,
)
from ncpipe.stores.zarr import Store

_RESULTS = (".json", ".csv", ".svg", ".png", ".html")  # what stages write with a digest beside it
_DESCRIBED = ("manifest.json", "history.csv", "zarr.json")  # these have their digest elsewhere


def verify_results(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each store under `folder` (or the one that it is) and each result with a digest, with its faults.

    A manifest without its store is a fault, and so are a history or a resume state that is not what was written, and a
    digest without its file.

    Raises
    ------
    InputError
        If it is no folder, or holds neither stores, manifests nor digests.
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
    results = [path.with_name(path.name.removesuffix(DIGEST_SUFFIX)) for path in _files(folder, (DIGEST_SUFFIX,))]
    if not stores and not expected and not faults and not results:
        raise InputError(f"{folder}: holds no store, no manifest and no digest; is it a results folder?")
    yield from faults
    for path in results:
        try:
            check_result(path)
            yield path, []
        except StoreError as error:
            yield path, [str(error)]
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


def without_digest(folder: Path) -> list[Path]:
    """Results that have no digest beside them, so that nothing can be said of them: made by an earlier version."""
    return [path for path in _files(folder, _RESULTS) if path.name not in _DESCRIBED and not digest_file(path).exists()]


def remove_damaged(damaged: Iterable[Path]) -> list[Path]:
    """Remove what makes Snakemake take each damaged thing for finished; return what was there.

    That is the file itself, with its digest; but of a store, history or state the manifest beside it, which to
    Snakemake is the whole of a data set, run or analysis.
    """
    removed = []
    for path in sorted(set(damaged)):
        folder = path.parent.parent if path.parent.name == "state" else path.parent
        gone = path if digest_file(path).exists() else folder / "manifest.json"
        if gone.exists() or digest_file(gone).exists():
            gone.unlink(missing_ok=True)
            digest_file(gone).unlink(missing_ok=True)
            removed.append(gone)
    return removed


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Files with one of the suffixes that lie in no store, log, benchmark or folder set aside."""
    found = []
    for parent, folders, names in os.walk(folder):
        aside = {"logs", "benchmarks"} if Path(parent) == folder else set()
        folders[:] = sorted(f for f in folders if not f.endswith(".zarr") and f not in {"superseded", *aside})
        found += [Path(parent, name) for name in sorted(names) if name.endswith(suffixes) and name[0] != "."]
    return found


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
