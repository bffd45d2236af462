"""Collapse metrics against loops over samples, closed forms, and the invariances that the field asks for."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncpipe.geometry.metrics import (
    PINV_CUTOFF,
    UndefinedMetric,
    angle_metric,
    collapsed,
    condense,
    nc1,
    nc2_h,
    nc2_w,
    nc3,
    weakest_contrast,
    weakest_logits,
)
from ncpipe.geometry.moments import group_means, groups
from ncpipe.labels.distribution import LabelDistribution


def naive(features, sets, weight):
    """Every metric by loops over samples and full d × d matrices, from the formulas (15)-(18)."""
    classes, width = weight.shape
    features = [np.array(h, dtype=np.float64) for h in features]
    means = {}
    for s in set(sets):
        members = [h for h, t in zip(features, sets, strict=True) if t == s]
        means[s] = sum(members) / len(members)
    single = [means[(k,)] for k in range(classes)]
    ones = [(h, s) for h, s in zip(features, sets, strict=True) if len(s) == 1]
    within = sum(np.outer(h - means[s], h - means[s]) for h, s in ones) / len(ones)
    centres = {
        "definition": sum(single) / classes,
        "li2024": sum(h for h, _ in ones) / len(features),
    }
    simplex = np.array([[(i == j) - 1 / classes for j in range(classes)] for i in range(classes)]) / math.sqrt(
        classes - 1
    )

    def off(matrix):
        norm = math.sqrt(sum(x * x for x in matrix.ravel()))
        return math.sqrt(((matrix / norm - simplex) ** 2).sum())

    out = {"nc2_w": off(weight @ weight.T)}
    for variant, centre in centres.items():
        between = sum(np.outer(h - centre, h - centre) for h in single) / classes
        inverse = np.linalg.pinv(between, rcond=PINV_CUTOFF, hermitian=True)
        out["nc1", variant] = sum((within @ inverse)[i, i] for i in range(width)) / classes
        out["nc3", variant] = off(weight @ np.array([h - centre for h in single]).T)
        rows = np.array([h - centre * (variant == "definition") for h in single])
        out["nc2_h", variant] = off(rows @ rows.T)

    def angle(a, b):
        return math.acos(max(-1.0, min(1.0, float(a @ b) / math.sqrt(float(a @ a) * float(b @ b)))))

    for m in {len(s) for s in means} - {1}:
        of_m = sorted(s for s in means if len(s) == m)
        sums = {s: sum(means[(k,)] for k in s) for s in of_m}
        own = [angle(means[s], sums[s]) for s in of_m]
        every = [angle(means[s], sums[t]) for s in of_m for t in of_m]
        out["angle", m] = (sum(own) / len(own)) / (sum(every) / len(every))
    return out


def ours(features, sets, weight):
    distribution, position = index(sets, len(weight))
    c = condense(features, position, distribution)
    out = {"nc2_w": nc2_w(weight, classes=len(weight))}
    for variant in ("definition", "li2024"):
        out["nc1", variant] = nc1(c, variant)
        out["nc2_h", variant] = nc2_h(c, variant)
        out["nc3", variant] = nc3(weight, c, variant)
    for m in distribution.multiplicities:
        if m > 1:
            out["angle", m] = angle_metric(c, m)
    return out


def index(sets, classes):
    counts = {s: sets.count(s) for s in set(sets)}
    distribution = LabelDistribution.from_counts(counts, classes)
    place = {s: i for i, s in enumerate(distribution.label_sets)}
    return distribution, np.array([place[s] for s in sets])


def sample(seed, classes=4, width=7, per_set=(9, 4, 3), offset=1.0, dtype=np.float32):
    """Random features of all label sets of multiplicity 1 to len(per_set), unequal counts, in canonical order."""
    rng = np.random.default_rng(seed)
    sets = [s for m, n in enumerate(per_set, 1) for s in combinations(range(classes), m) for _ in range(n + s[0])]
    base = {s: rng.standard_normal(width) + offset for s in dict.fromkeys(sets)}
    features = np.array([base[s] + 0.3 * rng.standard_normal(width) for s in sets]).astype(dtype)
    return features, sets, rng.standard_normal((classes, width))


@pytest.mark.parametrize("width", [7, 3, 2])
@pytest.mark.parametrize("seed", [0, 1])
def test_metrics_equal_loops_over_samples(seed, width):
    features, sets, weight = sample(seed, width=width)
    expected, found = naive(features, sets, weight), ours(features, sets, weight)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=2e-6), key


def test_more_rows_than_a_block_are_summed_exactly():
    rng = np.random.default_rng(0)
    features = (rng.standard_normal((1003, 5)) + 100).astype(np.float32)
    label_set = np.sort(rng.integers(0, 3, 1003))
    found = group_means(features, groups(label_set, 4))
    exact = np.array([features[label_set == s].astype(np.float64).mean(axis=0) for s in range(3)])
    assert np.abs(found[:3] - exact).max() < 100 * 2**-24
    assert np.isnan(found[3]).all()


def test_float32_resolves_scatter_far_below_the_features():
    """NC1 of 1e-9 beside features of size 10: relative to the deviations, not to the features."""
    rng = np.random.default_rng(0)
    means = 10 + rng.standard_normal((4, 6))
    features = (np.repeat(means, 500, axis=0) + 1e-4 * rng.standard_normal((2000, 6))).astype(np.float32)
    sets = [(k,) for k in range(4) for _ in range(500)]
    weight = rng.standard_normal((4, 6))
    assert ours(features, sets, weight)["nc1", "definition"] == pytest.approx(
        naive(features, sets, weight)["nc1", "definition"], rel=1e-4
    )


def simplex_rows(classes, width, radius=1.0):
    """Rows of a simplex ETF: radius · sqrt(K/(K−1)) · P in the first K coordinates."""
    rows = np.zeros((classes, width))
    rows[:, :classes] = radius * np.sqrt(classes / (classes - 1)) * (np.eye(classes) - 1 / classes)
    return rows


def collapsed_samples(classes, width, offset, counts=(4, 2)):
    """Label-set means of an ETF with tag-wise averaged pairs, every sample on its mean."""
    single = simplex_rows(classes, width, 2.0) + offset
    sets = [s for m, n in enumerate(counts, 1) for s in combinations(range(classes), m) for _ in range(n)]
    return np.array([single[list(s)].mean(axis=0) for s in sets]), sets


@pytest.mark.parametrize("classes", [3, 10])
def test_perfect_collapse_is_zero_everywhere(classes):
    features, sets = collapsed_samples(classes, classes + 2, offset=0.0)
    found = ours(features, sets, 3 * simplex_rows(classes, classes + 2))
    for key, value in found.items():
        assert value == pytest.approx(0, abs=1e-7), key


def test_nc1_of_known_noise_around_an_etf():
    """Σ_B = a P with a = radius²/(K−1), Σ_W = σ² I on its K − 1 directions: NC1 = (K−1)σ²/(aK)."""
    classes, radius, sigma = 5, 2.0, 0.3
    means = simplex_rows(classes, classes, radius)
    # Noise ±σ along an orthonormal frame, d of them each way: its covariance is exactly σ²·(1/d)·d = σ².
    frame = np.linalg.qr(np.random.default_rng(0).standard_normal((classes, classes)))[0] * np.sqrt(classes) * sigma
    noise = np.concatenate([frame, -frame])
    features = np.concatenate([mean + noise for mean in means])
    sets = [(k,) for k in range(classes) for _ in noise]
    expected = (classes - 1) * sigma**2 / (radius**2 / (classes - 1) * classes)
    assert ours(features, sets, means)["nc1", "definition"] == pytest.approx(expected, rel=1e-12)


def test_nc2_of_orthogonal_rows_in_closed_form():
    """WWᵀ = I: ‖I/√K − P/√(K−1)‖² = 2 − 2 √((K−1)/K)."""
    for classes in (3, 10):
        assert nc2_w(np.eye(classes)) == pytest.approx(math.sqrt(2 - 2 * math.sqrt((classes - 1) / classes)), rel=1e-12)


def test_li2024_is_far_from_zero_at_perfect_collapse_with_offset_features():
    """Half of the samples are pairs, so Li's centre is half of the offset, and W sees the other half."""
    classes, width = 10, 12
    offset = np.zeros(width)
    offset[classes] = 1.0  # orthogonal to the class means' simplex
    features, sets = collapsed_samples(classes, width, offset, counts=(9, 2))
    found = ours(features, sets, simplex_rows(classes, width) + 0.4 * offset)
    for key, value in found.items():
        if key[1] != "li2024" and key != "nc2_w":
            assert value == pytest.approx(0, abs=1e-7), key
    # W H_c = a P + b 11ᵀ, whose distance from P / √(K−1) follows from its share of P.
    a, b = 2 * classes / (classes - 1), 0.4 * 0.5
    share = a * math.sqrt(classes - 1) / math.hypot(a * math.sqrt(classes - 1), b * classes)
    assert found["nc3", "li2024"] == pytest.approx(math.sqrt(2 - 2 * share), rel=1e-9)
    assert found["nc3", "li2024"] > 0.2
    # Class means are a P + 11ᵀ in Gram form, a = 4K/(K−1): not centred, hence not a simplex.
    a, b = 4 * classes / (classes - 1), 1.0
    share = a * math.sqrt(classes - 1) / math.hypot(a * math.sqrt(classes - 1), b * classes)
    assert found["nc2_h", "li2024"] == pytest.approx(math.sqrt(2 - 2 * share), rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_rotation_relabelling_and_order_change_nothing(seed):
    features, sets, weight = sample(seed % 50, dtype=np.float64)
    expected = ours(features, sets, weight)
    rng = np.random.default_rng(seed)

    rotation = np.linalg.qr(rng.standard_normal((7, 7)))[0]
    rotated = ours(features @ rotation, sets, weight @ rotation)

    order = rng.permutation(len(sets))
    shuffled = ours(features[order], [sets[i] for i in order], weight)

    names = rng.permutation(4)  # class k is called names[k]
    renamed_sets = [tuple(sorted(int(names[k]) for k in s)) for s in sets]
    renamed_weight = np.empty_like(weight)
    renamed_weight[names] = weight
    renamed = ours(features, renamed_sets, renamed_weight)

    for other in (rotated, shuffled, renamed):
        for key, value in expected.items():
            assert other[key] == pytest.approx(value, rel=1e-9), key


def test_the_centre_is_the_mean_of_class_means_not_of_samples():
    """Doubling one class's samples moves Li's centre only."""
    features, sets, weight = sample(3)
    again = [i for i, s in enumerate(sets) if s == (0,)]
    more = np.concatenate([features, features[again]]), sets + [(0,)] * len(again)
    few, many = ours(features, sets, weight), ours(*more, weight)
    assert many["nc3", "definition"] == pytest.approx(few["nc3", "definition"], rel=1e-6)
    assert abs(many["nc3", "li2024"] - few["nc3", "li2024"]) > 1e-3


def test_what_is_not_defined_says_why():
    features, sets, _ = sample(0)
    kept = [i for i, s in enumerate(sets) if s != (2,)]
    distribution, position = index([sets[i] for i in kept], 4)
    c = condense(features[kept], position, distribution)
    for metric in (nc1, nc2_h):
        with pytest.raises(UndefinedMetric, match="multiplicity one in the classes 2"):
            metric(c, "definition")
    with pytest.raises(UndefinedMetric, match="in the classes 2"):
        angle_metric(c, 2)
    with pytest.raises(UndefinedMetric, match="no label set of multiplicity 4"):
        angle_metric(c, 4)
    same = collapsed(np.ones((3, 2)), LabelDistribution.from_counts({(0,): 1, (1,): 2, (0, 1): 3}, 2))
    with pytest.raises(UndefinedMetric, match="equal their centre"):
        nc1(same, "definition")
    with pytest.raises(UndefinedMetric, match="matrix is 0"):
        nc2_h(same, "definition")
    with pytest.raises(UndefinedMetric, match="single label set"):
        angle_metric(same, 2)
    with pytest.raises(UndefinedMetric, match="rows are equal"):
        weakest_contrast(np.ones((3, 2)))


def test_weakest_contrast_finds_the_classes_that_lie_closest():
    rows = np.eye(4)
    rows[3] = rows[2] + 0.01 * rows[3]
    value, contrast = weakest_contrast(rows + 5.0)
    assert abs(contrast @ np.array([0, 0, 1, -1]) / math.sqrt(2)) > 0.999
    assert contrast.sum() == pytest.approx(0, abs=1e-12)
    singular = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False)
    assert value == pytest.approx(singular[2] / singular[0], rel=1e-9)


def test_weakest_contrast_is_zero_where_the_width_is_too_small():
    value, contrast = weakest_contrast(np.random.default_rng(0).standard_normal((5, 2)))
    assert value == 0
    assert np.linalg.norm(contrast) == pytest.approx(1)


def test_weakest_logits_by_the_spectrum_of_their_contrasts_and_zero_where_some_are_not_seen():
    distribution = LabelDistribution.from_counts({(0,): 5, (1,): 3, (2,): 1, (0, 1): 2, (1, 2): 4}, 3)
    logits = np.random.default_rng(0).standard_normal((5, 3))
    centred = logits - logits.mean(axis=1, keepdims=True)
    expected = np.linalg.eigvalsh(centred.T @ (distribution.weights[:, None] * centred))[1]  # [0] is along 1
    assert weakest_logits(logits, distribution) == pytest.approx(np.sqrt(expected), rel=1e-12)
    one = LabelDistribution.from_counts({(0,): 5}, 3)
    assert weakest_logits(logits[:1], one) == 0
