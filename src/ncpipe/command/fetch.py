"""``ncpipe fetch``: download the official files of base sets."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from ncpipe.errors import InputError

_SECONDS = 0.2  # between two updates on a terminal


def add_parsers(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "fetch",
        help="download the official files of base sets, checked",
        description="Download the official files of base sets over HTTPS, each checked against its size and SHA-256. "
        "What is already there is checked and kept. Without BASE: list what can be fetched.",
    )
    parser.add_argument("bases", metavar="BASE", nargs="*", help="mnist, fashion_mnist, cifar10 or svhn")
    parser.add_argument(
        "--to", metavar="DIR", type=Path, default=Path("resources"), help="folder to fetch to (default: resources)"
    )
    parser.set_defaults(func=fetch)


def fetch(args: argparse.Namespace) -> int:
    """Download what the arguments name."""
    from ncpipe.data import fetch as downloads

    if not args.bases:
        for base, files in downloads.DOWNLOADS.items():
            print(f"{base:<14} {sum(file.size for file in files) / 1e6:6.1f} MB  {', '.join(f.path for f in files)}")
        return 0
    for base in args.bases:
        if base not in downloads.DOWNLOADS:
            raise InputError(f"BASE: found {base!r}; allowed are {', '.join(downloads.DOWNLOADS)}")
    wanted = [file for base in dict.fromkeys(args.bases) for file in downloads.DOWNLOADS[base]]
    meter = _Meter()
    try:
        count = downloads.fetch(wanted, args.to, say=meter.say, progress=meter.progress)
    finally:
        meter.close()
    print(f"{len(wanted)} files in {args.to}, {count} downloaded, every checksum right")
    return 0


class _Meter:
    """Lines for every file; on a terminal also how far it is."""

    def __init__(self) -> None:
        self._began = self._shown = time.monotonic()
        self._open = False  # whether the terminal's line is not ended yet

    def say(self, line: str) -> None:
        """Print a line; what follows is about a new file."""
        print(line, flush=True)
        self._began = self._shown = time.monotonic()

    def progress(self, target: Path, done: int, total: int) -> None:
        """Show how far a file is, on one line of the terminal."""
        from ncpipe.progress import clock

        now = time.monotonic()
        if not sys.stderr.isatty() or (now - self._shown < _SECONDS and done < total):
            return
        self._shown = now
        rate = done / max(now - self._began, 1e-3)
        line = f"{target.name}  {done / total:4.0%}  {rate / 1e6:.1f} MB/s  left {clock((total - done) / rate)}"
        print(f"\r{line}\x1b[K", end="\n" if done == total else "", file=sys.stderr, flush=True)
        self._open = done < total

    def close(self) -> None:
        """End the terminal's line, so that an error message has its own."""
        if self._open:
            print(file=sys.stderr)
