"""The one writer's lock of a folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from ncpipe.errors import LockedError, StoreError


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the one writer's lock of `folder` (``writer.lock`` in it, with the owner's host, process and job).

    Raises
    ------
    LockedError
        If another process holds it; the message carries that owner's record.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "writer.lock"
    with path.open("a+", encoding="utf-8") as handle:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise StoreError(f"{path}: cannot be locked ({error}); allowed is a file system with locks") from error
            handle.seek(0)
            owner = handle.read().strip() or "no record"
            raise LockedError(f"{folder}: another writer is at work here: {owner}") from error
        handle.seek(0)
        handle.truncate()
        job = os.environ.get("SLURM_JOB_ID")
        handle.write(f"host {socket.gethostname()}, process {os.getpid()}{f', SLURM job {job}' if job else ''}\n")
        handle.flush()
        yield


def at_work(folder: Path) -> bool:
    """Whether a writer holds the lock of `folder`; nothing is written, so that anybody may ask who may read it."""
    try:
        handle = (folder / "writer.lock").open(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return False
    with handle:
        try:
            fcntl.lockf(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            return True
    return False
