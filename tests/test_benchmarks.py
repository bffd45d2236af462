"""The benchmarks of training run: in small, on the CPU, so that a GPU finds no line that was never executed."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(script: str, monkeypatch: pytest.MonkeyPatch, *options: str, name: str = "__main__") -> dict[str, Any]:
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr(sys, "argv", [script, *options])
    return runpy.run_path(str(BENCHMARKS / script), run_name=name)


def tables(text: str) -> list[list[list[str]]]:
    """Markdown tables as rows of cells, the header first, without the rule under it."""
    found: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("|---"):
            continue
        if line.startswith("| "):
            found[-1].append([cell.strip() for cell in line.strip("|").split(" | ")])
        elif found[-1]:
            found.append([])
    return [table for table in found if table]


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_gpu_benchmark_measures_everything_in_small_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    run("gpu.py", monkeypatch, "--cpu-smoke")
    output = capsys.readouterr()
    assert output.err.startswith("gpu.py: left out: precision: found 'tf32' on a CPU")
    peaks, speeds, plain, deterministic, epochs, jobs = tables(output.out)
    for table in (peaks, speeds, plain, deterministic, epochs, jobs):
        assert len({len(row) for row in table}) == 1, table
        for row in table[1:]:
            for cell in row[1:]:
                assert cell in ("–", "float32", "bfloat16") or float(cell.rstrip(" %").replace(",", "")) >= 0
    assert [row[0] for row in peaks[1:]] == ["float32", "bfloat16"]
    assert [row[1] for row in speeds[1:]] == ["float32", "bfloat16"]
    assert [row[0] for row in jobs[1:]] == ["1", "2"]
    assert "airbench" in output.out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_gpu_benchmark_without_a_gpu_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="torch sees no CUDA device here; allowed: a machine with one, or --cpu-smoke"):
        run("gpu.py", monkeypatch)


def test_training_benchmark_compares_loops_epochs_and_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = run("training.py", monkeypatch, name="training")
    tiny = script["Workload"]("tiny", {"architecture": "cnn", "width": 2}, (8, 8, 1), 80, 20, 32)
    monkeypatch.setitem(script["compare_steps"].__globals__, "SECONDS_EACH", 0.0)
    for row, cells in (
        (script["compare_steps"](tiny, 1), 6),
        (script["compare_epochs"](tiny, 1, tmp_path / "a"), 7),
    ):
        name, *numbers = row.strip("| ").split(" | ")
        assert (name, len(numbers)) == ("tiny", cells - 1)
        assert all(float(number.rstrip(" %").replace(",", "")) > 0 for number in numbers)
    imported, peak = script["peak_memory"](tiny, tmp_path / "b")
    assert 0 < imported <= peak


def test_operations_are_those_counted_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two a multiplication; forward once, backward twice, but not into the pixels."""
    loops = run("loops.py", monkeypatch, name="loops")
    mlp = loops["Workload"]("mlp", {"architecture": "mlp", "hidden": [7], "features": 5}, (4, 4, 3), 8, 2)
    assert loops["training_gflop"](mlp) * 1e9 == pytest.approx(2 * (48 * 7 * 2 + 7 * 5 * 3))


def test_threads_benchmark_compares_one_thread_with_the_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    run("threads.py", monkeypatch, "--classes", "4", "--neighbours", "1")
    (table,) = tables(capsys.readouterr().out)
    assert [row[:2] for row in table[1:]] == [["4", "0"], ["4", "1"]]
    assert all(float(row[5]) > 0 for row in table[1:])
