"""Downloads of the official files: over HTTPS only, of a known size and SHA-256, there whole or not at all.

pooch downloads into a temporary file, compares its SHA-256 and moves it into place. Nothing is unpacked: `readers` and
`svhn` read the files as they are published.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ncpipe import __version__
from ncpipe.data.official import DOWNLOADS, Download
from ncpipe.errors import InputError

if TYPE_CHECKING:
    import requests

__all__ = ["DOWNLOADS", "Download", "fetch"]

TIMEOUT = 30.0  # seconds without a byte after which a server is taken to be gone
SLOWEST, GRACE = 10_000, 30.0  # bytes a second that a file makes, but for so many seconds, or it is given up
PIECE = 1 << 16
HEADERS = {"User-Agent": f"ncpipe/{__version__}", "Accept-Encoding": "identity"}  # bytes as they are published

Progress = Callable[[Path, int, int], None]


def fetch(
    downloads: Sequence[Download],
    folder: Path,
    *,
    say: Callable[[str], None],
    progress: Progress,
    timeout: float = TIMEOUT,
) -> int:
    """Download into `folder` what is not there yet.

    Parameters
    ----------
    downloads : sequence of Download
    folder : Path
        Made where it is missing.
    say : callable
        Gets a line for each file.
    progress : callable
        Gets target, bytes there and bytes in all, now and then.
    timeout : float
        Seconds without a byte after which a server is given up.

    Returns
    -------
    int
        How many files were downloaded.

    Raises
    ------
    InputError
        If another file is in a file's place, the disk has no room, a server does not answer, stops, leads away from
        HTTPS, or sends something else. The message names URL, what was expected and what was found; finished files are
        kept, of the others nothing.
    """
    missing = []
    for download in downloads:
        target = folder / download.path
        if _is_there(target, download):
            say(f"{target}: already there, checksum right")
        else:
            missing.append((download, target))
    _check_space(folder, sum(download.size for download, _ in missing))
    for download, target in missing:
        say(f"{target}: {download.size / 1e6:.1f} MB from {download.url}")
        _download(_Transfer(download, target, progress, timeout))
    return len(missing)


def _is_there(target: Path, download: Download) -> bool:
    try:
        with target.open("rb") as source:
            found = hashlib.file_digest(source, "sha256").hexdigest()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise InputError(f"{target}: cannot be read ({error.strerror}); allowed is {_expected(download)}") from error
    if found != download.sha256:
        raise InputError(
            f"{target}: found a file with SHA-256 {found}; allowed is {_expected(download)} from {download.url}: move "
            "it away, or fetch to another folder"
        )
    return True


def _expected(download: Download) -> str:
    return f"a file of {download.size} bytes with SHA-256 {download.sha256}"


def _check_space(folder: Path, needed: int) -> None:
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise InputError(
            f"{folder}: found {free / 1e6:.1f} MB free; needed are {needed / 1e6:.1f} MB for what is not there yet"
        )


@dataclass
class _Transfer:
    """What pooch calls to download one file: no more than the expected bytes, and not for ever.

    Attributes
    ----------
    digest, size
        Of what has arrived so far.
    """

    download: Download
    target: Path
    progress: Progress
    timeout: float
    digest: Any = field(default_factory=hashlib.sha256)
    size: int = 0

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        """Download `url` to `output_file`."""
        import requests
        import urllib3

        deadline = time.monotonic() + GRACE + self.download.size / SLOWEST
        os.unlink(output_file)  # only its owner could read it: made anew, it has the permissions of any new file
        answer = requests.get(
            url, stream=True, timeout=self.timeout, headers=HEADERS, hooks={"response": self.check_answer}
        )
        with answer, open(output_file, "wb") as handle:
            answer.raise_for_status()
            try:
                while piece := answer.raw.read1(PIECE):
                    self.take(piece)
                    if time.monotonic() > deadline:
                        raise InputError(_cannot(self.download, "it is too slow"))
                    handle.write(piece)
                    self.progress(self.target, self.size, self.download.size)
            except urllib3.exceptions.ProtocolError as error:
                if not isinstance(error.args[-1], urllib3.exceptions.IncompleteRead):  # the size says it below
                    raise
            if self.size < self.download.size:
                raise InputError(f"{url}: found {self.size} bytes, then the end; allowed is {_expected(self.download)}")
            handle.flush()
            os.fsync(handle.fileno())

    def check_answer(self, answer: requests.Response, **options: object) -> None:
        """Refuse an answer that leads away from HTTPS or declares another size, before any of it is read."""
        from requests.compat import urljoin

        found = None
        if answer.is_redirect:
            url = urljoin(answer.url, answer.headers["Location"])
            found = None if url.lower().startswith("https://") else f"redirected to {url}; allowed is HTTPS only"
        elif answer.ok and answer.headers.get("Content-Length", str(self.download.size)) != str(self.download.size):
            found = f"found {answer.headers['Content-Length']} declared bytes; allowed is {_expected(self.download)}"
        if found:
            answer.close()
            raise InputError(f"{answer.url}: {found}")

    def take(self, piece: bytes) -> None:
        """Count a piece."""
        self.size += len(piece)
        self.digest.update(piece)
        if self.size > self.download.size:
            raise InputError(
                f"{self.download.url}: found more bytes than expected; allowed is {_expected(self.download)}"
            )


def _download(transfer: _Transfer) -> None:
    """Download one file into a temporary one beside its target, which takes its place once it is whole and right."""
    import pooch
    import requests
    import urllib3

    download, target = transfer.download, transfer.target
    if not download.url.lower().startswith("https://"):
        raise InputError(f"{download.url}: found a URL that is not HTTPS; allowed is HTTPS only")
    pooch.get_logger().setLevel("WARNING")  # by itself it announces every file
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        known = {"known_hash": f"sha256:{download.sha256}", "fname": target.name, "path": target.parent.absolute()}
        pooch.retrieve(download.url, **known, downloader=transfer)
    except InputError:
        raise
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise InputError(_cannot(download, _reason(error))) from error
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({_reason(error)}); nothing of it is kept") from error
    except ValueError as error:  # pooch's word for another checksum
        raise InputError(
            f"{download.url}: found {transfer.size} bytes with SHA-256 {transfer.digest.hexdigest()}; allowed is "
            f"{_expected(download)}"
        ) from error


def _cannot(download: Download, reason: str) -> str:
    return (
        f"{download.url}: cannot be downloaded ({reason}); expected is {_expected(download)}, which may also be put "
        f"there by hand"
    )


def _reason(error: BaseException) -> str:
    """Say what happened: the innermost of the errors that requests, urllib3 and pooch wrap round it."""
    answer = getattr(error, "response", None)
    if answer is not None and not answer.ok:
        return f"answer {answer.status_code} {answer.reason}"
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
