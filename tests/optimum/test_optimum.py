from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from shared import shared_file

from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.losses import softmax
from ncpipe.objective.settings import Objective
from ncpipe.objective.terms import lower_bound, objective_terms
from ncpipe.optimum.optimum import solve


def step_profile(ratio: float, *, classes: int = 10, single: float = 3100, pair: float = 200) -> LabelDistribution:
    counts = {(k,): single * (1 if k < classes // 2 else ratio) for k in range(classes)}
    return LabelDistribution.from_counts(counts | dict.fromkeys(combinations(range(classes), 2), pair), classes)


@st.composite
def distributions(draw, max_classes: int = 5):
    classes = draw(st.integers(2, max_classes))
    label_set = st.sets(st.integers(0, classes - 1), min_size=1).map(lambda s: tuple(sorted(s)))
    counts = draw(st.dictionaries(label_set, st.floats(0.1, 100), min_size=1, max_size=8))
    return LabelDistribution.from_counts(counts, classes)


@st.composite
def objectives(draw):
    lam = 10 ** draw(st.floats(-3, 0))
    ratio = 10 ** draw(st.floats(-2, 2))
    return Objective(
        draw(st.sampled_from(["normalised", "raw"])),
        lam * ratio,
        lam / ratio,
        10 ** draw(st.floats(-4, 0)),
        draw(st.booleans()),
    )


def minimum_by_cvxpy(distribution: LabelDistribution, objective: Objective) -> float:
    """(8), word by word, in a general convex solver."""
    import cvxpy as cp

    weights, t, tau = distribution.weights, distribution.targets(objective.target), distribution.tau(objective.target)
    z = cp.Variable(t.shape)
    b = cp.Variable((1, distribution.classes))
    logits = z + np.ones((len(weights), 1)) @ b
    loss = cp.sum(cp.multiply(weights * tau, cp.log_sum_exp(logits, axis=1)))
    value = loss - cp.sum(cp.multiply(weights[:, None] * t, logits))
    value += objective.lam * cp.normNuc(cp.diag(np.sqrt(weights)) @ z)
    constraints = [b == 0] if objective.bias_mode == "none" else []
    if objective.bias_mode == "penalised":
        value += 0.5 * objective.lambda_b * cp.sum_squares(b)
    problem = cp.Problem(cp.Minimize(value), constraints)
    tight = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-10)
    return float(problem.solve(solver=cp.CLARABEL, **tight))


REFERENCE = [
    # ratio, bias, singles, pairs, f*: theory.md (9a), measured independently
    (1.0, True, 3100, 200, 0.374392),
    (0.2, True, 3100, 200, 0.43967),
    (0.1, True, 3100, 200, 0.45034),
    (0.2, False, 3100, 200, 0.44180),
    (0.1, False, 3100, 200, 0.45341),
    (1.0, True, 140, 20, 0.49361),
    (0.2, True, 140, 20, 0.58047),
    (0.1, True, 140, 20, 0.59472),
]


@pytest.mark.parametrize(("ratio", "bias", "single", "pair", "expected"), REFERENCE)
def test_reference_values(ratio, bias, single, pair, expected):
    objective = Objective("normalised", 5e-4, 0.256, 5e-4, bias)
    optimum = solve(step_profile(ratio, single=single, pair=pair), objective)
    assert optimum.objective == pytest.approx(expected, abs=6e-6)
    assert optimum.certified
    assert -1e-14 < optimum.relative_gap < 1e-10


def test_a_free_bias_is_certified_too():
    optimum = solve(step_profile(0.1), Objective("normalised", 5e-4, 0.256, 0.0))
    assert -1e-14 < optimum.relative_gap < 1e-10
    penalised = [solve(step_profile(0.1), Objective("normalised", 5e-4, 0.256, b)).objective for b in (1e-6, 1e-3)]
    assert optimum.objective < penalised[0] < penalised[1]


@pytest.mark.parametrize("seed", range(12))
def test_the_minimum_is_that_of_a_general_convex_solver(seed):
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(2, 6))
    counts = {}
    for _ in range(8):
        members = rng.choice(classes, rng.integers(1, classes + 1), replace=False)
        counts[tuple(members.tolist())] = float(rng.uniform(0.1, 10))
    counts |= {(k,): float(rng.uniform(0.1, 10)) for k in range(classes)}
    distribution = LabelDistribution.from_counts(counts, classes)
    lam = 10 ** rng.uniform(-2.5, -0.3)
    target, mode = ("normalised", "raw")[seed % 2], seed % 3
    objective = Objective(target, lam, lam, (1e-2, 0.0, 1.0)[mode], mode != 2)
    expected = minimum_by_cvxpy(distribution, objective)
    optimum = solve(distribution, objective)
    assert optimum.objective == pytest.approx(expected, rel=1e-7)
    assert optimum.certified


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(distributions(), objectives(), st.integers(0, 1000))
def test_bound_at_most_optimum_at_most_any_network(distribution, objective, seed):
    optimum = solve(distribution, objective)
    assert optimum.certified
    assert lower_bound(distribution, objective, dual_point=optimum.dual_point) == optimum.lower_bound
    assert optimum.relative_gap > -1e-10  # rounding, where the minimum itself is tiny
    rng = np.random.default_rng(seed)
    count, classes = distribution.multi_hot().shape
    for scale in (0.1, 1.0):
        width = int(rng.integers(1, 2 * classes))
        network = objective_terms(
            optimum.weight[:, :width] + scale * rng.standard_normal((classes, min(width, classes))),
            optimum.bias + scale * rng.standard_normal(classes) * objective.use_bias,
            optimum.prototypes[:, :width] + scale * rng.standard_normal((count, min(width, classes))),
            label_set=np.arange(count),
            multi_hot=distribution.multi_hot(),
            objective=objective,
            sample_weights=distribution.weights,
        )
        assert network.total >= optimum.lower_bound


@settings(max_examples=40, deadline=None)
@given(distributions(), objectives())
def test_the_optimum_is_a_balanced_stationary_point_of_the_network_objective(distribution, objective):
    optimum = solve(distribution, objective, rtol=1e-12)
    weights, root = distribution.weights, np.sqrt(distribution.weights)[:, None]
    w, h, tau = optimum.weight, optimum.prototypes, distribution.tau(objective.target)[:, None]
    np.testing.assert_allclose(optimum.logits, h @ w.T + optimum.bias, atol=1e-12)
    np.testing.assert_allclose(optimum.probabilities, softmax(optimum.logits), atol=1e-14)
    size = objective.lambda_w * (w**2).sum()
    assert size == pytest.approx(objective.lambda_h * ((root * h) ** 2).sum(), rel=1e-9, abs=1e-12)
    assert size == pytest.approx(objective.lam * optimum.singular_values.sum(), rel=1e-9, abs=1e-12)
    residual = distribution.targets(objective.target) - tau * optimum.probabilities
    # (12a), and the same for W and b
    scale = np.sqrt(objective.lambda_h * objective.lambda_w) / objective.lam
    np.testing.assert_allclose(residual @ w, objective.lambda_h * h, atol=2e-5 * scale * max(1, np.abs(w).max()))
    np.testing.assert_allclose(
        (weights[:, None] * residual).T @ h, objective.lambda_w * w, atol=2e-5 * scale * max(1, np.abs(h).max())
    )
    if objective.bias_mode != "none":
        np.testing.assert_allclose(weights @ residual, objective.lambda_b * optimum.bias, atol=2e-5)


def test_the_factored_objective_minimised_from_random_starts_ends_there():
    distribution, objective = step_profile(0.2, classes=4, single=10, pair=2), Objective("raw", 0.02, 0.05, 0.01)
    optimum = solve(distribution, objective)
    count, classes = distribution.multi_hot().shape
    t, tau = distribution.targets("raw"), distribution.tau("raw")[:, None]
    weights = distribution.weights[:, None]

    def value(x):
        w, h = x[: classes**2].reshape(classes, -1), x[classes**2 : -classes].reshape(count, -1)
        terms = objective_terms(
            w, x[-classes:], h, label_set=np.arange(count), multi_hot=distribution.multi_hot(), objective=objective,
            sample_weights=distribution.weights,
        )  # fmt: skip
        g = weights * (tau * softmax(h @ w.T + x[-classes:]) - t)
        slope = (g.T @ h + 0.02 * w, g @ w + 0.05 * weights * h, g.sum(axis=0) + 0.01 * x[-classes:])
        return terms.total, np.concatenate([part.ravel() for part in slope])

    start = np.random.default_rng(3).standard_normal(classes**2 + count * classes + classes)
    found = minimize(value, start, jac=True, method="L-BFGS-B", options={"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-9})
    assert found.fun == pytest.approx(optimum.objective, rel=1e-8)
    assert found.fun >= optimum.lower_bound


@settings(max_examples=30, deadline=None)
@given(distributions(), objectives(), st.randoms(use_true_random=False), st.floats(1e-2, 1e2))
def test_relabelling_classes_and_rescaling_counts_change_nothing_else(distribution, objective, random, factor):
    names = list(range(distribution.classes))
    random.shuffle(names)
    moved = {tuple(names[k] for k in s): n * factor for s, n in distribution.as_counts().items()}
    other = solve(LabelDistribution.from_counts(moved, distribution.classes), objective)
    optimum = solve(distribution, objective)
    assert other.objective == pytest.approx(optimum.objective, rel=2e-10, abs=1e-12)
    np.testing.assert_allclose(other.weight[np.ix_(names, names)], optimum.weight, atol=3e-3)


def test_equal_label_sets_counted_apart_are_one():
    whole = LabelDistribution.from_counts({(0,): 5, (1,): 2, (0, 1): 1}, 3)
    matrix = np.repeat([[1, 0, 0], [0, 1, 0], [1, 1, 0]], [5, 2, 1], axis=0)
    apart = LabelDistribution.from_matrix(matrix[np.random.default_rng(0).permutation(8)])
    objective = Objective("normalised", 0.05, 0.05, 0.1)
    assert solve(apart, objective).objective == solve(whole, objective).objective


@pytest.mark.parametrize("use_bias", [True, False])
def test_above_the_threshold_everything_collapses(use_bias):
    distribution = step_profile(0.2, classes=4)
    t = distribution.targets("normalised")
    mean = distribution.weights @ t
    centre = mean if use_bias else np.full(4, 0.25)  # theory.md (11b): the prior of a free bias, or uniform
    second = (t - centre).T @ ((t - centre) * distribution.weights[:, None])
    threshold = np.sqrt(np.linalg.eigvalsh(second)[-1])
    above = solve(distribution, Objective("normalised", 1.001 * threshold, 1.001 * threshold, 0.0, use_bias))
    below = solve(distribution, Objective("normalised", 0.999 * threshold, 0.999 * threshold, 0.0, use_bias))
    assert above.rank == 0
    assert np.all(above.weight == 0)
    assert above.certified
    np.testing.assert_allclose(above.probabilities, np.broadcast_to(centre, t.shape), atol=1e-8)
    assert below.rank == 1
    assert below.certified


@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_minority_classes_collapse_at_their_threshold(factor):
    """theory.md (11a): λ² = [r n_1 + (K - 2) n_2 / 4] / N."""
    classes, single, pair, ratio = 6, 100, 4, 0.02
    distribution = step_profile(ratio, classes=classes, single=single, pair=pair)
    threshold = (ratio * single + (classes - 2) * pair / 4) / distribution.samples
    lam = np.sqrt(factor * threshold)
    optimum = solve(distribution, Objective("normalised", lam, lam, use_bias=False))
    minority = optimum.logits[:, 3:] - optimum.logits[:, 3:].mean(axis=1, keepdims=True)
    together = np.abs(optimum.weight[3:] - optimum.weight[3:].mean(axis=0)).max() < 1e-6
    assert together == (factor > 1), np.abs(minority).max()
    assert optimum.rank == (3 if factor > 1 else 5)


@pytest.mark.parametrize("target", ["normalised", "raw"])
def test_a_free_bias_drives_unseen_classes_to_probability_zero(target):
    seen = LabelDistribution.from_counts({(0,): 3, (1,): 2, (0, 1): 1}, 2)
    wider = LabelDistribution.from_counts({(0,): 3, (2,): 2, (0, 2): 1}, 4)
    objective = Objective(target, 0.1, 0.2)
    small, optimum = solve(seen, objective), solve(wider, objective)
    assert optimum.objective == pytest.approx(small.objective, rel=1e-13)
    assert optimum.certified
    assert optimum.probabilities[:, [1, 3]].max() < 1e-20
    assert np.isfinite(optimum.bias).all()


def test_one_label_alone_with_a_free_bias_costs_nothing():
    optimum = solve(LabelDistribution.from_counts({(1,): 7}, 3), Objective("normalised", 0.1, 0.1))
    assert optimum.objective == pytest.approx(0, abs=1e-20)
    assert optimum.lower_bound == 0
    assert optimum.certified


def test_weak_penalties_on_one_label_set_are_solved():
    distribution = LabelDistribution.from_counts({(3,): 1}, 10)
    optimum = solve(distribution, Objective("normalised", 1.6e-4, 1.3e-5, use_bias=False))
    assert optimum.certified
    assert optimum.rank == 1


def test_an_unmet_tolerance_is_admitted():
    optimum = solve(step_profile(0.2), Objective("normalised", 5e-4, 0.256, 5e-4), max_iterations=4)
    assert not optimum.certified
    assert optimum.lower_bound < 0.4396693866 < optimum.objective


@pytest.mark.parametrize("name", ["scene", "yeast"])
@pytest.mark.parametrize("target", ["normalised", "raw"])
def test_real_label_matrices_are_certified(name, target):
    distribution = LabelDistribution.from_matrix(np.load(shared_file(f"multilabel/{name}.npz"))["Y"])
    assert solve(distribution, Objective(target, 5e-4, 0.256, 5e-4)).certified


def test_equal_input_gives_equal_bits():
    objective = Objective("normalised", 5e-4, 0.256, 5e-4)
    first, second = (solve(step_profile(0.1), objective) for _ in range(2))
    for name in ("weight", "bias", "prototypes", "dual_point"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()


def test_ten_classes_with_55_label_sets_take_a_few_iterations():
    found = solve(step_profile(0.1), Objective("normalised", 5e-4, 0.256, 5e-4))
    assert found.certified
    assert found.iterations <= 10  # measured: 7


def random_distribution(classes: int, label_sets: int, *, seed: int = 0) -> LabelDistribution:
    rng = np.random.default_rng(seed)
    popularity = np.arange(1, classes + 1) ** -0.7
    counts = {(k,): float(rng.integers(5, 200)) for k in range(classes)}
    while len(counts) < label_sets:
        members = rng.choice(classes, int(rng.integers(2, 5)), p=popularity / popularity.sum(), replace=False)
        counts[tuple(sorted(members.tolist()))] = float(rng.integers(1, 50))
    return LabelDistribution.from_counts(counts, classes)


@pytest.mark.parametrize("lam", [0.01, 0.06])
@pytest.mark.parametrize(("use_bias", "lambda_b"), [(True, 5e-4), (True, 0.0), (False, 0.0)])
def test_both_methods_find_the_same_minimum_of_full_and_of_deficient_rank(monkeypatch, lam, use_bias, lambda_b):
    distribution = random_distribution(15, 100)
    objective = Objective("normalised", lam, lam, lambda_b, use_bias)
    first = solve(distribution, objective, rtol=1e-10)
    monkeypatch.setattr("ncpipe.optimum.optimum._INTERIOR_COST", 0)
    second = solve(distribution, objective, rtol=1e-10)
    assert second.iterations > first.iterations
    assert second.certified
    assert second.objective == pytest.approx(first.objective, rel=1e-10)
    assert second.rank == first.rank


def test_sixty_classes_are_certified_in_factored_form():
    distribution = random_distribution(60, 800)
    optimum = solve(distribution, Objective("normalised", 5e-4, 0.256, 5e-4), rtol=1e-6)
    assert optimum.certified
    tight = solve(distribution, Objective("normalised", 5e-4, 0.256, 5e-4), rtol=1e-9, start=optimum)
    assert tight.certified
    assert optimum.lower_bound <= tight.objective <= optimum.objective
    assert optimum.rank == tight.rank == 58


def test_a_start_along_a_path_of_lambda_ends_at_the_same_optimum():
    distribution = random_distribution(50, 400)
    before = solve(distribution, Objective("raw", 0.05, 0.05, 0.1), rtol=1e-7)
    objective = Objective("raw", 0.03, 0.03, 0.1)
    warm = solve(distribution, objective, rtol=1e-9, start=before)
    assert warm.certified
    assert warm.objective == pytest.approx(solve(distribution, objective, rtol=1e-9).objective, rel=1e-8)
    assert warm.rank > before.rank


def test_a_large_problem_cut_short_says_how_far_it_came():
    optimum = solve(random_distribution(60, 800), Objective("normalised", 5e-4, 0.256, 5e-4), max_iterations=30)
    assert not optimum.certified
    assert 1e-10 < optimum.relative_gap < 1


def test_a_start_of_other_label_sets_is_refused():
    other = solve(step_profile(1, classes=4), Objective("normalised", 0.1, 0.1))
    with pytest.raises(ValueError, match="not \\(label sets, classes\\)"):
        solve(step_profile(1, classes=5), Objective("normalised", 0.1, 0.1), start=other)


@pytest.mark.slow
def test_a_hundred_classes_with_5000_label_sets_are_certified_within_the_default_iterations():
    objective = Objective("normalised", 5e-4, 0.256, 5e-4)
    found = solve(random_distribution(100, 5000), objective, rtol=1e-6)
    assert found.certified
