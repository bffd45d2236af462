"""``ncpipe train`` and ``ncpipe show``: one run outside the workflow, and what a run is and how far it is."""

from __future__ import annotations

import argparse
from pathlib import Path

from ncpipe.command.arguments import whole
from ncpipe.command.terminal import print_json
from ncpipe.errors import InputError, near_match


def add_parsers(subparsers: argparse._SubParsersAction) -> None:
    """Add this stage's commands."""
    train = subparsers.add_parser(
        "train",
        help="train one run outside the workflow, going on from its own state",
        description="Train one run of the configuration; its data set must be there (snakemake data).",
    )
    train.add_argument("run", help="DATASET/SETTING/NETWORK/seed-N, one of the configuration's runs")
    train.add_argument("--configfile", type=Path, nargs="+", default=[], help="overlays over config.yaml, in order")
    train.add_argument("--fresh", action="store_true", help="start afresh where the state belongs to other settings")
    train.add_argument("--threads", type=whole(least=1), default=1, help="CPU threads (default: 1)")
    train.set_defaults(func=_train)
    show = subparsers.add_parser("show", help="what a run is and how far it is")
    show.add_argument("run", type=Path, help="a run's folder, or DATASET/SETTING/NETWORK/seed-N under --results")
    show.add_argument("--results", type=Path, default=Path("results"), help="results folder (default: results)")
    show.add_argument("--json", action="store_true", help="print one JSON object")
    show.set_defaults(func=_show)


def _train(options: argparse.Namespace) -> int:
    import logging

    from ncpipe.experiment import disk, plan
    from ncpipe.experiment.reading import load_checked
    from ncpipe.results.layout import Layout
    from ncpipe.train.loop import train_run

    config = load_checked(*options.configfile)
    runs = {run.name: run for run in plan.plan_runs(config)}
    if options.run not in runs:
        match = near_match(options.run, list(runs)) or ";"
        raise InputError(f"run: found {options.run!r}{match} allowed are the {len(runs)} runs that `runs` selects")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    layout, run = Layout(config["results"]), runs[options.run]
    data, folder = Path(layout.folder("data", run.dataset)), Path(layout.folder("train", run.name))
    if not (data / "manifest.json").is_file():
        raise InputError(f"{data}: no data set here; make it first, with `snakemake data`")
    target = plan.sampling_target(config, run.setting, config["networks"][run.network]["objective"])
    sampling = None if target is None else layout.sampling(run.dataset, run.setting, target)
    if sampling is not None and not Path(sampling).is_file():
        raise InputError(f"{sampling}: no sampling weights here; make them first, with `snakemake theory`")
    disk.check_room(folder, disk.megabytes(disk.run_bytes(config, run)))
    train_run(
        plan.train_settings(config, run),
        data=data,
        folder=folder,
        log=logging.getLogger("ncpipe"),
        sampling=None if sampling is None else Path(sampling),
        device=config["device"],
        threads=options.threads,
        on_mismatch="restart" if options.fresh else "refuse",
    )
    return 0


def _show(options: argparse.Namespace) -> int:
    from ncpipe.train.inspect import describe_run, format_run

    folder = options.run if options.run.is_dir() else options.results / "train" / options.run
    description = describe_run(folder)
    if options.json:
        print_json(description)
    else:
        print(format_run(description))
    return 0
