"""What lies in a data or results folder is read, never run; archives write nothing; one module reaches the network."""

from __future__ import annotations

import ast
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncpipe.data import readers as base_readers
from ncpipe.errors import InputError, StoreError
from ncpipe.labels.files import read_labels
from ncpipe.stores.files import write_sealed
from ncpipe.train.state import load_state

REPOSITORY = Path(__file__).parents[1]
SOURCES = sorted([*(REPOSITORY / "src").rglob("*.py"), *(REPOSITORY / "workflow/scripts").glob("*.py")])
# Modules that run what they read, start programs, or reach the network.
FORBIDDEN_MODULES = {
    "pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "subprocess", "urllib", "http", "ftplib",
    "requests", "urllib3", "pooch", "httpx", "aiohttp",
}  # fmt: skip
NETWORK = {"src/ncpipe/data/fetch.py": {"requests", "urllib3", "pooch"}}  # tests/data/test_fetch.py says how it behaves
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "torch.load", "torch.save", "pd.read_pickle", "yaml.load", "os.system",
    "os.popen", "joblib.load", "archive.extract", "archive.extractall", "shutil.unpack_archive",
}  # fmt: skip


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_nothing_read_is_run_and_nothing_else_reaches_the_network(path: Path) -> None:
    tree = ast.parse(path.read_text())
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and node.level == 0
            else []
        )
    }
    assert imported & FORBIDDEN_MODULES == NETWORK.get(str(path.relative_to(REPOSITORY)), set())
    for name, call in calls(tree):
        assert name not in FORBIDDEN_CALLS, ast.unparse(call)
        if name in ("np.load", "numpy.load"):
            allowed = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            assert allowed.get("allow_pickle") == "False", ast.unparse(call)


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def pickled(marker: Path) -> np.ndarray:
    return np.array([Bomb(marker)], dtype=object)


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """A folder that must not come to be; it would, if somebody unpickled."""
    marker = tmp_path / "exploded"
    np.load(_file({"x": pickled(marker)}), allow_pickle=True)["x"]
    assert marker.is_dir()  # the bomb works
    marker.rmdir()
    yield marker
    assert not marker.exists()


def _file(arrays: dict[str, np.ndarray]) -> io.BytesIO:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    buffer.seek(0)
    return buffer


def test_a_pickle_in_a_resume_state_is_not_run(marker: Path, tmp_path: Path) -> None:
    """Not even in one whose digest is right."""
    header = np.frombuffer(json.dumps({"state_version": 1}).encode(), np.uint8)
    path = tmp_path / "state.npz"
    write_sealed(path, _file({"header": header, "weight": pickled(marker)}).getvalue())
    with pytest.raises(StoreError, match="allow_pickle=False"):
        load_state(path)


@pytest.mark.parametrize("suffix", ["npz", "npy"])
def test_a_pickle_in_a_label_file_is_not_run(marker: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"labels.{suffix}"
    if suffix == "npz":
        path.write_bytes(_file({"labels": pickled(marker)}).getvalue())
    else:
        np.save(path, pickled(marker), allow_pickle=True)
    with pytest.raises(InputError, match=r"labels\.np"):
        read_labels(path)


@pytest.mark.parametrize("name", ["../escaped", "{root}/escaped", "cifar-10-batches-bin/../../escaped"])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_an_archive_writes_nothing_anywhere(tmp_path: Path, name: str, kind: bytes) -> None:
    """Its members are read in memory, by name; traversal, absolute names and links have nothing to act on."""
    archive = tmp_path / "inner" / "cifar-10-binary.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo(name.format(root=tmp_path))
        member.type = kind
        if kind == tarfile.REGTYPE:
            member.size = 4
        else:
            member.linkname = "/etc/passwd"
        tar.addfile(member, io.BytesIO(b"evil"))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="found no cifar-10-batches-bin"):
        base_readers.read_cifar10(archive, classes=10)
    assert sorted(tmp_path.rglob("*")) == before
