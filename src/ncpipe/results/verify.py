"""Integrity of a results folder: stores, manifests, theory files, tables and figures against their digests."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ncpipe.errors import InputError, StoreError
from ncpipe.experiment.plan import Config, plan_runs, plan_studies
from ncpipe.results.layout import HISTORY, MANIFEST, RUN, STATE, Layout
from ncpipe.results.tree import Tree, read_tree
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
_DESCRIBED = (MANIFEST, HISTORY, "zarr.json")  # these have their digest elsewhere


def verify_results(folder: Path, config: Config | None = None) -> Iterator[tuple[Path, list[str]]]:
    """Yield each store under `folder` (or the one that it is) and each result with a digest, with its faults.

    Symbolic links are followed. A manifest without its store is a fault, and so are a history or a resume state that is
    not what was written, a digest without its file, a link to nothing, and a run or theory file that is not there
    although a table or the configuration names it.

    Parameters
    ----------
    folder : Path
    config : mapping, optional
        A checked configuration: all data sets, theory files, runs and analyses that it plans are expected.

    Raises
    ------
    InputError
        If it is no folder, or holds neither stores, manifests nor digests.
    """
    check_folder(folder)
    tree = read_tree(folder)
    stores = {path for path in (folder, *tree.folders) if path.suffix == ".zarr" and (path / "zarr.json").is_file()}
    described: dict[Path, tuple[Path, str | None]] = {}
    faults: list[tuple[Path, list[str]]] = [(path, [f"{path}: a link to nothing"]) for path in tree.broken]
    for manifest in (path for path in tree.files if path.name == MANIFEST):
        try:
            content = _read_manifest(manifest)
            name, digest = content["store"], content["store_digest"]
        except (StoreError, KeyError) as error:
            text = str(error) if isinstance(error, StoreError) else f"{manifest}: damaged, it lacks {error}"
            faults.append((manifest, [text]))
            continue
        described[manifest.parent / name] = manifest, digest
        history = manifest.with_name(HISTORY)
        if "history_sha256" in content and _sha256(history) != content["history_sha256"]:
            faults.append((history, [f"{history}: missing, or not the history that {manifest} describes"]))
    for state in (path for path in tree.files if path.match(STATE)):
        try:
            read_sealed(state, "resume state")
        except StoreError as error:
            faults.append((state, [str(error)]))
    results = [path.with_name(path.name.removesuffix(DIGEST_SUFFIX)) for path in _results(tree, DIGEST_SUFFIX)]
    if not stores and not described and not faults and not results:
        raise InputError(f"{folder}: holds no store, no manifest and no digest; is it a results folder?")
    expected = _named_by_tables(folder) | ({} if config is None else _planned(folder, config))
    for path in (path for path in sorted(expected) if not path.exists()):
        faults.append((path, [f"{path}: missing, {expected[path]}"]))
    yield from faults
    for path in results:
        try:
            check_result(path)
            yield path, []
        except StoreError as error:
            yield path, [str(error)]
    for path in sorted(stores | described.keys()):
        problems = []
        try:
            store = Store(path)
            problems = store.verify()
            if path in described and store.digest() != described[path][1]:
                problems.append(f"{path}: is not the store that {described[path][0]} describes")
        except StoreError as error:
            problems.append(str(error))
        yield path, problems


def without_digest(folder: Path) -> list[Path]:
    """Results that have no digest beside them, so that nothing can be said of them: made by an earlier version."""
    results = _results(read_tree(folder), *_RESULTS)
    return [path for path in results if path.name not in _DESCRIBED and not digest_file(path).exists()]


def _named_by_tables(folder: Path) -> dict[Path, str]:
    """What the tables of the collapse stage were made of, and which table says so; nothing where there is none."""
    layout, expected = Layout(folder), {}
    metrics, optimum = (Path(layout.table(name)) for name in ("metrics", "optimum"))
    for names in _distinct(metrics, ("dataset", "setting", "network", "seed")):
        run = RUN.format(**dict(zip(("dataset", "setting", "network", "seed"), names, strict=True)))
        for stage in ("train", "collapse"):
            expected[Path(layout.manifest(stage, run))] = f"{metrics} lists the run"
        expected[Path(layout.manifest("data", names[0]))] = f"{metrics} lists a run on it"
    for dataset, setting, objective in _distinct(optimum, ("dataset", "setting", "objective")):
        expected[Path(layout.theory(dataset, setting, objective))] = f"{optimum} lists its optimum"
    return expected


def _distinct(path: Path, columns: tuple[str, ...]) -> set[tuple[str, ...]]:
    """The different rows of a table's columns; none of a table that is not there or not one (its digest says so)."""
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            return {tuple(row[column] for column in columns) for row in csv.DictReader(handle)}
    except (FileNotFoundError, KeyError, UnicodeDecodeError, csv.Error):
        return set()


def _planned(folder: Path, config: Config) -> dict[Path, str]:
    layout, expected, reason = Layout(folder), set(), "the configuration plans it"
    for run in plan_runs(config):
        expected |= {layout.manifest(stage, run.name) for stage in ("train", "collapse")}
        expected |= {layout.manifest("data", run.dataset)}
        expected |= {layout.theory(run.dataset, run.setting, config["networks"][run.network]["objective"])}
    expected |= {layout.study(name) for name in plan_studies(config)}
    return {Path(path): reason for path in expected}


def remove_damaged(damaged: Iterable[Path]) -> list[Path]:
    """Remove what makes Snakemake take each damaged thing for finished; return what was there.

    That is the file itself, with its digest; but of a store, history or state the manifest beside it, which to
    Snakemake is the whole of a data set, run or analysis.
    """
    removed = []
    for path in sorted(set(damaged)):
        folder = path.parent.parent if path.parent.name == "state" else path.parent
        gone = path if digest_file(path).exists() else folder / MANIFEST
        if gone.exists() or digest_file(gone).exists():
            gone.unlink(missing_ok=True)
            digest_file(gone).unlink(missing_ok=True)
            removed.append(gone)
    return removed


def _results(tree: Tree, *endings: str) -> list[Path]:
    """Files that end so; no log, no benchmark, nothing that is being written."""
    apart = [tree.folder / name for name in ("logs", "benchmarks")]
    return [
        path
        for path in tree.named(*endings)
        if path.name[0] != "." and not any(path.is_relative_to(folder) for folder in apart)
    ]


def _read_manifest(path: Path) -> dict[str, Any]:
    content = read_json(path)
    found = content.pop("manifest_hash", None)
    if found is not None and found != hash_json(content):
        raise StoreError(f"{path}: damaged (it does not match its own hash)")
    return content


def _sha256(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
