"""The tidy tables of the collapse stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ncpipe.collapse.optima import analyse_optimum
from ncpipe.collapse.record import flatten
from ncpipe.collapse.run import RUN_KEYS
from ncpipe.errors import StoreError
from ncpipe.geometry.record import QUANTITIES
from ncpipe.results.tables import METRICS, OPTIMUM, SYNTHESIS, write_table
from ncpipe.stores.files import read_json
from ncpipe.stores.zarr import Store


def open_metrics(folder: Path) -> Store:
    """Open a run's metrics, having checked that they are those its manifest describes.

    Raises
    ------
    StoreError
        If manifest or store is missing, or they do not belong together.
    """
    manifest = folder / "manifest.json"
    expected = read_json(manifest).get("store_digest")
    store = Store(folder / "metrics.zarr")
    if store.digest() != expected:
        raise StoreError(f"{store.path}: is not the store that {manifest} describes; analyse the run again")
    return store


def metric_rows(store: Store) -> list[dict[str, Any]]:
    """Rows of metrics.csv of one run."""
    data = store.static("epoch", "multiplicity", *QUANTITIES)
    arrays = {name: data[name].to_numpy() for name in QUANTITIES}
    run = {key: store.attrs[key] for key in RUN_KEYS}
    epochs, multiplicities = data["epoch"].to_numpy().tolist(), data["multiplicity"].to_numpy().tolist()
    return [{**run, **row} for row in flatten(arrays, epochs, multiplicities)]


def summarise(
    run_folders: Sequence[Path],
    theory_paths: Sequence[Path],
    *,
    metrics: Path,
    optimum: Path,
    synthesis: Path,
) -> None:
    """Write the tidy tables of all runs and all certified optima; equal inputs give equal bytes.

    Parameters
    ----------
    run_folders : sequence of Path
        Outputs of `analyse_run`.
    theory_paths : sequence of Path
    metrics, optimum, synthesis : Path
        Where ``metrics.csv``, ``optimum.csv`` and ``synthesis.csv`` go.
    """
    metric_table: list[dict[str, Any]] = []
    optimum_table: list[dict[str, Any]] = []
    synthesis_table: list[dict[str, Any]] = []
    for folder in run_folders:
        store = open_metrics(folder)
        metric_table += metric_rows(store)
        run = {key: store.attrs[key] for key in RUN_KEYS}
        synthesis_table += [{**run, **entry} for entry in store.attrs["synthesis"]]
    for path in theory_paths:
        rows, entries = analyse_optimum(path)
        optimum_table += rows
        synthesis_table += entries
    write_table(metrics, _sorted(metric_table, METRICS, METRICS[:-1]))
    write_table(optimum, _sorted(optimum_table, OPTIMUM, OPTIMUM[:-1]))
    write_table(synthesis, _sorted(synthesis_table, SYNTHESIS, SYNTHESIS[:8]))


def _sorted(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], keys: Sequence[str]) -> pd.DataFrame:
    # An empty cell sorts first and is never compared with a number.
    ordered = sorted(rows, key=lambda row: [(row[key] != "", row[key]) for key in keys])
    return pd.DataFrame(ordered, columns=list(columns))
