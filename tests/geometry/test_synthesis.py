"""Synthesis of prototypes: brute-force oracles, planted truths, measured reference values, and honest refusals."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from ncpipe.errors import InputError
from ncpipe.geometry.synthesis import (
    BASES,
    EXPONENTS,
    FREQUENCIES,
    HYPOTHESES,
    fit_synthesis,
    geometry_bound,
    single_prototypes,
    tagwise_residuals,
)
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.settings import Objective
from ncpipe.optimum.optimum import solve


def step(r, *, classes=10, alone=3100.0, pair=200.0, matching=0.0):
    """Step profile with equal pairs; the share `matching` of the pairs' samples moved to a perfect matching."""
    counts = {(k,): alone * (1 if k < classes // 2 else r) for k in range(classes)}
    pairs = list(itertools.combinations(range(classes), 2))
    for a, b in pairs:
        counts[a, b] = pair * (1 - matching)
        if a % 2 == 0 and b == a + 1:
            counts[a, b] += matching * pair * len(pairs) / (classes // 2)
    return LabelDistribution.from_counts(counts, classes)


def random_problem(seed, *, classes=5, width=7):
    """Prototypes with no structure at all, on singles, some pairs and some triples."""
    rng = np.random.default_rng(seed)
    counts = {(k,): float(rng.integers(20, 400)) for k in range(classes)}
    for m, share in ((2, 0.8), (3, 0.9)):
        for label_set in itertools.combinations(range(classes), m):
            if rng.random() < share:
                counts[label_set] = float(rng.integers(5, 50))
    distribution = LabelDistribution.from_counts(counts, classes)
    prototypes = rng.normal(size=(len(distribution.counts), width)) + 1.0
    return distribution, prototypes, rng.normal(size=(classes, width)) + 0.5


def find(records, *, basis, hypothesis, frequency="multiplicity_one", multiplicity=2):
    wanted = {
        "basis": basis,
        "hypothesis": hypothesis,
        "frequency": frequency,
        "multiplicity": multiplicity,
    }
    (record,) = [r for r in records if wanted.items() <= r.items()]
    return record


def dense_basis(distribution, prototypes, weight, basis):
    singles = single_prototypes(prototypes, distribution)
    return {
        "raw": singles,
        "unit": singles / np.linalg.norm(singles, axis=1, keepdims=True),
        "centred": singles - singles.mean(axis=0),
        "classifier": weight,
    }[basis]


def weighted_design(labels, vectors, root, *, intercept):
    """Rows (S, n) of one column per class, and of a_0, times the roots of the label sets' shares."""
    design = np.einsum("sk,kn->snk", labels, vectors)
    if intercept:
        eye = np.broadcast_to(np.eye(vectors.shape[1]), (len(labels), vectors.shape[1], vectors.shape[1]))
        design = np.concatenate([design, eye], axis=2)
    return design * root[:, None, None]


def dense_fit(labels, targets, vectors, counts, gamma, root, *, intercept, keep=slice(None)):
    """Weighted errors of all label sets, with c and a_0 from a plain least-squares solve on those in `keep`."""
    power = labels * counts**gamma
    omega = power * (labels.sum(axis=1) / power.sum(axis=1))[:, None]
    design = weighted_design(labels, vectors, root, intercept=intercept)
    whole = (omega @ vectors * root[:, None])[:, :, None]
    design = np.concatenate([whole, design[:, :, len(vectors) :]], axis=2)
    targets = targets * root[:, None]
    solution = np.linalg.lstsq(design[keep].reshape(-1, design.shape[2]), targets[keep].ravel(), rcond=None)[0]
    return targets - design @ solution


def dense_gamma(*arguments, root, intercept, keep):
    def cost(gamma):
        return (dense_fit(*arguments, gamma, root, intercept=intercept, keep=keep)[keep] ** 2).sum()

    grid = np.linspace(-4, 4, 161)
    best = grid[np.argmin([cost(g) for g in grid])]
    return minimize_scalar(cost, bounds=(best - 0.05, best + 0.05), method="bounded", options={"xatol": 1e-9}).x


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("multiplicity", [2, 3])
def test_every_hypothesis_equals_a_dense_least_squares_fit(basis, multiplicity):
    distribution, prototypes, weight = random_problem(3)
    records = fit_synthesis(prototypes, weight, distribution, replicates=10, permutations=2)
    rows = distribution.multiplicity == multiplicity
    labels, targets = distribution.multi_hot()[rows], prototypes[rows]
    vectors = dense_basis(distribution, prototypes, weight, basis)
    counts, width = distribution.class_counts(1), targets.shape[1]
    root = np.sqrt(distribution.counts[rows] / distribution.counts[rows].sum())
    norm = np.linalg.norm(targets * root[:, None])
    intercept, n = basis == "centred", len(targets)
    everything = np.arange(n)

    def record(hypothesis):
        return find(records, basis=basis, hypothesis=hypothesis, multiplicity=multiplicity)

    for hypothesis, gamma in EXPONENTS.items():
        errors = dense_fit(labels, targets, vectors, counts, gamma, root, intercept=intercept)
        left_out = []
        for i in range(n):
            keep = np.delete(everything, i)
            left_out.append(dense_fit(labels, targets, vectors, counts, gamma, root, intercept=intercept, keep=keep)[i])
        assert record(hypothesis)["residual"] == pytest.approx(np.linalg.norm(errors) / norm, rel=1e-9)
        assert record(hypothesis)["loo_residual"] == pytest.approx(np.linalg.norm(left_out) / norm, rel=1e-9)

    design = weighted_design(labels, vectors, root, intercept=intercept)
    weighted = targets * root[:, None]

    def shared(keep):
        solution = np.linalg.lstsq(design[keep].reshape(-1, design.shape[2]), weighted[keep].ravel(), rcond=None)[0]
        return weighted - design @ solution

    assert record("shared")["residual"] == pytest.approx(np.linalg.norm(shared(everything)) / norm, rel=1e-9)
    left_out = [shared(np.delete(everything, i))[i] for i in range(n)]
    assert record("shared")["loo_residual"] == pytest.approx(np.linalg.norm(left_out) / norm, rel=1e-8)

    free = np.zeros((n, width, n * 5 + width * intercept))
    for i in range(n):
        free[i, :, i * 5 : i * 5 + 5] = design[i, :, :5]
        if intercept:
            free[i, :, n * 5 :] = design[i, :, 5:]
    free = free.reshape(n * width, -1)
    solution = np.linalg.lstsq(free, weighted.ravel(), rcond=None)[0]
    expected = np.linalg.norm(weighted.ravel() - free @ solution) / norm
    assert record("free")["residual"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("basis", ["raw", "centred"])
def test_fitted_exponent_its_error_left_out_and_its_interval_equal_brute_force(basis):
    distribution = step(0.3, classes=6, matching=0.2)
    rng = np.random.default_rng(5)
    counts = distribution.class_counts(1) * rng.uniform(0.5, 2, 6)
    labels = distribution.multi_hot()
    singles = rng.normal(size=(6, 6)) + 0.3
    power = labels * counts**0.6
    truth = (power / power.sum(axis=1, keepdims=True) * labels.sum(axis=1, keepdims=True)) @ singles
    prototypes = truth + np.where(labels.sum(axis=1) > 1, 0.3, 0.0)[:, None] * rng.normal(size=truth.shape)
    replicates, seed = 24, 11
    records = fit_synthesis(
        prototypes,
        singles,
        distribution,
        frequencies={"multiplicity_one": counts},
        replicates=replicates,
        permutations=1,
        seed=seed,
    )
    fitted = find(records, basis=basis, hypothesis="fitted")
    rows = distribution.multiplicity == 2
    labels, targets = labels[rows], prototypes[rows]
    vectors = dense_basis(distribution, prototypes, singles, basis)
    n = len(targets)
    root = np.sqrt(distribution.counts[rows] / distribution.counts[rows].sum())
    intercept = basis == "centred"

    def gamma(keep):
        return dense_gamma(labels, targets, vectors, counts, root=root, intercept=intercept, keep=keep)

    assert fitted["identified"]
    assert fitted["gamma"] == pytest.approx(gamma(np.arange(n)), abs=1e-6)
    left_out = []
    for i in range(n):
        keep = np.delete(np.arange(n), i)
        errors = dense_fit(labels, targets, vectors, counts, gamma(keep), root, intercept=intercept, keep=keep)
        left_out.append(errors[i])
    expected = np.linalg.norm(left_out) / np.linalg.norm(targets * root[:, None])
    assert fitted["loo_residual"] == pytest.approx(expected, rel=1e-4)

    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=replicates)
    low, high = np.quantile([gamma(np.repeat(np.arange(n), draw)) for draw in draws], (0.025, 0.975))
    assert fitted["gamma_low"] == pytest.approx(low, abs=1e-3)
    assert fitted["gamma_high"] == pytest.approx(high, abs=1e-3)


@given(
    gamma=st.floats(-2, 2),
    scale=st.floats(0.2, 5),
    seed=st.integers(0, 2**16),
    basis=st.sampled_from(BASES),
)
@settings(max_examples=25, deadline=None)
def test_a_planted_power_law_is_recovered_and_beats_the_permuted_control(gamma, scale, seed, basis):
    rng = np.random.default_rng(seed)
    counts = {(k,): float(c) for k, c in enumerate(np.geomspace(20, 2000, 6))}
    counts |= dict.fromkeys(itertools.combinations(range(6), 2), 30.0)
    distribution = LabelDistribution.from_counts(counts, 6)
    singles, weight, offset = rng.normal(size=(6, 8)), rng.normal(size=(6, 8)), rng.normal(size=8)
    prototypes = np.vstack([singles, np.zeros((15, 8))])
    vectors = dense_basis(distribution, prototypes, weight, basis)
    labels = distribution.multi_hot()[6:]
    power = labels * distribution.class_counts(1) ** gamma
    omega = 2 * power / power.sum(axis=1, keepdims=True)
    prototypes[6:] = scale * omega @ vectors + (offset if basis == "centred" else 0.0)
    records = fit_synthesis(prototypes, weight, distribution, replicates=20, permutations=5)
    fitted = find(records, basis=basis, hypothesis="fitted")
    assert fitted["identified"]
    assert fitted["gamma"] == pytest.approx(gamma, abs=1e-4)
    assert fitted["residual"] < 1e-4
    assert fitted["loo_residual"] < 2e-2
    assert fitted["gamma_low"] - 2e-2 <= gamma <= fitted["gamma_high"] + 2e-2
    if abs(gamma) > 0.2:
        control = find(records, basis=basis, hypothesis="permuted")
        assert control["residual"] > 10 * fitted["residual"]


@given(seed=st.integers(0, 2**16), scale=st.floats(0.1, 10))
@settings(max_examples=10, deadline=None)
def test_rotating_padding_and_scaling_features_changes_nothing(seed, scale):
    distribution, prototypes, weight = random_problem(seed)
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(60, 60)))[0][:7]  # wider than classes and label sets together
    before = fit_synthesis(prototypes, weight, distribution, replicates=10, permutations=2)
    after = fit_synthesis(scale * prototypes @ rotation, weight @ rotation, distribution, replicates=10, permutations=2)
    for old, new in zip(before, after, strict=True):
        assert {k: v for k, v in old.items() if isinstance(v, str)} == {
            k: v for k, v in new.items() if isinstance(v, str)
        }
        assert old["identified"] == new["identified"]
        for key in ("gamma", "residual", "loo_residual"):
            assert (new[key] is None) == (old[key] is None)
            if old[key] is not None:
                assert (new[key] is None) == (old[key] is None)
            if old[key] is not None:
                assert new[key] == pytest.approx(old[key], rel=1e-5, abs=1e-6)


def test_records_are_complete_deterministic_and_free_of_nan():
    distribution, prototypes, weight = random_problem(8)
    records = fit_synthesis(prototypes, weight, distribution, replicates=20, permutations=3, seed=4)
    assert records == fit_synthesis(prototypes, weight, distribution, replicates=20, permutations=3, seed=4)
    keys = [(r["basis"], r["frequency"], r["multiplicity"], r["hypothesis"]) for r in records]
    assert sorted(keys) == sorted(itertools.product(BASES, FREQUENCIES, (2, 3), HYPOTHESES))
    for record in records:
        assert record["identified"] or record["reason"]
        assert not any(isinstance(value, float) and np.isnan(value) for value in record.values())


def test_equal_counts_identify_no_exponent():
    distribution = step(1.0)
    optimum = solve(distribution, Objective("normalised", 5e-4, 0.256, use_bias=False))
    records = fit_synthesis(optimum.prototypes, optimum.weight, distribution)
    for basis, frequency in itertools.product(BASES, FREQUENCIES):
        fitted = find(records, basis=basis, frequency=frequency, hypothesis="fitted")
        assert not fitted["identified"]
        assert fitted["gamma"] is None
        assert "equal class counts" in fitted["reason"]
        assert fitted["residual"] < 1e-6
        assert find(records, basis=basis, frequency=frequency, hypothesis="uniform")["identified"]


def test_collapsed_minority_is_not_identified_where_it_alone_differs():
    # classes 0 and 1 differ in their counts only among themselves, and their vectors have collapsed
    counts = {(0,): 50.0, (1,): 10.0, (2,): 30.0, (0, 1): 5.0, (2, 3): 5.0, (3,): 30.0}
    distribution = LabelDistribution.from_counts(counts, 4)
    prototypes = np.array([[1.0, 0], [1, 0], [0, 1], [1, 1], [1, 0.1], [0.5, 2]])
    records = fit_synthesis(prototypes, np.eye(4)[:, :2], distribution, replicates=5, permutations=1)
    fitted = find(records, basis="raw", hypothesis="fitted")
    assert not fitted["identified"]
    assert "collapsed" in fitted["reason"]
    free = find(records, basis="raw", hypothesis="free")
    assert "singular design in 1 of 2" in free["reason"]


def test_negative_scale_is_refused_as_non_positive_weights():
    distribution, prototypes, weight = random_problem(2)
    rows = distribution.multiplicity > 1
    prototypes[rows] = -(distribution.multi_hot() @ single_prototypes(prototypes, distribution))[rows]
    records = fit_synthesis(prototypes, weight, distribution, replicates=5, permutations=1)
    for hypothesis in ("free", "shared", "fitted"):
        record = find(records, basis="raw", hypothesis=hypothesis)
        assert not record["identified"]
        assert "non-positive weights" in record["reason"]
    assert find(records, basis="raw", hypothesis="uniform")["residual"] < 1e-12


def test_classes_that_never_occur_alone_leave_label_sets_out_and_say_so():
    distribution, prototypes, weight = random_problem(1)
    keep = [s for s in range(len(distribution.counts)) if distribution.label_sets[s] != (4,)]
    part = LabelDistribution(distribution.indicator[keep], distribution.counts[keep], distribution.class_names)
    records = fit_synthesis(prototypes[keep], weight, part, replicates=5, permutations=1)
    pairs = [s for s in part.label_sets if len(s) == 2]
    out = sum(4 in s for s in pairs)
    assert f"{out} of {len(pairs)} label sets left out" in find(records, basis="raw", hypothesis="uniform")["reason"]
    assert find(records, basis="classifier", frequency="total", hypothesis="uniform")["reason"] == ""
    assert np.isnan(single_prototypes(prototypes[keep], part)[4]).all()
    assert tagwise_residuals(prototypes[keep], part, 2) == (None, None)
    assert geometry_bound(prototypes[keep], part, 2) is None


def test_reference_residuals_and_exponents_at_the_certified_optimum():
    distribution = step(0.2)
    plain = Objective("normalised", 5e-4, 0.256, use_bias=False)
    optimum = solve(distribution, plain)
    records = fit_synthesis(optimum.prototypes, optimum.weight, distribution)
    residual = {h: find(records, basis="raw", hypothesis=h)["residual"] for h in HYPOTHESES}
    assert residual["free"] == pytest.approx(0.0139, abs=1e-4)
    assert residual["uniform"] == pytest.approx(0.0283, abs=1e-4)
    assert 0.37 < residual["proportional"] < 0.73
    assert tagwise_residuals(optimum.prototypes, distribution, 2) == pytest.approx((0.0283, 0.0217), abs=1e-4)
    assert find(records, basis="centred", hypothesis="free")["residual"] == pytest.approx(0.0016, abs=1e-4)
    assert find(records, basis="centred", hypothesis="shared")["residual"] == pytest.approx(0.024, abs=5e-4)
    for basis, gamma in (("raw", -0.0255), ("unit", -0.135), ("classifier", -0.2825)):
        fitted = find(records, basis=basis, hypothesis="fitted")
        assert fitted["gamma"] == pytest.approx(gamma, abs=1e-3)
        assert fitted["gamma_high"] < 0.1  # "weights grow with frequency" is contradicted at the optimum
        total = find(records, basis=basis, hypothesis="fitted", frequency="total")
        assert total["gamma"] / fitted["gamma"] == pytest.approx(2.28, abs=0.01)
    # in a (majority, minority) pair the minority weighs more
    pair = optimum.prototypes[distribution.label_sets.index((0, 9))]
    singles = single_prototypes(optimum.prototypes, distribution)[[0, 9]]
    majority, minority = np.linalg.lstsq(singles.T, pair, rcond=None)[0]
    assert minority > majority


@pytest.mark.parametrize("r", [1.0, 0.2, 0.1])
def test_tagwise_residuals_equal_the_measured_table(r):
    table = {1.0: (0, 0.037, 0.033, 0), 0.2: (0.038, 0.076, 0.084, 0.073), 0.1: (0.046, 0.088, 0.103, 0.094)}
    objective = Objective("normalised", 5e-4, 0.256, lambda_b=5e-4)
    for matching, expected in zip((0, 0.5, 0.9, 1), table[r], strict=True):
        distribution = step(r, matching=matching)
        residual, own = tagwise_residuals(solve(distribution, objective).prototypes, distribution, 2)
        assert residual == pytest.approx(expected, abs=6e-4)
        assert own <= residual + 1e-12


def test_tagwise_residual_sees_lengths_that_angles_do_not():
    distribution = LabelDistribution.from_counts({(0,): 1, (1,): 1, (2,): 1, (0, 1): 1, (1, 2): 1}, 3)
    prototypes = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 3, 3]])
    residual, own = tagwise_residuals(prototypes, distribution, 2)
    assert own == pytest.approx(0, abs=1e-15)
    assert residual == pytest.approx(np.sqrt(1 / 5))  # scales 1 and 3 against their mean 2: 4 of 20


@given(seed=st.integers(0, 2**32), width=st.integers(2, 8))
@settings(max_examples=200, deadline=None)
def test_geometry_bound_is_never_violated(seed, width):
    distribution, prototypes, _ = random_problem(seed, width=width)
    for multiplicity in distribution.multiplicities:
        bound = geometry_bound(prototypes, distribution, multiplicity)
        assert bound.sigma >= bound.bound - 1e-9
        assert bound.vacuous == (bound.bound <= 0)
        assert bound.error >= 0


def test_geometry_bound_is_tight_when_synthesis_is_exact_and_labels_isotropic():
    distribution = step(1.0, classes=6)
    singles = np.random.default_rng(0).normal(size=(6, 9))
    prototypes = distribution.multi_hot() @ singles
    prototypes[6:] = 0.7 * prototypes[6:] + 0.2
    bound = geometry_bound(prototypes, distribution, 2)
    assert bound.tightness == pytest.approx(1)
    assert bound.scale == pytest.approx(0.7)
    assert bound.kappa == pytest.approx(2 * 4 / (6 * 5))
    assert bound.sigma == pytest.approx(bound.bound)


@pytest.mark.parametrize(
    ("r", "use_bias", "expected"),
    [(1.0, False, 1.0), (0.2, False, 0.9898), (0.1, False, 0.9874), (0.2, True, 0.9866), (0.1, True, 0.9834)],
)
def test_geometry_tightness_at_the_certified_optimum(r, use_bias, expected):
    distribution = step(r)
    optimum = solve(distribution, Objective("normalised", 5e-4, 0.256, lambda_b=5e-4, use_bias=use_bias))
    bound = geometry_bound(optimum.prototypes, distribution, 2)
    assert bound.tightness == pytest.approx(expected, abs=6e-5)
    assert not bound.vacuous


def test_kappa_zero_has_no_tightness():
    distribution = step(1.0, matching=1.0)
    prototypes = np.random.default_rng(0).normal(size=(len(distribution.counts), 12))
    bound = geometry_bound(prototypes, distribution, 2)
    assert bound.tightness is None
    assert bound.vacuous


def test_malformed_input_is_named():
    distribution, prototypes, weight = random_problem(0)
    with pytest.raises(InputError, match=r"prototypes: found shape \(18, 7\); allowed: 19 x any"):
        fit_synthesis(prototypes[1:], weight, distribution)
    with pytest.raises(InputError, match="weight: found shape"):
        fit_synthesis(prototypes, weight.T, distribution)
    with pytest.raises(InputError, match="prototypes: found nan at label set 0, feature 0"):
        tagwise_residuals(np.full_like(prototypes, np.nan), distribution, 2)
