"""What every workflow script shares: plain lines in the job's log, and faults said in one line."""

from __future__ import annotations

import contextlib
import errno
import logging
import sys
from collections.abc import Iterator

from ncpipe.errors import NcpipeError

# What a machine may refuse: not a defect of ours, and plain enough without a traceback.
_REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


@contextlib.contextmanager
def job(log_path: str) -> Iterator[logging.Logger]:
    """Log to `log_path` inside; an `NcpipeError` becomes one line there and on stderr, and exit code 1.

    So does an operating system that refuses to write: a full disk, a quota, missing permission. Any other exception
    is a defect: its traceback goes to the log too, and it is raised on.
    """
    logger = logging.getLogger("ncpipe")
    handler = logging.FileHandler(log_path, mode="w")
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
        if error.errno not in _REFUSALS:
            logger.exception("unexpected failure")
            raise
        line = f"{error.filename or 'output'}: {error.strerror}; mend that and run again, what is finished is kept"
        logger.error("%s", line)
        print(f"ncpipe: {line}", file=sys.stderr, flush=True)
        sys.exit(1)
    except Exception:
        logger.exception("unexpected failure")
        raise
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()
