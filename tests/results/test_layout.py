"""Paths of a results folder: what is written under a name is found under it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ncpipe.experiment.plan import Run
from ncpipe.results.layout import RUN, Layout, sampling_names, theory_names


def test_a_run_lies_under_its_name():
    run = Run("digits", "step-0.2", "mlp", 3)
    assert RUN.format(dataset="digits", setting="step-0.2", network="mlp", seed=3) == run.name
    assert Layout("out").manifest("train", run.name) == "out/train/digits/step-0.2/mlp/seed-3/manifest.json"


def test_names_come_back_out_of_paths():
    for root in ("", "out", Path("/a b/out")):
        layout = Layout(root)
        assert theory_names(Path(layout.theory("d", "s.5", "pal"))) == ("d", "s.5", "pal")
        assert sampling_names(Path(layout.sampling("d", "s.5", "raw"))) == ("d", "s.5", "raw")


def test_rules_may_import_it():
    code = "import sys, ncpipe.results.layout; print(*sorted({'numpy', 'pandas', 'torch'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
