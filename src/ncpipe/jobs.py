"""What every job shares: plain lines in its log, faults said in one line, and BLAS threads for small matrices."""

from __future__ import annotations

import codecs
import contextlib
import errno
import functools
import getpass
import io
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from ncpipe.errors import NcpipeError

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

# What a machine may refuse: not a defect of ours, and plain enough without a traceback.
REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


class _Log(logging.FileHandler):
    """A log file on a disk that may be full: then its lines are lost, and not the fault that they would tell of.

    Faults go to stderr as well.
    """

    def handleError(self, record: logging.LogRecord) -> None:
        """Let an operating system that refuses the line have its way."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        """Close without the lines that could not be written."""
        with contextlib.suppress(OSError):
            super().close()


def name_user() -> None:
    """Name a user whom this machine does not know, as in a container with ``--user``: Snakemake asks for a name."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = str(os.getuid())


def spell_what_cannot_be_shown() -> None:
    """Let stdout and stderr show what their encoding can, and spell the rest: ``kappa``, or the number of a character.

    A terminal, or a pipe to a file, whose encoding lacks a character is no reason to fail at the end of long work.
    """
    codecs.register_error("ncpipe.spelled", _spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="ncpipe.spelled")


def encoding_refusal(error: UnicodeEncodeError) -> str:
    """Say that this locale has no such file name: files are written as UTF-8, the terminal is never refused."""
    return f"{error.object!r}: no file name in this locale ({error.encoding}); set LC_ALL=C.UTF-8 or PYTHONUTF8=1"


def _spelled(error: UnicodeError) -> tuple[str, int]:
    import unicodedata

    if not isinstance(error, UnicodeEncodeError):
        raise error
    words = []
    for character in error.object[error.start : error.end]:
        case, letter, name = unicodedata.name(character, "").partition(" LETTER ")
        greek = {"GREEK SMALL": name.lower(), "GREEK CAPITAL": name.capitalize()}.get(case if letter else "")
        words.append(greek or character.encode("ascii", "backslashreplace").decode())
    return "".join(words), error.end


@contextlib.contextmanager
def job(log_path: str) -> Iterator[logging.Logger]:
    """Log to `log_path` inside; an `NcpipeError` becomes one line there and on stderr, and exit code 1.

    So does an operating system that refuses to write: a full disk, a quota, missing permission. Any other exception
    is a defect: its traceback goes to the log too, and it is raised on.
    """
    logger = logging.getLogger("ncpipe")
    spell_what_cannot_be_shown()
    handler = _Log(log_path, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        yield logger
    except NcpipeError as error:
        logger.error("%s", error)
        print(f"ncpipe: {error}", file=sys.stderr, flush=True)
        sys.exit(1)
    except KeyboardInterrupt:
        logger.warning("interrupted")
        sys.exit(130)
    except OSError as error:
        if error.errno not in REFUSALS:
            logger.exception("unexpected failure")
            raise
        line = f"{error.filename or 'output'}: {error.strerror}; mend that and run again, what is finished is kept"
        logger.error("%s", line)
        print(f"ncpipe: {line}", file=sys.stderr, flush=True)
        sys.exit(1)
    except UnicodeEncodeError as error:
        logger.error("%s", encoding_refusal(error))
        print(f"ncpipe: {encoding_refusal(error)}", file=sys.stderr, flush=True)
        sys.exit(1)
    except Exception:
        logger.exception("unexpected failure")
        raise
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()


def one_thread(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Run a function that works on small matrices with one BLAS thread.

    Two gain nothing, not even for 400 classes, and beside a busy neighbour each waits for the other
    (`benchmarks/threads.py`). With one, results do not depend on the machine's number of cores either.
    """

    @functools.wraps(function)
    def limited(*args: Parameters.args, **options: Parameters.kwargs) -> Result:
        with _pools().limit(limits=1, user_api="blas"):
            return function(*args, **options)

    return limited


@functools.cache
def _pools() -> ThreadpoolController:
    """The BLAS libraries that numpy and scipy have loaded: looking for them takes milliseconds, once."""
    import scipy.linalg  # noqa: F401  its own BLAS is to be found too
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
