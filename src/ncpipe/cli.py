"""The command line: thin, and light to start; every stage brings its own commands."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import NoReturn

from ncpipe.errors import NcpipeError

COMMANDS = ("train", "collapse", "theory")
EXIT_FAULT, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


class _Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line, as every other message to the user is."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(arguments: list[str] | None = None) -> int:
    """Run ``ncpipe``; return its exit code: 0, 1 for a fault found, 2 for input that cannot be used."""
    parser = _Parser(
        prog="ncpipe",
        description="Multi-label neural collapse: look at results, verify them, run single steps.",
        epilog="The pipeline itself is run with `snakemake`, see README.md.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    verify = subparsers.add_parser(
        "verify", help="check every store under a results folder against its digests", description=_verify.__doc__
    )
    verify.add_argument("results", type=Path, help="a results folder, or any folder in one")
    verify.set_defaults(func=_verify)
    for stage in COMMANDS:
        importlib.import_module(f"ncpipe.{stage}.command").add_parsers(subparsers)
    options = parser.parse_args(arguments)
    if options.version:
        from ncpipe import __version__

        print(f"ncpipe {__version__}")
        return 0
    if options.command is None:
        parser.print_help()
        return 0
    try:
        code = int(options.func(options))
        sys.stdout.flush()
        return code
    except NcpipeError as error:
        print(f"ncpipe {options.command}: {error}", file=sys.stderr)
        return EXIT_USAGE
    except BrokenPipeError:
        # Whoever read our output has gone; what is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAULT
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _verify(options: argparse.Namespace) -> int:
    """Check every array of every store, and every manifest against the store beside it."""
    from ncpipe.verify import verify_results

    checked, faults = 0, 0
    for path, problems in verify_results(options.results):
        checked += 1
        faults += len(problems)
        for problem in problems:
            print(f"FAULT {problem}")
        if not problems:
            print(f"ok    {path}")
    print(f"{checked} stores checked, {faults} faults")
    return EXIT_FAULT if faults else 0
