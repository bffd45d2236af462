"""Downloads of the official files: over HTTPS only, of a known size and SHA-256, there whole or not at all.

Nothing is unpacked: the readers of `readers` and `svhn` read the files as they are published. The sizes and checksums
are those that the publishers' files are known by: MNIST, CIFAR-10, Fashion-MNIST and SVHN have not changed since they
were published, and a file that has is refused.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ncpipe import __version__
from ncpipe.errors import InputError

TIMEOUT = 30.0  # seconds without a byte after which a server is taken to be gone
SLOWEST, GRACE = 10_000, 30.0  # bytes a second that a file makes, but for so many seconds, or it is given up
_PIECE = 1 << 16


@dataclass(frozen=True)
class Download:
    """One file: where it goes below the folder of resources, where it comes from, its size in bytes and its SHA-256."""

    path: str
    url: str
    size: int
    sha256: str


def _files(folder: str, source: str, files: dict[str, tuple[int, str]]) -> tuple[Download, ...]:
    return tuple(Download(f"{folder}{name}", f"{source}{name}", *about) for name, about in files.items())


DOWNLOADS = {
    "mnist": _files(
        "mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        {
            "train-images-idx3-ubyte.gz": (9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            "train-labels-idx1-ubyte.gz": (28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            "t10k-images-idx3-ubyte.gz": (1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            "t10k-labels-idx1-ubyte.gz": (4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        },
    ),
    "fashion_mnist": _files(
        "fashion_mnist/",
        # The publisher's repository at a fixed commit; the other address that it names has no HTTPS.
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/b2617bb6d3ffa2e429640350f613e3291e10b141/data/fashion/",
        {
            "train-images-idx3-ubyte.gz": (
                26421880,
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            "train-labels-idx1-ubyte.gz": (29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            "t10k-images-idx3-ubyte.gz": (4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            "t10k-labels-idx1-ubyte.gz": (5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        },
    ),
    "cifar10": _files(
        "",
        "https://www.cs.toronto.edu/~kriz/",
        {
            "cifar-10-binary.tar.gz": (170052171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),
        },
    ),
    "svhn": _files(
        "svhn/",
        "https://ufldl.stanford.edu/housenumbers/",
        {
            "train_32x32.mat": (182040794, "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"),
            "test_32x32.mat": (64275384, "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"),
        },
    ),
}


def fetch(
    downloads: Sequence[Download],
    folder: Path,
    *,
    say: Callable[[str], None],
    progress: Callable[[Path, int, int], None],
    context: ssl.SSLContext | None = None,
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
    context : ssl.SSLContext, optional
        Which certificates are trusted; the system's unless given.
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
        _download(download, target, progress=progress, context=context or ssl.create_default_context(), timeout=timeout)
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


def _download(
    download: Download,
    target: Path,
    *,
    progress: Callable[[Path, int, int], None],
    context: ssl.SSLContext,
    timeout: float,
) -> None:
    """Download one file: into a temporary one beside `target`, which takes its place once it is whole and right."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    digest, size = hashlib.sha256(), 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as handle:
            with closing(_pieces(download, context, timeout)) as pieces:
                for piece in pieces:
                    handle.write(piece)
                    digest.update(piece)
                    size += len(piece)
                    progress(target, size, download.size)
            if digest.hexdigest() != download.sha256:
                raise InputError(
                    f"{download.url}: found {size} bytes with SHA-256 {digest.hexdigest()}; allowed is "
                    f"{_expected(download)}"
                )
            handle.flush()
            os.fsync(handle.fileno())
        partial.replace(target)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror}); nothing of it is kept") from error
    finally:
        partial.unlink(missing_ok=True)


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects from HTTPS to HTTPS, no others."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        try:
            _check_https(newurl, f"{req.full_url}: redirected to {newurl}")
        except InputError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_https(url: str, found: str) -> None:
    if not url.lower().startswith("https://"):
        raise InputError(f"{found}; allowed is HTTPS only")


def _pieces(download: Download, context: ssl.SSLContext, timeout: float) -> Generator[bytes, None, None]:
    """What the server sends, never more than the expected size; too little or too much is an error."""
    url = download.url
    _check_https(url, f"{url}: found a URL that is not HTTPS")
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPSHandler(context=context),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _HttpsOnly(),
    ):
        opener.add_handler(handler)
    request = urllib.request.Request(url, headers={"User-Agent": f"ncpipe/{__version__}"})
    deadline = time.monotonic() + GRACE + download.size / SLOWEST
    left = download.size
    try:
        with opener.open(request, timeout=timeout) as response:
            declared = response.headers.get("Content-Length")
            if declared is not None and declared != str(download.size):
                raise InputError(f"{url}: found {declared} declared bytes; allowed is {_expected(download)}")
            while piece := response.read1(min(_PIECE, left + 1)):
                left -= len(piece)
                if left < 0:
                    raise InputError(f"{url}: found more bytes than expected; allowed is {_expected(download)}")
                if time.monotonic() > deadline:
                    raise TimeoutError("it is too slow")
                yield piece
    except http.client.IncompleteRead:
        pass  # newer Pythons find the early end themselves; what is left says it below
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is the answer, too
        raise InputError(
            f"{url}: cannot be downloaded ({_reason(error)}); expected is {_expected(download)}, which may also be "
            f"put there by hand"
        ) from error
    if left:
        raise InputError(f"{url}: found {download.size - left} bytes, then the end; allowed is {_expected(download)}")


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        inner: object = f"answer {error.code} {error.reason}"
    else:
        inner = error.reason if isinstance(error, urllib.error.URLError) else error
    return " ".join(str(inner).split()) or type(error).__name__
