"""The reference setting of the theory: metric values at certified optima, and networks against their bounds."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncpipe.geometry.metrics import angle_metric, collapsed, condense, nc1, nc2_h, nc2_w, nc3, weakest_contrast
from ncpipe.geometry.optimality import residual_spectrum
from ncpipe.geometry.synthesis import fit_synthesis, geometry_bound
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.settings import Objective
from ncpipe.objective.terms import network_terms
from ncpipe.optimum.optimum import solve

PAPER = Objective("normalised", 5e-4, 0.256, 5e-4)


def reference(ratio, *, classes=10, uniform=False):
    """3,100 per class times `ratio` on half of the classes (or all), 200 per pair."""
    singles = {(k,): round(3100 * (ratio if uniform or k >= classes // 2 else 1)) for k in range(classes)}
    return LabelDistribution.from_counts(singles | dict.fromkeys(combinations(range(classes), 2), 200), classes)


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (0.2, {"nc2_w": 0.222, "nc2_h": 0.193, "nc3": 0.019, "angle": 0.020, "nc3 li2024": 0.193}),
        (0.1, {"nc2_w": 0.269, "nc2_h": 0.232, "nc3": 0.026, "angle": 0.0245}),
    ],
)
def test_metrics_at_the_optimum_with_bias(ratio, expected):
    """Claim 6: even the optimum's metrics grow with imbalance, and most of Li's NC3 is bookkeeping."""
    distribution = reference(ratio)
    optimum = solve(distribution, PAPER)
    c = collapsed(optimum.prototypes, distribution)
    found = {
        "nc2_w": nc2_w(optimum.weight),
        "nc2_h": nc2_h(c, "definition"),
        "nc3": nc3(optimum.weight, c, "definition"),
        "nc3 li2024": nc3(optimum.weight, c, "li2024"),
        "angle": angle_metric(c, 2),
    }
    for metric, value in expected.items():
        assert found[metric] == pytest.approx(value, abs=5.1e-4), metric
    assert nc1(c, "definition") == 0


@pytest.mark.parametrize(("ratio", "uniform"), [(1.0, False), (0.2, True)])
def test_balanced_within_each_multiplicity_is_perfect_collapse(ratio, uniform):
    """Li's theorem: simplex ETF and exact tag-wise averaging, so no frequency weighting can be identified."""
    distribution = reference(ratio, uniform=uniform)
    optimum = solve(distribution, PAPER)
    c = collapsed(optimum.prototypes, distribution)
    assert nc2_w(optimum.weight) == pytest.approx(0, abs=1e-6)
    assert nc2_h(c, "definition") == pytest.approx(0, abs=1e-6)
    assert nc3(optimum.weight, c, "definition") == pytest.approx(0, abs=1e-6)
    assert angle_metric(c, 2) == pytest.approx(0, abs=1e-6)
    assert weakest_contrast(optimum.weight).value == pytest.approx(1, abs=1e-6)
    fits = fit_synthesis(optimum.prototypes, optimum.weight, distribution, replicates=10, permutations=2)
    fitted = [record for record in fits if record["hypothesis"] == "fitted"]
    assert fitted
    assert all(not record["identified"] or abs(record["gamma"]) < 1e-6 for record in fitted)


@pytest.mark.parametrize(("ratio", "tightness"), [(1.0, 1.0), (0.2, 0.9866), (0.1, 0.9834)])
def test_geometry_bound_at_the_optimum(ratio, tightness):
    distribution = reference(ratio)
    found = geometry_bound(solve(distribution, PAPER).prototypes, distribution, 2)
    assert found is not None
    assert found.tightness == pytest.approx(tightness, abs=5.1e-5)
    assert found.sigma >= found.bound - 1e-12


@st.composite
def distributions(draw):
    """K = 3 or 4, random counts of multiplicity one and two."""
    classes = draw(st.integers(3, 4))
    sets = [(k,) for k in range(classes)] + list(combinations(range(classes), 2))
    counts = draw(st.lists(st.integers(1, 30), min_size=len(sets), max_size=len(sets)))
    return LabelDistribution.from_counts(dict(zip(sets, counts, strict=True)), classes)


objectives = st.builds(
    Objective,
    st.sampled_from(["normalised", "raw"]),
    st.floats(1e-3, 0.1),
    st.floats(1e-3, 0.1),
    st.sampled_from([0.0, 1e-2]),
    st.booleans(),
)


@settings(max_examples=40, deadline=None)
@given(distributions(), objectives, st.integers(0, 10**6), st.integers(1, 5), st.floats(0, 3))
def test_no_network_beats_a_certified_bound_and_no_features_violate_the_geometry_bound(
    distribution, objective, seed, width, scale
):
    rng = np.random.default_rng(seed)
    label_set = np.repeat(np.arange(len(distribution.counts)), distribution.counts.astype(int))
    features = scale * rng.standard_normal((len(label_set), width))
    weight, bias = rng.standard_normal((distribution.classes, width)), rng.standard_normal(distribution.classes)
    bias *= objective.use_bias
    bound = solve(distribution, objective).lower_bound
    value = network_terms(
        weight, bias, features, label_set=label_set, multi_hot=distribution.multi_hot(), objective=objective
    ).total
    assert value >= bound
    sides = geometry_bound(condense(features, label_set, distribution).prototypes, distribution, 2)
    assert sides is not None
    assert sides.sigma >= sides.bound - 1e-9


def test_residuals_of_the_reference_optimum_are_all_one():
    """(23): every direction is used; K − 1 ratios are 1 and the last, along 1, is 0."""
    distribution = reference(0.1)
    ratios = residual_spectrum(solve(distribution, PAPER).probabilities, distribution, PAPER).ratios
    assert ratios[:9] == pytest.approx(np.ones(9), abs=1e-4)  # the root of the certified gap
    assert ratios[9] == pytest.approx(0, abs=1e-9)
