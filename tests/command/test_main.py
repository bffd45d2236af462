"""The command line: light to start, plain in what it says, honest in its exit code."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ncpipe import __version__
from ncpipe.command import main as cli
from ncpipe.command.main import main
from ncpipe.stores.files import digest_file, write_json, write_result
from ncpipe.stores.zarr import Array, EpochArray, EpochWriter, Store, write_store

MODULES_TO_HELP = 200


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A results folder with a data set, a finished run, and a run that is still training."""
    root = tmp_path / "results"
    data = root / "data/tiny"
    write_store(data / "images.zarr", {"images": Array(("sample",), np.arange(3), "images")}, attributes={})
    write_json(data / "manifest.json", {"store": "images.zarr", "store_digest": Store(data / "images.zarr").digest()})
    for name in ("finished", "running"):
        folder = root / "train" / name
        writer = EpochWriter.create(
            folder / "features.zarr", epochs=[0, 1], arrays={"x": EpochArray(("sample",), (4,), "float32", "x")},
            static={}, attributes={},
        )  # fmt: skip
        writer.write(0, {"x": np.arange(4)})
        if name == "finished":
            writer.write(1, {"x": np.arange(4)})
            digest = Store(folder / "features.zarr").digest()
            write_json(folder / "manifest.json", {"store": "features.zarr", "store_digest": digest})
    return root


@pytest.mark.parametrize("arguments", ["--help", "optimum --help", "verify --help"])
def test_help_imports_nothing_heavy(arguments: str) -> None:
    """So it is quick; benchmarks say how quick."""
    probe = (
        "import sys, ncpipe.command.main\n"
        f"try:\n    ncpipe.command.main.main({arguments.split()!r})\nexcept SystemExit:\n    pass\n"
        "print(*(m for m in ('torch', 'numpy', 'zarr', 'scipy', 'matplotlib', 'pandas', 'yaml') if m in sys.modules))\n"
        "print(len(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    *shown, heavy, modules = done.stdout.splitlines()
    assert shown[0].startswith("usage: ncpipe")
    assert heavy == ""
    assert int(modules) < MODULES_TO_HELP


def test_every_command_has_help(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    commands = [line.split()[0] for line in capsys.readouterr().out.splitlines() if re.match(r"    \w", line)]
    assert {"verify", "train", "show"} <= set(commands) - {"COMMAND"}
    for command in sorted(set(commands) - {"COMMAND"}):
        with pytest.raises(SystemExit) as caught:
            main([command, "--help"])
        assert caught.value.code == 0
        assert f"usage: ncpipe {command}" in capsys.readouterr().out


def test_version_and_no_command(capsys: pytest.CaptureFixture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ncpipe {__version__}\n"
    assert main([]) == 0
    assert "usage: ncpipe" in capsys.readouterr().out


def test_verify_finds_all_well(results: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["verify", str(results)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"ok    {results}/data/tiny/images.zarr",
        f"ok    {results}/train/finished/features.zarr",
        f"ok    {results}/train/running/features.zarr",
        "3 checked, 0 faults",
    ]


def test_verify_names_every_fault(results: Path, capsys: pytest.CaptureFixture) -> None:
    (results / "train/finished/features.zarr/x/c/1/0").unlink()
    shutil.rmtree(results / "data/tiny/images.zarr")
    write_json(results / "train/running/manifest.json", {"store": "features.zarr", "store_digest": "0" * 64})
    (results / "broken").mkdir()
    (results / "broken/manifest.json").write_text("{}")
    assert main(["verify", str(results)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:-1] == [
        f"FAULT {results}/broken/manifest.json: damaged, it lacks 'store'",
        f"FAULT {results}/data/tiny/images.zarr: no store here (zarr.json is missing)",
        f"FAULT {results}/train/finished/features.zarr: array 'x', epoch 1: missing or damaged (its values do not "
        "match the stored digest)",
        f"FAULT {results}/train/running/features.zarr: is not the store that {results}/train/running/manifest.json "
        "describes",
    ]
    assert lines[-1].endswith("4 faults")


def test_verify_checks_the_history_against_its_manifest(results: Path, capsys: pytest.CaptureFixture) -> None:
    folder = results / "train/finished"
    digest = Store(folder / "features.zarr").digest()
    write_json(folder / "manifest.json", {"store": "features.zarr", "store_digest": digest, "history_sha256": "0" * 64})
    (folder / "history.csv").write_text("epoch,learning_rate,loss\n")
    assert main(["verify", str(folder)]) == 1
    assert f"FAULT {folder}/history.csv: missing, or not the history" in capsys.readouterr().out


def test_verify_leaves_out_what_is_superseded(results: Path, capsys: pytest.CaptureFixture) -> None:
    aside = results / "train/finished/superseded"
    shutil.copytree(results / "train/running/features.zarr", aside / "features.zarr")
    write_json(aside / "manifest.json", {"store": "features.zarr", "store_digest": "0" * 64})
    assert main(["verify", str(results)]) == 0
    assert "3 checked" in capsys.readouterr().out
    # A results folder may itself lie under such a name.
    moved = results.rename(results.with_name("superseded"))
    assert main(["verify", str(moved)]) == 0
    assert "3 checked" in capsys.readouterr().out


def test_verify_checks_results_and_removes_what_is_damaged(results: Path, capsys: pytest.CaptureFixture) -> None:
    """A file from elsewhere is said to be unchecked, and stays; logs are not looked at."""
    kinds = ["theory/a/b/pal.json", "collapse/metrics.csv", "figures/x.svg", "figures/x.png", "report/index.html"]
    for name in kinds:
        write_result(results / name, b"content")
    (results / "logs").mkdir()
    (results / "notes.csv").write_text("mine")
    (results / "logs/x.csv").write_text("log")
    assert main(["verify", str(results)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [f"?     {results}/notes.csv: not checked, it has no digest", "8 checked, 0 faults"]
    assert {f"ok    {results / name}" for name in kinds} < set(lines)
    for name in kinds[:-1]:
        (results / name).write_bytes(b"c0ntent")
    (results / kinds[-1]).unlink()
    assert main(["verify", str(results), "--remove-damaged"]) == 1
    lines = capsys.readouterr().out.splitlines()
    for name in kinds[:-1]:
        assert f"FAULT {results / name}: damaged (it does not match {Path(name).name}.sha256 beside it)" in lines
    assert f"FAULT {results / kinds[-1]}: missing, its digest is still there" in lines
    for name in kinds:
        assert f"removed {results / name}; snakemake makes it again" in lines
        assert not (results / name).exists()
        assert not digest_file(results / name).exists()
    assert (results / "notes.csv").exists()
    assert main(["verify", str(results)]) == 0


def test_verify_of_nothing_is_an_error_not_a_success(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["verify", str(tmp_path)]) == 2
    assert "holds no store, no manifest and no digest" in capsys.readouterr().err


def test_verify_of_one_store(results: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["verify", str(results / "train/finished/features.zarr")]) == 0
    assert "1 checked, 0 faults" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["verify", "clean", "compare", "compare RESULTS"])
@pytest.mark.parametrize("found", ["nothing", "a file"])
def test_what_is_no_folder_is_one_line(results: Path, capsys: pytest.CaptureFixture, command: str, found: str) -> None:
    wrong = results / "wrong"
    if found == "a file":
        wrong.write_text("")
    write_json(results / "theory/tiny/pal.json", {})
    name, *others = command.split()
    operands = [*(str(results) for _ in others), str(wrong)]
    assert main([name, *operands, *([str(results)] if command == "compare" else [])]) == 2
    assert capsys.readouterr().err == f"ncpipe {name}: {wrong}: found {found}; allowed is a folder\n"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_what_the_system_refuses_is_one_line(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, number: int
) -> None:
    def refused(path: Path, missing_ok: bool = False) -> None:
        raise OSError(number, os.strerror(number), str(path))

    (results / "train/finished/features.zarr/x/c/1/0").unlink()
    monkeypatch.setattr(Path, "unlink", refused)
    assert main(["verify", str(results), "--remove-damaged"]) == 2
    manifest = results / "train/finished/manifest.json"
    assert capsys.readouterr().err == f"ncpipe verify: {manifest}: {os.strerror(number)}\n"


def test_ctrl_c_ends_without_a_traceback(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ncpipe.results.verify.verify_results", interrupted)
    assert main(["verify", str(results)]) == cli.EXIT_INTERRUPTED


def test_a_closed_pipe_is_quiet(results: Path) -> None:
    script = "import sys; from ncpipe.command.main import main; sys.exit(main(sys.argv[1:]))"
    with subprocess.Popen(
        [sys.executable, "-c", script, "verify", str(results)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == cli.EXIT_FAULT


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["verify"], "ncpipe verify: the following arguments are required: results; see ncpipe verify --help"),
        (
            ["spectrm"],
            "ncpipe: COMMAND: found 'spectrm'; did you mean 'spectrum'? allowed: verify, clean, compare, fetch,",
        ),
        (
            ["spectrum", "x.npz", "--jsn"],
            "ncpipe spectrum: unknown argument --jsn; did you mean '--json'?; see ncpipe ",
        ),
        (["--lambda-q"], "ncpipe: unknown argument --lambda-q; see ncpipe --help"),
        (["train", "a", "--threads", "0"], "ncpipe train: --threads: found 0; allowed: a whole number >= 1"),
        (["compare", "a", "b", "--tolerance", "-1"], "ncpipe compare: --tolerance: found -1; allowed: a number >= 0"),
    ],
)
def test_usage_errors_are_one_line(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith(line)
    assert printed.count("\n") == 1
