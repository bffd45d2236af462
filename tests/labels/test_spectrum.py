from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared import shared_file

from ncpipe.errors import InputError
from ncpipe.labels import spectrum as module
from ncpipe.labels.distribution import LabelDistribution, contrast_classes
from ncpipe.labels.spectrum import (
    is_isotropic,
    isotropic,
    kappa_covariance,
    multiplicity_spectrum,
    pooled_covariance,
    pooled_spectrum,
)


def step_profile(ratio: float, *, classes: int = 10, single: float = 3100, pair: float = 200) -> LabelDistribution:
    counts = {(k,): single * (1 if k < classes // 2 else ratio) for k in range(classes)}
    return LabelDistribution.from_counts(counts | dict.fromkeys(combinations(range(classes), 2), pair), classes)


@st.composite
def distributions(draw, max_classes: int = 6):
    classes = draw(st.integers(2, max_classes))
    label_set = st.sets(st.integers(0, classes - 1), min_size=1).map(lambda s: tuple(sorted(s)))
    counts = draw(st.dictionaries(label_set, st.floats(0.1, 100), min_size=1, max_size=12))
    return LabelDistribution.from_counts(counts, classes)


def by_definition(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """All K eigenvalues, ascending, of Σ v (x - mean x)(x - mean x)ᵀ: the trivial 0 is still among them."""
    matrix = np.zeros((rows.shape[1],) * 2)
    for row, weight in zip(rows, weights, strict=True):
        centred = row - row.mean()
        matrix += weight * np.outer(centred, centred)
    return np.linalg.eigvalsh(matrix)


@given(distributions())
def test_eigenvalues_are_those_of_the_definition_less_one_zero(distribution):
    for m in distribution.multiplicities:
        part = distribution.restrict(m)
        expected = by_definition(part.multi_hot(), part.weights)
        smallest = np.argmin(np.abs(expected))
        expected = np.delete(expected, smallest)[::-1]
        found = multiplicity_spectrum(distribution, m)
        np.testing.assert_allclose(found.eigenvalues, expected, atol=1e-12)
        assert found.kappa == found.eigenvalues[-1]
        assert found.kappa_max == found.eigenvalues[0]


@given(distributions())
def test_the_weakest_contrast_attains_kappa(distribution):
    for target in ("normalised", "raw"):
        found = pooled_spectrum(distribution, target)
        matrix = pooled_covariance(distribution, target)
        assert abs(found.weakest.sum()) < 1e-12
        assert np.linalg.norm(found.weakest) == pytest.approx(1)
        assert found.weakest @ matrix @ found.weakest == pytest.approx(found.kappa, abs=1e-8)
        assert found.weakest.max() == pytest.approx(np.abs(found.weakest).max())


@given(distributions())
def test_pooling_weighs_the_multiplicities(distribution):
    scales = {m: 0.3 + 0.1 * m for m in distribution.multiplicities}
    expected = np.zeros((distribution.classes,) * 2)
    for m in distribution.multiplicities:
        part = distribution.restrict(m)
        share = part.samples / distribution.samples
        centred = part.multi_hot() - m / distribution.classes
        expected += share * (scales[m] / m) ** 2 * centred.T @ (centred * part.weights[:, None])
    np.testing.assert_allclose(pooled_covariance(distribution, "normalised", scales=scales), expected, atol=1e-13)


@given(distributions())
def test_the_covariance_is_never_above_the_second_moment(distribution):
    for m in distribution.multiplicities:
        part = distribution.restrict(m)
        rows = part.multi_hot() - part.weights @ part.multi_hot()
        basis = np.linalg.svd(np.ones((1, distribution.classes)))[2][1:]
        expected = np.linalg.eigvalsh(basis @ (rows.T @ (rows * part.weights[:, None])) @ basis.T)[0]
        kappa = kappa_covariance(distribution, m)
        assert kappa == pytest.approx(expected, abs=1e-12)
        assert kappa <= multiplicity_spectrum(distribution, m).kappa + 1e-12


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_balanced_label_sets_are_isotropic_with_the_closed_form(m):
    classes = 7
    balanced = LabelDistribution.from_counts(dict.fromkeys(combinations(range(classes), m), 3), classes)
    found = multiplicity_spectrum(balanced, m)
    assert found.kappa == pytest.approx(m * (classes - m) / (classes * (classes - 1)), rel=1e-12)
    assert found.anisotropy == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("ratio", "kappa", "kappa_max", "pooled"),
    [(1, 0.1, 0.1, 0.08750), (0.2, 0.033333, 0.166667, 0.03696), (0.1, 0.0181818, 0.1818182, 0.02726)],
)
def test_reference_setting(ratio, kappa, kappa_max, pooled):
    distribution = step_profile(ratio)
    first = multiplicity_spectrum(distribution, 1)
    assert (first.kappa, first.kappa_max) == pytest.approx((kappa, kappa_max), abs=5e-7)
    assert multiplicity_spectrum(distribution, 2).kappa == pytest.approx(0.17778, abs=5e-6)
    assert pooled_spectrum(distribution, "normalised").kappa == pytest.approx(pooled, abs=5e-6)


def test_all_classes_at_once_carry_no_contrast():
    distribution = LabelDistribution.from_counts({(0, 1, 2): 5, (0,): 1}, 3)
    found = multiplicity_spectrum(distribution, 3)
    assert found.kappa == found.kappa_max == 0
    assert np.isnan(found.anisotropy)


@pytest.mark.parametrize(
    ("counts", "sides"),
    [
        ({(0,): 1, (1,): 1, (2, 3): 1}, ({"2"}, {"3"})),  # two classes that always go together
        ({(0,): 1, (1,): 1}, ({"2"}, {"3"})),  # two unseen classes
    ],
)
def test_classes_that_no_label_set_tells_apart_give_kappa_0(counts, sides):
    distribution = LabelDistribution.from_counts(counts, 4)
    found = pooled_spectrum(distribution, "raw")
    assert found.kappa == 0
    assert found.anisotropy == 1
    assert tuple(map(set, contrast_classes(found.weakest, distribution.class_names))) in (sides, sides[::-1])


def test_one_unseen_class_alone_leaves_kappa_positive():
    distribution = LabelDistribution.from_counts({(k,): 1 for k in range(9)}, 10)
    assert multiplicity_spectrum(distribution, 1).kappa == pytest.approx(1 / 90, rel=1e-12)


@given(distributions(), st.randoms(use_true_random=False), st.floats(1e-3, 1e3))
def test_relabelling_classes_and_rescaling_counts_change_nothing(distribution, random, factor):
    names = list(range(distribution.classes))
    random.shuffle(names)
    moved = {tuple(names[k] for k in s): n * factor for s, n in distribution.as_counts().items()}
    other = LabelDistribution.from_counts(moved, distribution.classes)
    np.testing.assert_allclose(
        pooled_spectrum(other, "normalised").eigenvalues,
        pooled_spectrum(distribution, "normalised").eigenvalues,
        atol=1e-12,
    )


def test_of_exchangeable_classes_the_contrast_that_singles_out_the_first_is_given():
    expected = np.r_[np.zeros(5), np.array([4, -1, -1, -1, -1]) / np.sqrt(20)]
    np.testing.assert_allclose(pooled_spectrum(step_profile(0.2), "normalised").weakest, expected, atol=1e-12)


@given(st.integers(0, 1000))
def test_the_contrast_given_for_an_eigenspace_does_not_depend_on_its_basis(seed):
    rng = np.random.default_rng(seed)
    space = np.linalg.qr(rng.standard_normal((7, 3)))[0]
    rotation = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    found = module._representative(space)
    np.testing.assert_allclose(module._representative(space @ rotation), found, atol=1e-9)
    np.testing.assert_allclose(space @ (space.T @ found), found, atol=1e-12)


def test_what_a_spectrum_does_not_know_is_refused():
    distribution = step_profile(1)
    for spectrum in (multiplicity_spectrum, kappa_covariance):
        with pytest.raises(InputError, match="those that occur are 1, 2"):
            spectrum(distribution, 3)
    for spectrum in (pooled_spectrum, pooled_covariance):
        with pytest.raises(InputError, match=r"target: found 'normalized'; did you mean 'normalised'\?"):
            spectrum(distribution, "normalized")
        for scales in ({1: 1.0}, {1: 1.0, 2: float("nan")}, {1: 1.0, 2: -1.0}):
            with pytest.raises(InputError, match="scale of multiplicity 2: found"):
                spectrum(distribution, "raw", scales=scales)
    with pytest.raises(InputError, match="scales: found some with centre"):
        pooled_covariance(distribution, "raw", scales={1: 1.0, 2: 1.0}, centre=True)


@pytest.mark.parametrize("classes", [module.DENSE_CLASSES, module.DENSE_CLASSES + 1])
@pytest.mark.parametrize("kind", ["one pair", "one pair and singles", "all classes", "nearly one pair"])
def test_covariances_of_no_contrast_are_0_on_both_sides_of_the_switch(classes, kind):
    """One label set has no covariance, and one with every class no contrast: there is nothing to iterate on."""
    counts, pair = {(k,): 1.0 for k in range(classes)}, {(0, 1): 1.0}
    everything = {tuple(range(classes)): 3.0, (0,): 1.0}
    nearly = {(0, 1): 1e20, (1, 2): 1.0}
    distribution = LabelDistribution.from_counts(
        {"one pair": pair, "one pair and singles": counts | pair, "all classes": everything, "nearly one pair": nearly}[
            kind
        ],
        classes,
    )
    if kind == "all classes":
        found = multiplicity_spectrum(distribution, classes)
        assert (found.kappa, found.kappa_max) == (0, 0)
        assert np.isnan(found.anisotropy)
        assert abs(found.weakest.sum()) < 1e-12
        assert np.linalg.norm(found.weakest) == pytest.approx(1)
    else:
        assert kappa_covariance(distribution, 2) == 0
        assert multiplicity_spectrum(distribution, 2).kappa == 0
        assert multiplicity_spectrum(distribution, 2).kappa_max == pytest.approx(2 * (1 - 2 / classes), rel=1e-12)


@pytest.mark.parametrize("classes", [module.DENSE_CLASSES, module.DENSE_CLASSES + 1])
def test_scales_of_0_leave_nothing(classes):
    distribution = LabelDistribution.from_counts({(k,): 1.0 for k in range(classes)}, classes)
    found = pooled_spectrum(distribution, "raw", scales={1: 0.0})
    assert (found.kappa, found.kappa_max) == (0, 0)


def test_isotropy_forgives_rounding_and_what_has_no_contrast():
    assert all(map(is_isotropic, (0.0, 1e-10, None, float("nan"))))
    assert not is_isotropic(1e-8)
    assert isotropic(step_profile(1))
    assert not isotropic(step_profile(0.9))
    assert not isotropic(LabelDistribution.from_counts({(0, 1): 1, (0, 2): 1, (0, 3): 1}, 4))  # δ_2 = 0, K = 2m


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_the_iterative_spectrum_agrees_with_the_dense_one(seed, centre):
    rng = np.random.default_rng(seed)
    classes = 120
    popularity = 1 / np.arange(1, classes + 1)
    counts = {(k,): float(rng.uniform(0.1, 2)) for k in range(classes)}
    for _ in range(300):
        members = rng.choice(classes, rng.integers(2, 5), replace=False, p=popularity / popularity.sum())
        counts[tuple(sorted(members))] = float(rng.uniform(0.1, 50))
    distribution = LabelDistribution.from_counts(counts, classes)
    dense = module._dense(distribution.indicator, distribution.weights, centre=centre)
    sparse = module._krylov(distribution.indicator, distribution.weights, centre=centre)
    assert sparse.kappa_max == pytest.approx(dense.kappa_max, rel=1e-9)
    assert sparse.kappa == pytest.approx(dense.kappa, rel=1e-5, abs=1e-12)
    assert abs(sparse.kappa - dense.kappa) <= sparse.accuracy + 1e-14


def test_ten_thousand_classes_fit_without_a_dense_matrix():
    rng = np.random.default_rng(1)
    classes = 10_000
    counts = {tuple(rng.choice(classes, 3, replace=False).tolist()): 1.0 for _ in range(20_000)}
    counts |= {(k,): 1.0 for k in range(classes - 2)}
    found = pooled_spectrum(LabelDistribution.from_counts(counts, classes), "normalised")
    assert 0 < found.kappa < found.kappa_max
    assert found.accuracy < 1e-6 * found.kappa_max
    singles = LabelDistribution.from_counts({(k,): 1.0 for k in range(classes - 2)}, classes)
    assert pooled_spectrum(singles, "normalised").kappa == 0


@pytest.mark.parametrize(
    ("name", "kappa_1", "pooled", "pooled_max"), [("scene", 0.150, 0.145, 0.177), ("yeast", 0.0, 1.7e-4, 0.058)]
)
def test_real_label_matrices(name, kappa_1, pooled, pooled_max):
    """On real data kappa_1 = 0 is the normal case, kappa_pool usually is small but not 0."""
    distribution = LabelDistribution.from_matrix(np.load(shared_file(f"multilabel/{name}.npz"))["Y"])
    assert multiplicity_spectrum(distribution, 1).kappa == pytest.approx(kappa_1, abs=5e-4)
    found = pooled_spectrum(distribution, "normalised")
    assert (found.kappa, found.kappa_max) == pytest.approx((pooled, pooled_max), rel=0.05)
