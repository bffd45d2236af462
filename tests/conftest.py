"""Synthetic results in the layout and the tidy formats of the pipeline, for the tests of figures and report."""

from __future__ import annotations

import os

# Networks of one to seven channels are trained here, with and without the switches of a run. oneDNN's gradients of
# such convolutions abort on CPUs without AVX-512 (`ncpipe.train.arithmetic` says which), unless it is told to use
# plainer instructions before torch is imported.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "SSE41")

import json
import logging
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, settings

# The same cases on every run and every machine, however busy: a failure is always a change of the code.
settings.register_profile(
    "ncpipe", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ncpipe")

CLASSES = 6
SETTINGS = {
    "balanced": {"profile": "balanced"},
    "step-0.2": {"profile": "step", "ratio": 0.2},
    "step-0.1": {"profile": "step", "ratio": 0.1},
    "step-0.1-equal-steps": {"profile": "step", "ratio": 0.1, "budget": "steps"},
    "exponential-0.1": {"profile": "exponential", "ratio": 0.1},
}
NETWORKS = {
    "cnn": {"architecture": "cnn", "objective": "pal", "recipe": "cnn"},
    "mlp": {"architecture": "mlp", "objective": "pal", "recipe": "mlp"},
    "ufm": {"architecture": "ufm", "objective": "pal", "recipe": "ufm"},
}
SEEDS = {"cnn": range(5), "mlp": range(5), "ufm": range(1)}
EPOCHS = (0, 1, 2, 4, 8, 16, 32, 64, 80)
# Start and end of each metric's decay when balanced, and by how much imbalance raises the end.
DECAYS = {
    "nc1": (30.0, 0.03, 0.4),
    "nc2_w": (1.1, 0.05, 1.4),
    "nc2_h": (0.9, 0.06, 1.1),
    "nc3": (1.2, 0.03, 0.3),
    "angle": (0.9, 0.02, 0.5),
    "tagwise_residual": (0.8, 0.03, 0.5),
    "tagwise_residual_per_set": (0.7, 0.02, 0.5),
    "gap": (2.0, 0.02, 0.1),
    "gap_reference": (1.99, 0.004, 0.1),
    "total_variation": (0.7, 0.03, 0.2),
    "residual_sigma_max": (4.0, 1.02, 0.01),
}
PER_MULTIPLICITY = {"angle", "tagwise_residual", "tagwise_residual_per_set"}
VARIED = {"nc1", "nc2_h", "nc3"}


def label_counts(setting: dict, classes: int = CLASSES) -> dict[tuple[int, ...], int]:
    """140 samples of each class, thinned as the profile says, and 20 of each pair."""
    ratio, position = setting.get("ratio", 1.0), np.arange(classes)
    share = {
        "balanced": np.ones(classes),
        "uniform": np.full(classes, ratio),
        "step": np.where(position < classes // 2, 1.0, ratio),
        "exponential": ratio ** (position / (classes - 1)),
    }[setting["profile"]]
    counts = {(k,): round(140 * share[k]) for k in range(classes)}
    return counts | dict.fromkeys(combinations(range(classes), 2), 20)


def spectrum_of(moment: np.ndarray) -> dict:
    """Eigenvalues on the contrast space and the weakest contrast of a K x K moment matrix."""
    classes = len(moment)
    values, vectors = np.linalg.eigh(moment + np.full_like(moment, 10.0))
    values, vectors = values[:-1], vectors[:, :-1]
    order = np.argsort(values)[::-1]
    weakest = vectors[:, order[-1]]
    names = [f"class {k}" for k in range(classes)]
    sides = [[n for n, v in zip(names, weakest, strict=True) if sign * v > 0.2] for sign in (1, -1)]
    return {
        "kappa": float(values[order[-1]]),
        "kappa_max": float(values[order[0]]),
        "anisotropy": float(max(0.0, round(1 - values[order[-1]] / values[order[0]], 12))),
        "eigenvalues": values[order].tolist(),
        "weakest": {"contrast": weakest.tolist(), "classes": sides},
    }


def theory_payload(setting: dict) -> dict:
    """What the theory stage writes, with made-up optima around a real spectrum."""
    counts = label_counts(setting)
    sets = sorted(counts, key=lambda s: (len(s), s))
    hot = np.array([[float(k in s) for k in range(CLASSES)] for s in sets])
    n, sizes = np.array([counts[s] for s in sets], float), hot.sum(axis=1)
    centre = np.eye(CLASSES) - 1 / CLASSES
    multiplicities = []
    for m in (1, 2):
        rows, weights = hot[sizes == m] @ centre, n[sizes == m]
        entry = spectrum_of((rows * weights[:, None]).T @ rows / weights.sum())
        share = {"m": m, "samples": float(weights.sum()), "share": float(weights.sum() / n.sum())}
        multiplicities.append({**entry, **share, "kappa_covariance": entry["kappa"]})
    targets = hot / sizes[:, None] @ centre
    pooled = spectrum_of((targets * n[:, None]).T @ targets / n.sum())
    imbalance = 1 - setting.get("ratio", 1.0)
    nothing = {"weight": [], "bias": [], "prototypes": [], "probabilities": []}  # neither drawn nor judged
    return {
        "distribution": {
            "classes": CLASSES,
            "samples": float(n.sum()),
            "unlabelled": 0,
            "class_names": [f"class {k}" for k in range(CLASSES)],
            "label_sets": [list(s) for s in sets],
            "counts": n.tolist(),
        },
        "objective": {"target": "normalised", "lambda_w": 5e-4, "lambda_h": 0.256, "lambda_b": 5e-4, "bias": True},
        "spectrum": {"multiplicities": multiplicities, "pooled": pooled},
        "optimum": {
            "objective": 0.49 + 0.1 * imbalance,
            "dual_bound": 0.49 + 0.1 * imbalance - 1e-9,
            "relative_gap": 2e-9,
            "certified": True,
            "rank": CLASSES - 1,
            **nothing,
        },
        "relu": {
            "objective": 0.506 + 0.1 * imbalance,
            "lower_bound": 0.5059 + 0.1 * imbalance,
            "relative_gap": 2e-4,
            "certified": True,
            **nothing,
        },
        "bound": {"value": 0.48 + 0.08 * imbalance, "ratio": (0.48 + 0.08 * imbalance) / (0.49 + 0.1 * imbalance)},
        "laws": {
            "spectral": [
                {"multiplicity": 1, "left": 0.3, "right": 0.29, "tightness": 0.97},
                {"multiplicity": None, "left": 0.28, "right": 0.279, "tightness": 0.996},
            ]
        },
        "synthesis": [],
        "tagwise": [{"multiplicity": 2, "residual": 0.03 * imbalance, "residual_per_set": 0.02 * imbalance}],
    }


def metric_records(dataset: str, name: str, setting: dict, network: str, rng: np.random.Generator) -> list[tuple]:
    """Decays from start to end over epochs, a little different for every seed."""
    imbalance = 1 - setting.get("ratio", 1.0)
    progress = np.log1p(EPOCHS) / np.log1p(EPOCHS[-1])
    records = []
    for seed in SEEDS[network]:
        for metric, (start, end, raised) in DECAYS.items():
            last = end * np.exp(raised * imbalance) * np.exp(0.04 * rng.standard_normal())
            values = np.exp(np.log(start) * (1 - progress) + np.log(last) * progress)
            m = 2 if metric in PER_MULTIPLICITY else ""
            for variant in ("definition", "li2024") if metric in VARIED else ("",):
                shift = 1.3 if variant == "li2024" else 1.0
                key = (dataset, name, network, seed)
                records += [
                    (*key, e, "train", metric, variant, m, v * shift) for e, v in zip(EPOCHS, values, strict=True)
                ]
        objective = 0.51 + 0.1 * imbalance + 1.5 * np.exp(-np.array(EPOCHS) / 8) + 1e-3 * rng.random()
        error = 0.9 * np.exp(-np.array(EPOCHS) / 6)
        for metric, values in (("objective", objective), ("error", error)):
            records += [
                (dataset, name, network, seed, e, "train", metric, "", "", v)
                for e, v in zip(EPOCHS, values, strict=True)
            ]
    return records


def synthesis_records(dataset: str, name: str, network: str, seeds: list, rng: np.random.Generator) -> list[tuple]:
    """Fits that a network with γ near -0.1 would give."""
    residuals = {
        "free": 0.012, "shared": 0.014, "uniform": 0.030, "proportional": 0.45, "inverse": 0.35,
        "fitted": 0.021, "permuted": 0.029,
    }  # fmt: skip
    gammas = {"raw": -0.03, "unit": -0.13, "centred": -0.05, "classifier": -0.28}
    records = []
    for seed in seeds:
        for basis, gamma in gammas.items():
            for frequency, factor in (("multiplicity_one", 1.0), ("total", 2.28)):
                for hypothesis, residual in residuals.items():
                    value = residual * np.exp(0.05 * rng.standard_normal())
                    identified = name != "balanced"
                    fit = (gamma * factor + 0.01 * rng.standard_normal(),) if hypothesis == "fitted" else ("",)
                    if hypothesis == "fitted" and identified:
                        interval: tuple = (fit[0], fit[0] - 0.02, fit[0] + 0.02)
                    else:
                        interval = ("", "", "")
                    reason = "" if identified else "equal counts"
                    key = (dataset, name, network, seed, basis, frequency, 2, hypothesis)
                    records.append((*key, *interval, value, 1.1 * value, identified, reason))
    return records


def write_results(root: Path, datasets: tuple[str, ...] = ("mlab_digits", "mlab_mnist5k")) -> SimpleNamespace:
    """Write every table and theory file below `root`; return their paths and the configuration behind them."""
    rng = np.random.Generator(np.random.PCG64(3))
    metrics, synthesis, optimum, theory, manifests = [], [], [], [], []
    for dataset in datasets:
        for name, setting in SETTINGS.items():
            path = root / "theory" / dataset / name / "pal.json"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(theory_payload(setting)))
            theory.append(path)
            imbalance = 1 - setting.get("ratio", 1.0)
            for reference, scale in (("convex", 0.2), ("relu", 0.25)):
                for metric in ("nc1", *DECAYS):
                    value = 0.0 if metric == "nc1" else scale * imbalance
                    for variant in ("definition", "li2024") if metric in VARIED else ("",):
                        m = 2 if metric in PER_MULTIPLICITY else ""
                        optimum.append((dataset, name, "pal", reference, metric, variant, m, value))
            synthesis += synthesis_records(dataset, name, "optimum", [""], rng)
            for network in NETWORKS:
                metrics += metric_records(dataset, name, setting, network, rng)
                synthesis += synthesis_records(dataset, name, network, list(SEEDS[network]), rng)
                for seed in SEEDS[network]:
                    manifests.append(write_manifest(root, dataset, name, network, seed))
    columns = {
        "metrics": "dataset setting network seed epoch split metric variant multiplicity value",
        "optimum": "dataset setting objective reference metric variant multiplicity value",
        "synthesis": "dataset setting network seed basis frequency multiplicity hypothesis gamma gamma_low gamma_high "
        "residual loo_residual identified reason",
    }  # fmt: skip
    paths = {}
    (root / "collapse").mkdir()
    for table, records in (("metrics", metrics), ("optimum", optimum), ("synthesis", synthesis)):
        paths[table] = root / "collapse" / f"{table}.csv"
        pd.DataFrame(records, columns=columns[table].split()).drop_duplicates().to_csv(paths[table], index=False)
    return SimpleNamespace(root=root, theory=theory, manifests=manifests, settings=SETTINGS, networks=NETWORKS, **paths)


def write_manifest(root: Path, dataset: str, setting: str, network: str, seed: int) -> Path:
    """Write a manifest of a training run, as the train stage does."""
    path = root / "train" / dataset / setting / network / f"seed-{seed}" / "manifest.json"
    path.parent.mkdir(parents=True)
    counts = {"+".join(map(str, s)): n for s, n in label_counts(SETTINGS[setting]).items()}
    settings = {
        "run": {"dataset": dataset, "setting": setting, "network": network, "seed": seed},
        "network": NETWORKS[network],
        "counts": counts,
        "epochs": EPOCHS[-1],
        "recipe": {"epochs": EPOCHS[-1], "batch": 64},
    }
    versions = {"python": "3.11.2", "torch": "2.13.0", "ncpipe": "0.1.0", "device": "cpu", "threads": 1}
    payload = {
        "kind": "train",
        "identity": {"settings": settings, "algorithm_version": 1, "data": "0" * 64},
        "environment": versions,
        "epochs": list(EPOCHS),
    }
    path.write_text(json.dumps(payload))
    return path


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Synthetic results of two data sets, five settings and three networks, written once."""
    return write_results(tmp_path_factory.mktemp("synthetic") / "results")


@pytest.fixture
def log() -> logging.Logger:
    return logging.getLogger("test")


@pytest.fixture
def tiny_spec() -> dict[str, Any]:
    return {
        "dataset": "tiny",
        "base": "digits",
        "folder": None,
        "style": "mnist",
        "placement": "reference",
        "train_counts": [5, 3],
        "test_counts": [2, 1],
        "seed": 0,
    }
