"""Downloads: from a server of this test's own, over HTTPS with a certificate made here; no test leaves the machine."""

from __future__ import annotations

import hashlib
import re
import shutil
import ssl
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from ncpipe.command.main import main
from ncpipe.data import fetch as module
from ncpipe.data.fetch import DOWNLOADS, Download, fetch
from ncpipe.errors import InputError
from ncpipe.experiment.base_sets import BASE_SETS

CHECKOUT = Path(__file__).parents[2]
CONTENT = bytes(range(256)) * 600  # 153,600 bytes: several pieces
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers each path in its own way."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked[self.path] += 1
        self.close_connection = True
        getattr(self, f"_{self.path.strip('/')}")()

    def _send(self, content: bytes, declared: int | None = None) -> None:
        self.send_response(200)
        if declared is not None:
            self.send_header("Content-Length", str(declared))
        self.end_headers()
        self.wfile.write(content)

    def _good(self) -> None:
        self._send(CONTENT, len(CONTENT))

    def _undeclared(self) -> None:
        self._send(CONTENT)

    def _truncated(self) -> None:
        self._send(CONTENT[:100_000], len(CONTENT))

    def _short(self) -> None:
        self._send(CONTENT[:-1])

    def _declared(self) -> None:
        self._send(b"", 10**15)

    def _long(self) -> None:
        self._send(CONTENT * 40)

    def _changed(self) -> None:
        self._send(CONTENT[:-1] + b"x", len(CONTENT))

    def _gone(self) -> None:
        self.send_error(404)

    def _stalls(self) -> None:
        self._send(CONTENT[:70_000], len(CONTENT))
        self.server.released.wait(20)

    def _silent(self) -> None:
        self.server.released.wait(20)

    def _trickles(self) -> None:
        self._send(CONTENT[:1000], len(CONTENT))
        for i in range(1000, 1400):
            if self.server.released.wait(0.05):
                break
            self.wfile.write(CONTENT[i : i + 1])

    def _moved(self) -> None:
        self._redirect("/good")

    def _downgraded(self) -> None:
        self._redirect(f"http://localhost:{self.server.server_port}/good")

    def _elsewhere(self) -> None:
        self._redirect("file:///etc/passwd")

    def _loops(self) -> None:
        self._redirect("/loops")

    def _redirect(self, url: str) -> None:
        self.send_response(302)
        self.send_header("Location", url)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *args: Any) -> None:
        """A client that hangs up is what these tests are about."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Certificate and key of localhost, signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here: no certificate for the local server can be made")
    folder = tmp_path_factory.mktemp("certificate")
    files = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-out", files[0],
            "-keyout", files[1],
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    return files


@pytest.fixture(scope="module")
def server(certificate: tuple[Path, Path]) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with Server(("localhost", 0), Handler) as server:
        server.asked, server.released = Counter(), threading.Event()
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def trusting(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate made here is trusted, as a user's own would be."""
    monkeypatch.setenv("no_proxy", "localhost")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))


@pytest.fixture
def get(server: Server, trusting: None, tmp_path: Path):
    """Fetch the one file that the local server offers under a name; returns what was said."""

    def get(name: str, **options: Any) -> list[str]:
        said: list[str] = []
        url = f"https://localhost:{server.server_port}/{name}"
        downloads = [Download("sub/file.bin", url, len(CONTENT), SHA256)]
        options = {"timeout": 60.0, "progress": lambda *_: None, **options}
        fetch(downloads, tmp_path / "resources", say=said.append, **options)
        return said

    return get


def left(tmp_path: Path) -> list[str]:
    """Files in the folder of resources."""
    folder = tmp_path / "resources"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["good", "undeclared", "moved"])
def test_a_good_file_arrives_whole(name, get, tmp_path):
    steps = []
    (line,) = get(name, progress=lambda target, done, total: steps.append((target.name, done, total)))
    target = tmp_path / "resources/sub/file.bin"
    assert re.fullmatch(rf"{re.escape(str(target))}: 0\.2 MB from https://localhost:\d+/{name}", line)
    assert target.read_bytes() == CONTENT
    assert left(tmp_path) == ["sub/file.bin"]
    (tmp_path / "other").touch()
    assert target.stat().st_mode == (tmp_path / "other").stat().st_mode  # whoever reads other files reads this one
    assert steps == sorted(steps)
    assert steps[-1] == ("file.bin", len(CONTENT), len(CONTENT))
    assert len(steps) > 1


def test_what_is_there_is_checked_and_not_downloaded_again(get, server, tmp_path):
    get("good")
    before = server.asked.total()
    assert get("good") == [f"{tmp_path}/resources/sub/file.bin: already there, checksum right"]
    assert server.asked.total() == before


def test_another_file_in_its_place_is_kept_and_named(get, server, tmp_path):
    target = tmp_path / "resources/sub/file.bin"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"mine")
    before = server.asked.total()
    with pytest.raises(InputError, match=rf"^{re.escape(str(target))}: found a file with SHA-256 {hash_of(b'mine')};"):
        get("good")
    assert server.asked.total() == before
    assert target.read_bytes() == b"mine"
    target.unlink()
    target.mkdir()
    with pytest.raises(InputError, match=r"file\.bin: cannot be read \(Is a directory\)"):
        get("good")


def hash_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


EXPECTED = f"a file of {len(CONTENT)} bytes with SHA-256 {SHA256}"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("truncated", "found 100000 bytes, then the end; allowed is"),
        ("short", f"found {len(CONTENT) - 1} bytes, then the end; allowed is"),
        ("declared", "found 1000000000000000 declared bytes; allowed is"),
        ("long", "found more bytes than expected; allowed is"),
        ("changed", f"found {len(CONTENT)} bytes with SHA-256 {hash_of(CONTENT[:-1] + b'x')}; allowed is"),
        ("gone", r"cannot be downloaded \(answer 404 Not Found\); expected is"),
        ("loops", r"cannot be downloaded \(Exceeded 30 redirects.\); expected is"),
    ],
)
def test_a_wrong_answer_is_one_line_and_leaves_nothing(name, found, get, tmp_path):
    with pytest.raises(InputError) as caught:
        get(name)
    line = str(caught.value)
    assert re.match(rf"https://localhost:\d+/{name}: {found} {EXPECTED}", line)
    assert line.isprintable()
    assert left(tmp_path) == []


@pytest.mark.parametrize("name", ["stalls", "silent"])
def test_a_server_that_stalls_is_given_up(name, get, tmp_path):
    with pytest.raises(InputError, match=rf"/{name}: cannot be downloaded \(.*timed out\)"):
        get(name, timeout=0.3)
    assert left(tmp_path) == []


def test_a_server_that_trickles_is_given_up(get, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SLOWEST", 1e9)
    monkeypatch.setattr(module, "GRACE", 0.2)
    with pytest.raises(InputError, match=r"/trickles: cannot be downloaded \(it is too slow\)"):
        get("trickles")
    assert left(tmp_path) == []


def test_only_https(get, server, tmp_path):
    before = server.asked["/good"]
    with pytest.raises(
        InputError, match=r"/downgraded: redirected to http://localhost:\d+/good; allowed is HTTPS only"
    ):
        get("downgraded")
    with pytest.raises(InputError, match=r"/elsewhere: redirected to file:///etc/passwd; allowed is HTTPS only"):
        get("elsewhere")
    for url in (f"http://localhost:{server.server_port}/good", "ftp://localhost/good", "file:///etc/passwd"):
        with pytest.raises(InputError, match=r"found a URL that is not HTTPS; allowed is HTTPS only"):
            fetch(
                [Download("file.bin", url, len(CONTENT), SHA256)],
                tmp_path / "resources",
                say=lambda _: None,
                progress=lambda *_: None,
            )
    assert server.asked["/good"] == before
    assert left(tmp_path) == []


def test_an_unknown_certificate_is_refused(get, tmp_path, monkeypatch):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(InputError, match=r"cannot be downloaded \(.*CERTIFICATE_VERIFY_FAILED"):
        get("good")
    assert left(tmp_path) == []


def test_nobody_at_the_other_end(get, server, trusting, tmp_path):
    download = Download("file.bin", "https://localhost:9/good", len(CONTENT), SHA256)  # the discard port
    with pytest.raises(InputError, match=r"cannot be downloaded \(.*refused\); expected is .*put there by hand"):
        fetch([download], tmp_path, say=lambda _: None, progress=lambda *_: None)


def test_no_room_is_said_before_anything_is_asked(get, server, tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 100_000))
    before = server.asked.total()
    with pytest.raises(InputError, match=r"resources: found 0\.1 MB free; needed are 0\.2 MB"):
        get("good")
    assert server.asked.total() == before


def test_a_folder_that_cannot_be_made_is_named(get, tmp_path):
    (tmp_path / "resources").write_bytes(b"a file")
    with pytest.raises(InputError, match=r"resources/sub/file\.bin: cannot be (read|written) \(Not a directory\)"):
        get("good")


def test_an_interrupted_download_leaves_nothing(get, tmp_path):
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get("good", progress=interrupt)
    assert left(tmp_path) == []


# --- the files that are offered -------------------------------------------------------------------------------------


def test_every_base_set_that_needs_files_can_be_fetched():
    assert set(DOWNLOADS) == {base.name for base in BASE_SETS.values() if base.needs_folder}
    paths = [file.path for files in DOWNLOADS.values() for file in files]
    assert len(set(paths)) == len(paths)
    for files in DOWNLOADS.values():
        for file in files:
            assert file.url.startswith("https://")
            assert file.url.endswith(f"/{Path(file.path).name}")
            assert re.fullmatch("[0-9a-f]{64}", file.sha256)
            assert 0 < file.size < 1 << 28
            # Nothing lands outside the folder of resources, and nothing is unpacked.
            assert not Path(file.path).is_absolute()
            assert ".." not in Path(file.path).parts


def test_mnist_is_known_by_the_right_checksums(shared_data):
    for file in DOWNLOADS["mnist"]:
        content = (shared_data / file.path).read_bytes()
        assert (len(content), hash_of(content)) == (file.size, file.sha256)


@pytest.mark.parametrize("overlay", sorted((CHECKOUT / "config").glob("*.yaml")), ids=lambda path: path.stem)
def test_files_land_where_configurations_look(overlay):
    for dataset in yaml.safe_load(overlay.read_text())["datasets"].values():
        if "folder" in dataset:
            for file in DOWNLOADS[dataset["base"]]:
                target = Path("resources") / file.path
                assert Path(dataset["folder"]) in (target, target.parent)


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def offered(server: Server, trusting: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two base sets of the local server's instead of the public ones."""
    url = f"https://localhost:{server.server_port}/"
    downloads = {
        "one": (Download("one/a.bin", f"{url}good", len(CONTENT), SHA256),),
        "two": (Download("two.bin", f"{url}changed", len(CONTENT), SHA256),),
    }
    monkeypatch.setattr(module, "DOWNLOADS", downloads)


def test_command(offered, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["fetch", "one", "one"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "\r" not in printed.out
    assert printed.out.splitlines()[1:] == ["1 files in resources, 1 downloaded, every checksum right"]
    assert (tmp_path / "resources/one/a.bin").read_bytes() == CONTENT
    assert main(["fetch", "one"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "resources/one/a.bin: already there, checksum right",
        "1 files in resources, 0 downloaded, every checksum right",
    ]
    assert main(["fetch", "one", "two", "--to", "other"]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("ncpipe fetch: https://localhost:")
    assert printed.err.count("\n") == 1
    assert [path.name for path in Path("other").rglob("*") if path.is_file()] == ["a.bin"]


def test_command_on_a_terminal_shows_how_far_it_is(offered, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert main(["fetch", "one"]) == 0
    assert re.search(r"\ra\.bin  100%  \d+\.\d MB/s  left 0:00\x1b\[K\n$", capsys.readouterr().err)


def test_an_error_on_a_terminal_has_a_line_of_its_own(offered, server, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("ncpipe.command.fetch._SECONDS", 0.0)
    url = f"https://localhost:{server.server_port}/truncated"
    monkeypatch.setattr(module, "DOWNLOADS", {"one": (Download("a.bin", url, len(CONTENT), SHA256),)})
    assert main(["fetch", "one"]) == 2
    printed = capsys.readouterr().err
    assert "\ra.bin" in printed
    assert printed.splitlines()[-1].startswith(f"ncpipe fetch: {url}: found 100000 bytes, then the end")


def test_command_without_a_base_lists_and_an_unknown_one_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["fetch"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(DOWNLOADS)
    assert main(["fetch", "digits"]) == 2
    assert capsys.readouterr().err == (
        "ncpipe fetch: BASE: found 'digits'; allowed are mnist, fashion_mnist, cifar10, svhn\n"
    )
    assert list(tmp_path.iterdir()) == []
