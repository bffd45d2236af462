"""The optimum over h >= 0: measured values, the semidefinite relaxation, rigour of the bound."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.settings import Objective
from ncpipe.objective.terms import objective_terms, residual_matrix
from ncpipe.optimum.optimum import solve
from ncpipe.optimum.relu import CERTIFIED_GAP, solve_relu

BIASES = {"none": (0.0, False), "free": (0.0, True), "penalised": (0.05, True)}


def step(r, *, alone=3100.0, pair=200.0):
    counts = {(k,): alone * (1 if k < 5 else r) for k in range(10)}
    counts |= dict.fromkeys(itertools.combinations(range(10), 2), pair)
    return LabelDistribution.from_counts(counts, 10)


def random_case(seed, bias, target):
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(3, 6))
    sets = [s for m in range(1, classes) for s in itertools.combinations(range(classes), m) if rng.random() < 0.5]
    distribution = LabelDistribution.from_counts({s: float(rng.integers(1, 200)) for s in sets}, classes)
    lam = np.exp(rng.uniform(np.log(0.01), np.log(0.15)))
    lambda_b, use_bias = BIASES[bias]
    return distribution, Objective(target, 2 * lam, lam / 2, lambda_b, use_bias)


def semidefinite(distribution, objective):
    """(9) under (9a) as cvxpy states it, with u and N as unknowns."""
    import cvxpy as cp

    targets, tau = distribution.targets(objective.target), distribution.tau(objective.target)
    weights = distribution.weights
    count, classes = targets.shape
    u = cp.Variable((count, classes), nonneg=True)
    slack = cp.Variable((count, count), symmetric=True)
    residual = cp.multiply(np.sqrt(weights)[:, None], cp.multiply(tau[:, None], u) - targets)
    mean = np.sqrt(weights) @ residual
    value = cp.sum(cp.multiply((weights * tau)[:, None], cp.entr(u)))
    block = cp.bmat([[objective.lam**2 * np.eye(count) - slack, residual], [residual.T, np.eye(classes)]])
    constraints = [cp.sum(u, axis=1) == 1, slack >= 0, block >> 0]
    if objective.bias_mode == "penalised":
        value -= cp.sum_squares(mean) / (2 * objective.lambda_b)
    if objective.bias_mode == "free":
        constraints.append(mean == 0)
    problem = cp.Problem(cp.Maximize(value), constraints)
    problem.solve(solver="CLARABEL")
    return problem.value


@pytest.mark.parametrize(("r", "expected"), [(1.0, 0.387074), (0.2, 0.454008), (0.1, 0.465056)])
def test_reference_setting_is_certified_at_its_measured_value(r, expected):
    result = solve_relu(step(r), Objective("normalised", 5e-4, 0.256, 5e-4))
    assert result.objective == pytest.approx(expected, abs=6e-7)
    assert result.certified
    assert result.relative_gap < CERTIFIED_GAP / 5


@pytest.mark.parametrize(("r", "expected"), [(1.0, 0.50846), (0.2, 0.59705), (0.1, 0.61161)])
def test_default_data_set_is_certified_at_its_measured_value(r, expected):
    result = solve_relu(step(r, alone=140.0, pair=20.0), Objective("normalised", 5e-4, 0.256, 5e-4))
    assert result.objective == pytest.approx(expected, abs=6e-6)
    assert result.certified


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")
@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("target", ["normalised", "raw"])
@pytest.mark.parametrize("seed", range(2))
def test_bound_equals_the_semidefinite_program(seed, target, bias, monkeypatch):
    monkeypatch.setattr("ncpipe.optimum.copositive.LARGEST", 0)  # (9a) alone
    distribution, objective = random_case(seed, bias, target)
    result = solve_relu(distribution, objective)
    assert result.lower_bound == pytest.approx(semidefinite(distribution, objective), rel=1e-6)


@st.composite
def distributions(draw, most=4):
    classes = draw(st.integers(2, most))
    sets = [s for m in range(1, classes + 1) for s in itertools.combinations(range(classes), m)]
    counts = draw(st.lists(st.integers(0, 60), min_size=len(sets), max_size=len(sets)))
    assume(any(counts))
    return LabelDistribution.from_counts(dict(zip(sets, counts, strict=True)), classes)


@given(
    distribution=distributions(),
    bias=st.sampled_from(sorted(BIASES)),
    target=st.sampled_from(["normalised", "raw"]),
    lam=st.floats(5e-3, 0.5),
)
@settings(max_examples=20, deadline=None)
def test_lies_between_the_convex_optimum_and_every_feasible_point(distribution, bias, target, lam):
    lambda_b, use_bias = BIASES[bias]
    objective = Objective(target, 2 * lam, lam / 2, lambda_b, use_bias)
    result = solve_relu(distribution, objective)
    convex = solve(distribution, objective)
    scale = 1e-9 + 1e-6 * result.objective
    assert result.lower_bound <= result.objective * (1 + 1e-14)
    assert result.lower_bound >= convex.lower_bound - scale  # (9a) relaxes (9)
    assert (result.prototypes >= 0).all()
    np.testing.assert_allclose(result.logits, result.prototypes @ result.weight.T + result.bias, atol=1e-12)
    np.testing.assert_allclose(result.probabilities.sum(axis=1), 1)
    # the sign split of the convex optimum is a feasible point
    split = np.hstack([np.maximum(convex.prototypes, 0), np.maximum(-convex.prototypes, 0)])
    terms = objective_terms(
        np.hstack([convex.weight, -convex.weight]),
        convex.bias,
        split,
        label_set=np.arange(len(split)),
        multi_hot=distribution.multi_hot(),
        objective=objective,
        sample_weights=distribution.weights,
    )
    assert result.lower_bound <= terms.total + scale


def test_no_random_feasible_point_lies_below_the_bound():
    distribution, objective = random_case(7, "penalised", "normalised")
    bound = solve_relu(distribution, objective).lower_bound
    rng = np.random.default_rng(0)
    best = solve_relu(distribution, objective)
    for spread in (0.0, 1e-4, 1e-2, 1.0):
        for _ in range(50):
            terms = objective_terms(
                best.weight + spread * rng.normal(size=best.weight.shape),
                best.bias + spread * rng.normal(size=best.bias.shape),
                np.maximum(best.prototypes + spread * rng.normal(size=best.prototypes.shape), 0),
                label_set=np.arange(len(distribution.counts)),
                multi_hot=distribution.multi_hot(),
                objective=objective,
                sample_weights=distribution.weights,
            )
            assert terms.total >= bound


def test_residuals_exceed_lambda_where_the_orthant_binds_but_not_sqrt_two_lambda():
    distribution = step(0.2)
    objective = Objective("normalised", 5e-4, 0.256, 5e-4)
    result = solve_relu(distribution, objective)
    norm = np.linalg.norm(residual_matrix(distribution, objective, probabilities=result.probabilities), 2)
    assert objective.lam * 1.01 < norm < np.sqrt(2) * objective.lam


def test_equal_seeds_give_equal_bytes():
    distribution, objective = random_case(1, "none", "raw")
    first, second = (solve_relu(distribution, objective, seed=3) for _ in range(2))
    assert first.objective == second.objective
    assert first.lower_bound == second.lower_bound
    assert first.prototypes.tobytes() == second.prototypes.tobytes()


def test_classes_that_never_occur_do_not_open_a_gap():
    distribution = LabelDistribution.from_counts({(0,): 5, (1,): 3, (0, 1): 2}, 4)
    free = Objective("normalised", 0.05, 0.05)
    result = solve_relu(distribution, free)
    seen = LabelDistribution.from_counts({(0,): 5, (1,): 3, (0, 1): 2}, 2)
    assert result.objective == pytest.approx(solve_relu(seen, free).objective)
    assert result.certified
    assert result.weight.shape[0] == 4
    assert not result.weight[2:].any()
    assert result.probabilities[:, 2:].max() < 1e-20


def test_many_label_sets_fall_back_to_the_bound_without_the_orthant(monkeypatch):
    distribution, objective = random_case(0, "free", "normalised")
    sharp = solve_relu(distribution, objective)
    monkeypatch.setattr("ncpipe.optimum.relu._LARGEST", 1)
    monkeypatch.setattr("ncpipe.optimum.copositive.LARGEST", 0)
    plain = solve_relu(distribution, objective)
    assert plain.lower_bound < sharp.lower_bound
    assert not plain.certified
    assert plain.lower_bound <= solve(distribution, objective).objective * (1 + 1e-9)


@pytest.mark.slow
def test_thirty_classes_are_certified():
    counts = {(k,): 3100.0 * (1 if k < 15 else 0.2) for k in range(30)}
    counts |= dict.fromkeys(itertools.combinations(range(30), 2), 200.0)
    result = solve_relu(LabelDistribution.from_counts(counts, 30), Objective("normalised", 5e-4, 0.256, 5e-4))
    assert result.certified
