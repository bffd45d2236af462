"""``ncpipe verify``, ``clean`` and ``compare``: whether results are whole, what nobody needs, and what differs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ncpipe.command.arguments import number

EXIT_FAULT = 1


def add_parsers(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to the command line."""
    verify = subparsers.add_parser(
        "verify", help="check everything under a results folder against its digests", description=_verify.__doc__
    )
    verify.add_argument("results", type=Path, help="a results folder, or any folder in one")
    verify.add_argument(
        "--remove-damaged",
        action="store_true",
        help="remove what is damaged (of stores: the manifest), so that the next snakemake makes it again",
    )
    verify.add_argument(
        "--configfile", type=Path, nargs="*", help="config.yaml with these overlays: all that it plans is expected"
    )
    verify.set_defaults(func=_verify)

    clean = subparsers.add_parser(
        "clean", help="list, and with --yes remove, what no finished run needs", description=_clean.__doc__
    )
    clean.add_argument("results", type=Path, help="a results folder")
    clean.add_argument(
        "--configfile", type=Path, nargs="*", help="config.yaml with these overlays: also what it does not select"
    )
    clean.add_argument("--unfinished", action="store_true", help="also runs without a manifest, and their states")
    clean.add_argument("--yes", action="store_true", help="remove them")
    clean.set_defaults(func=_clean)

    compare = subparsers.add_parser(
        "compare", help="what differs between two results folders", description=_compare.__doc__
    )
    compare.add_argument("a", type=Path, metavar="RESULTS")
    compare.add_argument("b", type=Path, metavar="OTHER")
    compare.add_argument("--tolerance", type=number(least=0), default=1e-6, help="of numbers, relative (default: 1e-6)")
    compare.set_defaults(func=_compare)


def _verify(options: argparse.Namespace) -> int:
    """Check every array of every store, history, resume state and manifest; theory files, tables, figures and page."""
    from ncpipe.results.verify import remove_damaged, verify_results, without_digest

    config = _config(options)
    checked, faults, damaged = 0, 0, []
    for path, problems in verify_results(options.results, config):
        checked += 1
        faults += len(problems)
        for problem in problems:
            print(f"FAULT {problem}")
        if problems:
            damaged.append(path)
        else:
            print(f"ok    {path}")
    _say_links(options.results)
    for path in without_digest(options.results):
        print(f"?     {path}: not checked, it has no digest")
    if options.remove_damaged:
        for gone in remove_damaged(damaged):
            print(f"removed {gone}; snakemake makes it again")
    print(f"{checked} checked, {faults} faults")
    return EXIT_FAULT if faults else 0


def _say_links(folder: Path) -> None:
    """One line for each symbolic link that leaves the folder, or leads back into itself."""
    from ncpipe.results.tree import read_tree

    if folder.is_dir():
        for line in read_tree(folder).notes:
            print(f"link  {line}")


def _config(options: argparse.Namespace) -> dict[str, Any] | None:
    """The configuration that ``--configfile`` names, checked."""
    if options.configfile is None:
        return None
    from ncpipe.experiment.reading import load_checked

    return load_checked(*options.configfile)


def _clean(options: argparse.Namespace) -> int:
    """List what no finished run needs; remove it with --yes. What a running job writes is left alone."""
    from ncpipe.results.clean import find_leftovers, remove

    config = _config(options)
    leftovers = find_leftovers(options.results, config, unfinished=options.unfinished)
    _say_links(options.results)
    total = 0
    for leftover in leftovers:
        total += leftover.size
        print(f"{leftover.size / 1e6:10.1f} MB  {leftover.path}: {leftover.reason}")
        if options.yes:
            remove(leftover, options.results)
    advice = "" if options.yes or not leftovers else "; remove them with --yes"
    print(f"{len(leftovers)} {'removed' if options.yes else 'found'}, {total / 1e6:.1f} MB{advice}")
    return 0


def _compare(options: argparse.Namespace) -> int:
    """Say what differs: runs, configuration, versions, digests, numbers beyond rounding; exit code 1 if anything."""
    from ncpipe.results.compare import compare_results

    for folder in (options.a, options.b):
        _say_links(folder)
    count = 0
    for line in compare_results(options.a, options.b, tolerance=options.tolerance):
        print(line)
        count += 1
    print(f"{count} differences")
    return EXIT_FAULT if count else 0
