"""Integrity of a results folder: every store against its digests, every manifest against its store."""

from __future__ import annotations

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
    stores = {path.parent for path in folder.rglob("*.zarr/zarr.json") if "superseded" not in path.parts}
    expected: dict[Path, tuple[Path, str | None]] = {}
    faults: list[tuple[Path, list[str]]] = []
    for manifest in sorted(folder.rglob("manifest.json")):
        try:
            content = read_json(manifest)
            name, digest = content["store"], content["store_digest"]
        except (StoreError, KeyError) as error:
            text = str(error) if isinstance(error, StoreError) else f"{manifest}: damaged, it lacks {error}"
            faults.append((manifest, [text]))
            continue
        expected[manifest.parent / name] = manifest, digest
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
