"""The command line: thin, and light to start; every stage brings its own commands."""

from __future__ import annotations

import os
import re
import sys

from ncpipe.command import fetch, labels, measure, results, runs
from ncpipe.command.arguments import EXIT_USAGE, Parser
from ncpipe.command.results import EXIT_FAULT
from ncpipe.errors import NcpipeError, near_match
from ncpipe.jobs import REFUSALS, encoding_refusal, spell_what_cannot_be_shown

EXIT_INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run ``ncpipe``; return its exit code: 0, 1 for a fault found, 2 for input that cannot be used."""
    spell_what_cannot_be_shown()
    parser = Parser(
        prog="ncpipe",
        description="Multi-label neural collapse: look at results, verify them, run single steps.",
        epilog="The pipeline itself is run with `snakemake`, see README.md.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    for module in (results, fetch, labels, measure, runs):
        module.add_parsers(subparsers)
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        command = subparsers.choices.get(options.command, parser)
        flags = re.findall(r"--[\w-]+", command.format_help())
        command.error(f"unknown argument {unknown[0]}{near_match(unknown[0], flags)}")
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
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        print(f"ncpipe {options.command}: {error.filename or 'output'}: {error.strerror}", file=sys.stderr)
        return EXIT_USAGE
    except UnicodeEncodeError as error:
        print(f"ncpipe {options.command}: {encoding_refusal(error)}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
