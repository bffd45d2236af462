"""Time and memory of planning a sweep, by its number of runs: ``python benchmarks/scale.py [--quick]``.

Runs ``snakemake --dry-run`` on sweeps of 10, 100, 1,000 and 10,000 runs (``--quick``: up to 1,000) with nothing made
yet, and prints a markdown table. The part that is ours (checking the configuration and planning its runs) is measured
apart, in this process.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from ncpipe.experiment import plan
from ncpipe.experiment.reading import check, load_config

CHECKOUT = Path(__file__).parents[1]
SIZES = (10, 100, 1_000, 10_000)
GOAL_RUNS, GOAL_SECONDS = 1_000, 10.0
SETTINGS = ["balanced", "step-0.2", "step-0.1", "uniform-0.55", "exponential-0.1"]


def overlay(runs: int) -> dict:
    """A sweep over settings and seeds of one network."""
    seeds = list(range(runs // len(SETTINGS)))
    selection = {"datasets": ["mlab_digits"], "settings": SETTINGS, "networks": ["mlp"], "seeds": seeds}
    return {"results": "results-scale", "device": "cpu", "runs": [selection]}


def own_seconds(path: Path) -> float:
    """CPU seconds to check the configuration and to list the settings of every run."""
    config = load_config(CHECKOUT / "config.yaml", path)
    began = time.process_time()
    check(config)
    for run in plan.plan_runs(config):
        plan.train_settings(config, run)
    return time.process_time() - began


def dry_run(path: Path, folder: Path) -> tuple[float, float]:
    """CPU seconds of a dry run, and its peak memory in MB."""
    command = [sys.executable, "-m", "snakemake", "-s", str(CHECKOUT / "Snakefile"), "--directory", str(folder)]
    process = subprocess.Popen(
        [*command, "--configfile", str(path), "--dry-run", "--quiet", "all"], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"the dry run failed with status {status}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="up to 1,000 runs")
    sizes = SIZES[:-1] if parser.parse_args().quick else SIZES
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}; CPU seconds\n")
    print("| runs | jobs | dry run, s | of it ncpipe, s | ms per run | memory, MB |")
    print("|---:|---:|---:|---:|---:|---:|")
    for runs in sizes:
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "sweep.yaml"
            path.write_text(yaml.safe_dump(overlay(runs)), encoding="utf-8")
            seconds, memory = dry_run(path, Path(name))
            own = own_seconds(path)
        times = f"{seconds:.1f} | {own:.2f} | {1000 * seconds / runs:.1f}"
        print(f"| {runs:,} | {2 * runs:,} + ≈ 20 | {times} | {memory:.0f} |", flush=True)
        if runs == GOAL_RUNS:
            verdict = "met" if seconds < GOAL_SECONDS else "missed"
            print(f"goal of {GOAL_SECONDS:.0f} s for {GOAL_RUNS:,} runs: {verdict}", file=sys.stderr)


if __name__ == "__main__":
    main()
