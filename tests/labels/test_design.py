"""Designed label distributions: exact marginals, and only the property that is meant to move moves."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from ncpipe.geometry.synthesis import tagwise_residuals
from ncpipe.labels.design import (
    REFERENCE,
    Scale,
    bipartite_pairs,
    complete_pairs,
    correlated_pairs,
    correlation_family,
    cyclic_design,
    family,
    matching_pairs,
    mixture,
    mixture_with_kappa,
    random_regular_pairs,
    relabel_pairs,
    singles_and_pairs,
    step_counts,
)
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.labels.spectrum import multiplicity_spectrum, pooled_spectrum
from ncpipe.objective.settings import Objective
from ncpipe.optimum.optimum import solve

PLAIN = Objective("normalised", 5e-4, 0.256, use_bias=False)


def step_with_matching(ratio, share):
    """A step of `ratio` in n_k, and `share` of the pairs' samples in a perfect matching: claim 4's grid."""
    pairs = (1 - share) * complete_pairs(REFERENCE.classes, REFERENCE.pairs)
    pairs += share * matching_pairs(REFERENCE.classes, REFERENCE.pairs)
    return singles_and_pairs(step_counts(REFERENCE.classes, REFERENCE.alone, ratio), pairs)


def check_regular(pairs, total):
    np.testing.assert_allclose(pairs, pairs.T, rtol=1e-12)
    assert (pairs >= 0).all()
    assert not np.diag(pairs).any()
    assert pairs.sum() / 2 == pytest.approx(total, rel=1e-12)
    np.testing.assert_allclose(pairs.sum(axis=0), 2 * total / len(pairs), rtol=1e-12)


@given(classes=st.integers(3, 12), seed=st.integers(0, 2**32), strength=st.floats(0, 3))
@settings(deadline=None)
def test_every_construction_has_exactly_equal_class_frequencies(classes, seed, strength):
    rng = np.random.default_rng(seed)
    check_regular(random_regular_pairs(classes, 90.0, rng), 90.0)
    check_regular(correlated_pairs(classes, 90.0, strength, rng), 90.0)
    check_regular(complete_pairs(classes, 90.0), 90.0)
    if classes % 2 == 0:
        check_regular(matching_pairs(classes, 90.0), 90.0)
        check_regular(bipartite_pairs(classes, 90.0), 90.0)


@pytest.mark.parametrize("construction", [matching_pairs, bipartite_pairs])
def test_extreme_graphs_have_no_weakest_contrast_and_need_an_even_number(construction):
    spectrum = multiplicity_spectrum(singles_and_pairs(np.ones(6), construction(6, 9.0)), 2)
    assert spectrum.kappa == pytest.approx(0, abs=1e-14)
    assert spectrum.anisotropy == pytest.approx(1)
    with pytest.raises(ValueError, match="even number"):
        construction(7, 9.0)


@pytest.mark.parametrize("construction", [matching_pairs, bipartite_pairs])
def test_anisotropic_labels_with_exact_tagwise_averaging(construction):
    """Claim 4b's certified counterexample: δ_2 = 1, and yet the residual vanishes by symmetry."""
    distribution = singles_and_pairs(np.full(10, 3100.0), construction(10, 9000.0))
    optimum = solve(distribution, PLAIN)
    assert optimum.certified
    assert tagwise_residuals(optimum.prototypes, distribution, 2).residual < 1e-6


def test_a_difference_set_makes_an_isotropic_design():
    fano = cyclic_design(7, (0, 1, 3), 70.0)
    assert len(fano) == 7
    assert sum(fano.values()) == pytest.approx(70.0)
    for pair in itertools.combinations(range(7), 2):
        assert sum(set(pair) <= set(block) for block in fano) == 1
    spectrum = multiplicity_spectrum(LabelDistribution.from_counts(fano, 7), 3)
    assert spectrum.anisotropy == pytest.approx(0, abs=1e-12)
    assert spectrum.kappa == pytest.approx(3 * 4 / (7 * 6))
    # a block that is no difference set is regular, but not isotropic
    lopsided = multiplicity_spectrum(LabelDistribution.from_counts(cyclic_design(7, (0, 1, 2), 1.0), 7), 3)
    assert lopsided.anisotropy > 0.5


def test_relabelling_keeps_the_graph_and_moves_only_the_pooled_spectrum():
    pairs = random_regular_pairs(6, 90.0, np.random.default_rng(0))
    order = [2, 0, 1, 5, 4, 3]
    moved = relabel_pairs(pairs, order)
    for a, b in itertools.product(range(6), repeat=2):
        assert moved[order[a], order[b]] == pairs[a, b]
    np.testing.assert_allclose(np.linalg.eigvalsh(moved), np.linalg.eigvalsh(pairs), atol=1e-12)


@given(share=st.floats(0.02, 0.98))
@settings(max_examples=30, deadline=None)
def test_mixtures_reach_the_kappa_asked_for(share):
    isotropic, extreme = (step_with_matching(0.2, e) for e in (0.0, 1.0))
    for multiplicity in (2, None):
        low, high = (
            pooled_spectrum(d, "normalised").kappa if multiplicity is None else multiplicity_spectrum(d, 2).kappa
            for d in (extreme, isotropic)
        )
        wanted = low + share * (high - low)
        mixed = mixture_with_kappa(isotropic, extreme, wanted, multiplicity=multiplicity)
        spectrum = pooled_spectrum(mixed, "normalised") if multiplicity is None else multiplicity_spectrum(mixed, 2)
        assert spectrum.kappa == pytest.approx(wanted, abs=1e-9)
        np.testing.assert_allclose(mixed.class_counts(1), isotropic.class_counts(1))
        np.testing.assert_allclose(mixed.class_counts(2), isotropic.class_counts(2))


def test_kappa_out_of_reach_is_refused_with_the_range():
    ends = [step_with_matching(1.0, e) for e in (0.0, 1.0)]
    with pytest.raises(ValueError, match=r"these two reach 0\.177778 to"):
        mixture_with_kappa(*ends, 0.3, multiplicity=2)


def test_mixture_is_an_affine_combination_of_counts():
    first, second = step_with_matching(1.0, 0.0), step_with_matching(0.1, 1.0)
    mixed = mixture(first, second, 0.25).as_counts()
    assert mixed[9,] == pytest.approx(0.75 * 3100 + 0.25 * 310)
    assert mixed[0, 1] == pytest.approx(0.75 * 200 + 0.25 * 1800)
    assert mixed[1, 2] == pytest.approx(0.75 * 200)


@pytest.mark.parametrize("name", ["F1", "F2", "F2b"])
def test_families_fix_counts_and_spread_kappa(name):
    members = family(name, 12, seed=3)
    expected = step_counts(10, 3100.0, 1.0 if name == "F1" else 0.2)
    for member in members:
        np.testing.assert_allclose(member.class_counts(1), expected)
        np.testing.assert_allclose(member.class_counts(2), 2 * REFERENCE.pairs / 10)
    pooled = [pooled_spectrum(m, "normalised").kappa for m in members]
    own = [multiplicity_spectrum(m, 2).eigenvalues for m in members]
    assert np.ptp(pooled) > 0.05 * max(pooled)
    if name == "F2b":
        np.testing.assert_allclose(own, np.broadcast_to(own[0], (12, 9)), atol=1e-12)
    else:
        assert np.ptp(np.array(own)[:, -1]) > 0.05
    repeated = family(name, 12, seed=3)
    assert all((a.counts == b.counts).all() for a, b in zip(members, repeated, strict=True))
    assert any(len(a.counts) != len(b.counts) or (a.counts != b.counts).any() for a, b in zip(
        members, family(name, 12, seed=4), strict=True))  # fmt: skip


@pytest.mark.parametrize("name", ["F1", "F2", "F2b"])
def test_the_optimum_follows_the_pooled_spectrum_in_every_family(name):
    """Claim 2 at the optimum: κ_pool, and κ_2 alone not at all in F2b."""
    members = family(name, 20, seed=0)
    sigma = [solve(m, PLAIN).singular_values[8] for m in members]
    pooled = [pooled_spectrum(m, "normalised").kappa for m in members]
    assert spearmanr(pooled, sigma).statistic > 0.85


def test_correlation_family_runs_from_independent_to_strongly_correlated():
    strengths = [0.0, 0.5, 1.0, 2.0, 4.0]
    members = correlation_family(strengths, seed=1, scale=Scale(classes=6))
    kappa = [multiplicity_spectrum(m, 2).kappa for m in members]
    assert multiplicity_spectrum(members[0], 2).anisotropy == pytest.approx(0, abs=1e-12)
    assert all(a > b for a, b in itertools.pairwise(kappa))
    for member in members:
        np.testing.assert_allclose(member.class_counts(), members[0].class_counts(), rtol=1e-12)


def test_grid_moves_each_anisotropy_alone():
    for ratio, share in itertools.product((1.0, 0.2), (0.0, 0.5, 1.0)):
        distribution = step_with_matching(ratio, share)
        delta = [multiplicity_spectrum(distribution, m).anisotropy for m in (1, 2)]
        assert delta[0] == pytest.approx(multiplicity_spectrum(step_with_matching(ratio, 0.3), 1).anisotropy, abs=1e-12)
        assert delta[1] == pytest.approx(multiplicity_spectrum(step_with_matching(0.7, share), 2).anisotropy, abs=1e-12)


def test_malformed_pairs_are_refused():
    for pairs in (np.zeros((3, 2)), np.eye(3), np.triu(np.ones((3, 3)), 1), np.eye(3) - 1):
        with pytest.raises(ValueError, match="symmetric 3 x 3 matrix"):
            singles_and_pairs(np.ones(3), pairs)
