"""``ncpipe collapse``: a run's metrics as a table."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from ncpipe.command.terminal import format_contrast, print_json

_COLUMNS = 6


def add_parsers(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "collapse",
        help="print a run's collapse metrics",
        description="Print a run's collapse metrics at the last and a few earlier epochs.",
    )
    parser.add_argument("run", metavar="RUN", help="folder of the analysed run, or dataset/setting/network/seed-n")
    parser.add_argument(
        "--results", metavar="DIR", type=Path, default=Path("results"), help="results folder (default: results)"
    )
    parser.add_argument("--json", action="store_true", help="print all epochs as JSON")
    parser.set_defaults(func=collapse)


def collapse(args: argparse.Namespace) -> int:
    """Print the metrics of the run that the arguments name."""
    from ncpipe.collapse.tables import metric_rows, open_metrics

    given = Path(args.run)
    folder = given if (given / "metrics.zarr").exists() else args.results / "collapse" / args.run
    store = open_metrics(folder)
    rows = metric_rows(store)
    if args.json:
        described = ("dataset", "setting", "network", "seed", "reference", "undefined", "notes", "last_epoch")
        print_json({**{key: store.attrs[key] for key in described}, "metrics": rows})
    else:
        print(format_run(rows, store.attrs))
    return 0


def _few(epochs: list[int]) -> list[int]:
    """At most `_COLUMNS` epochs, first and last among them, evenly spread over those that exist."""
    if len(epochs) <= _COLUMNS:
        return epochs
    return [epochs[round(i * (len(epochs) - 1) / (_COLUMNS - 1))] for i in range(_COLUMNS)]


def _label(row: dict[str, Any]) -> str:
    name = row["metric"] + (f" {row['variant']}" if row["variant"] == "li2024" else "")
    return name + (f" m={row['multiplicity']}" if row["multiplicity"] != "" else "")


def format_run(rows: list[dict[str, Any]], attributes: dict[str, Any]) -> str:
    """Format metrics as text: a line for each metric and split, a column for each of a few epochs."""
    epochs = _few(sorted({row["epoch"] for row in rows}))
    table: dict[tuple[str, str], dict[int, float]] = {}
    for row in rows:
        table.setdefault((_label(row), row["split"]), {})[row["epoch"]] = row["value"]
    table = {key: values for key, values in table.items() if not all(math.isnan(v) for v in values.values())}
    width = max((len(label) for label, _ in table), default=0)
    title = "{dataset}/{setting}/{network}/seed-{seed}".format(**attributes)
    lines = [title, f"{'metric':<{width}}  split  " + "".join(f"{f'epoch {epoch}':>12}" for epoch in epochs)]
    for (label, split), values in table.items():
        cells = (values.get(epoch, math.nan) for epoch in epochs)
        lines.append(
            f"{label:<{width}}  {split:<5}  " + "".join(f"{'' if math.isnan(v) else f'{v:.4g}':>12}" for v in cells)
        )
    for what, sides in attributes["last_epoch"].items():
        if what != "missing_directions" and sides is not None:
            lines.append(f"{what.replace('_', ' ')}: {format_contrast(sides)}")
    for direction in attributes["last_epoch"]["missing_directions"]:
        lines.append(f"residual above lambda: {format_contrast(direction['classes'])} ({direction['ratio']:.4g})")
    without: dict[tuple[str, str], list[str]] = {}
    for metric, places in attributes["undefined"].items():
        for place, reason in places.items():
            without.setdefault((place.split(", variant")[0], reason), []).append(metric)
    for (place, reason), metrics in without.items():
        lines.append(f"no {', '.join(dict.fromkeys(metrics))}{f' ({place})' if place else ''}: {reason}")
    return "\n".join([*lines, *attributes["notes"]])
