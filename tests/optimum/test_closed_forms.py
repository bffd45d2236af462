"""Closed forms against the certified optimum: exponents of synthesis (25), the limit λ → 0 (27), MSE (28)."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncpipe.errors import InputError
from ncpipe.geometry.metrics import simplex_distance
from ncpipe.geometry.synthesis import fit_synthesis, tagwise_residuals
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.settings import Objective
from ncpipe.optimum.closed_forms import (
    BASES,
    PairLabels,
    exponent_crossing,
    exponent_limits,
    mse_optimum,
    synthesis_exponents,
)
from ncpipe.optimum.optimum import solve
from ncpipe.optimum.seli import label_limit, limit_contrast


def fitted(classes: int, counts: tuple[float, float], target: str, lam: float) -> dict[str, float]:
    """γ̂ at the certified optimum of an imbalance of 1e-3."""
    singles = {(k,): counts[0] * (1 + 1e-3 * e) for k, e in enumerate(np.linspace(-1, 1, classes))}
    pairs = dict.fromkeys(combinations(range(classes), 2), counts[1])
    labels = LabelDistribution.from_counts({**singles, **pairs}, classes)
    optimum = solve(labels, Objective(target, lam, lam, use_bias=False), rtol=1e-13)
    records = fit_synthesis(optimum.prototypes, optimum.weight, labels, replicates=2, permutations=2)
    return {
        record["basis"]: record["gamma"]
        for record in records
        if record["hypothesis"] == "fitted" and record["frequency"] == "multiplicity_one"
    }


@pytest.mark.parametrize("share", [0.05, 0.3, 0.8])
@pytest.mark.parametrize(
    ("classes", "counts", "target"),
    [
        (3, (100, 40), "normalised"),
        (4, (50, 60), "raw"),
        (6, (100, 30), "normalised"),
        (10, (3100, 200), "normalised"),
        (10, (300, 200), "raw"),
    ],
)
def test_exponents_are_those_of_the_certified_optimum(classes, counts, target, share):
    single = classes * counts[0]
    labels = PairLabels(classes, single / (single + classes * (classes - 1) / 2 * counts[1]), target)
    lam = share * labels.critical
    stated, measured = synthesis_exponents(labels, lam), fitted(classes, counts, target, lam)
    for basis in BASES:
        assert stated[basis] == pytest.approx(measured[basis], abs=1e-4)


def test_crossings_and_limits_at_the_reference_counts():
    labels = PairLabels(10, 0.775)
    assert labels.critical**2 == pytest.approx(0.0875)
    crossings = {basis: exponent_crossing(labels, basis) for basis in BASES}
    assert crossings["classifier"] is None
    assert [crossings[b] for b in ("raw", "centred", "unit")] == pytest.approx([0.1137, 0.1317, 0.1562], abs=5e-5)
    for basis in ("raw", "centred", "unit"):
        assert synthesis_exponents(labels, 0.99 * crossings[basis])[basis] < 0
        assert synthesis_exponents(labels, 1.01 * crossings[basis])[basis] > 0
    assert exponent_crossing(PairLabels(10, 0.775, "raw"), "raw") is None

    limits = exponent_limits(labels)
    far, near = (synthesis_exponents(labels, lam) for lam in (1e-8, 1e-20))
    for basis in BASES:
        assert abs(near[basis] - limits[basis]) < 0.6 * abs(far[basis] - limits[basis]) < 0.03
    last = synthesis_exponents(labels, labels.critical * (1 - 1e-5))
    assert 0 < last["raw"] < 1e-3
    assert last["unit"] > 10


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"classes": 2}, "classes: found 2"),
        ({"single_share": 1.0}, "single_share: found 1.0"),
        ({"single_share": float("nan")}, "single_share: found nan"),
        ({"target": "normalized"}, "did you mean 'normalised'"),
    ],
)
def test_other_distributions_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        PairLabels(**{"classes": 10, "single_share": 0.5, **values})


@pytest.mark.parametrize("lam", [0.0, -1.0, 0.2958040, 1.0, float("nan")])
def test_a_penalty_that_collapses_everything_is_refused(lam):
    with pytest.raises(InputError, match="lam: found"):
        synthesis_exponents(PairLabels(10, 0.775), lam)


def random_labels(seed: int) -> LabelDistribution:
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(3, 6))
    every = [s for m in range(1, classes) for s in combinations(range(classes), m)]
    chosen = rng.choice(len(every), size=min(len(every), int(rng.integers(classes, 12))), replace=False)
    counts = {every[i]: float(n) for i, n in zip(chosen, rng.integers(1, 60, len(chosen)), strict=True)}
    return LabelDistribution.from_counts(counts, classes)


@pytest.mark.parametrize("bias", ["none", "free"])
@pytest.mark.parametrize("target", ["normalised", "raw"])
@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), lam=st.floats(1e-3, 0.5))
def test_mse_in_one_decomposition_is_the_certified_optimum(target, bias, seed, lam):
    labels = random_labels(seed)
    objective = Objective(target, lam, lam, use_bias=bias == "free", loss="mse")
    stated, certified = mse_optimum(labels, objective), solve(labels, objective, rtol=1e-10)
    assert stated.objective == pytest.approx(certified.objective, abs=1e-9)
    assert np.allclose(stated.contrasts + stated.bias, certified.logits, atol=2e-4)
    # h_S = A (t_S − b): exact tag-wise averaging, whatever the frequencies
    assert np.allclose(stated.contrasts, (objective.targets(labels) - stated.bias) @ stated.synthesis)


def test_under_mse_tagwise_averaging_is_exact_for_unequal_labels():
    counts = {(0,): 90, (1,): 20, (2,): 3, (3,): 1, (0, 1): 7, (1, 2): 40, (0, 3): 2}
    labels = LabelDistribution.from_counts(counts, 4)
    stated = mse_optimum(labels, Objective("normalised", 0.01, 0.01, use_bias=False, loss="mse"))
    assert tagwise_residuals(stated.contrasts, labels, 2).residual < 1e-12


def test_mse_in_closed_form_refuses_what_has_none():
    labels = random_labels(1)
    with pytest.raises(InputError, match=r"objective\.loss: found 'pal'"):
        mse_optimum(labels, Objective("normalised", 0.1, 0.1, use_bias=False))
    with pytest.raises(InputError, match="bias"):
        mse_optimum(labels, Objective("normalised", 0.1, 0.1, 0.1, loss="mse"))


@pytest.mark.parametrize(("loss", "lams"), [("pal", (1e-4, 1e-6)), ("bce", (1e-4, 1e-6))])
def test_the_limit_is_the_labels_exactly_where_the_condition_says_so(loss, lams):
    """Decided by where the certified optimum goes: the distance to the labels falls like 1/ln(1/λ), or not at all."""
    outcomes = []
    for seed in range(24):
        labels = random_labels(seed)
        limit = label_limit(labels, loss)
        if np.isnan(limit.margin) or abs(limit.margin) < 0.05:
            continue
        hot = labels.multi_hot()
        wanted = hot - hot.mean(axis=1, keepdims=True) if loss == "pal" else 2 * hot - 1
        distances = []
        for lam in lams:
            objective = Objective("raw", lam, lam, use_bias=False, loss=loss)
            logits = solve(labels, objective, rtol=1e-11).logits
            logits = logits - logits.mean(axis=1, keepdims=True) if loss == "pal" else logits
            scale = (logits * wanted).sum() / (wanted**2).sum()
            distances.append(np.linalg.norm(logits / scale - wanted) / np.linalg.norm(wanted))
        tends = distances[1] < 0.75 * distances[0]
        outcomes.append((limit.holds, tends, distances))
    assert {holds for holds, *_ in outcomes} == {True, False}
    assert [holds for holds, *_ in outcomes] == [tends for _, tends, _ in outcomes]


def test_the_limit_holds_for_any_single_counts_where_pairs_are_alike_and_its_geometry_is_approached():
    rng = np.random.default_rng(3)
    for _ in range(20):
        singles = {(k,): float(n) for k, n in enumerate(rng.integers(1, 1000, 5))}
        alike = LabelDistribution.from_counts({**singles, **dict.fromkeys(combinations(range(5), 2), 7.0)}, 5)
        assert label_limit(alike).holds
    counts = {(k,): 3100 if k < 5 else 620 for k in range(10)} | dict.fromkeys(combinations(range(10), 2), 200)
    labels = LabelDistribution.from_counts(counts, 10)
    goal = simplex_distance(label_limit(labels).gram_classifier)
    assert goal == pytest.approx(0.173, abs=1e-3)
    reached = []
    for lam in (0.0113137, 1e-7):
        weight = solve(labels, Objective("normalised", lam, lam, use_bias=False), rtol=1e-9).weight
        reached.append(simplex_distance(weight @ weight.T))
    assert reached == pytest.approx([0.260, 0.201], abs=1e-3)
    smallest = solve(labels, Objective("raw", 1e-7, 1e-7, use_bias=False), rtol=1e-9).singular_values[8]
    assert smallest / np.log(1e7) == pytest.approx(np.sqrt(limit_contrast(labels)), rel=0.15)
