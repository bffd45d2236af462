"""Optima, bounds and laws of every loss, class weights and a fixed classifier, against solvers of another kind."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncpipe.errors import InputError
from ncpipe.geometry.metrics import nc2_w
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.losses import loss_gradients, loss_of, losses, predictions, simplex_etf
from ncpipe.objective.settings import Objective
from ncpipe.objective.terms import lower_bound, objective_terms, radius, residual_matrix
from ncpipe.optimum import laws
from ncpipe.optimum.bound import spectral_bound
from ncpipe.optimum.optimum import solve
from ncpipe.optimum.relu import solve_relu
from ncpipe.optimum.thresholds import minority_collapse, pair_kappa, thresholds, zero_threshold
from ncpipe.results.theory_file import theory_content
from ncpipe.theory.analysis import analyse

COUNTS = {(0,): 5, (1,): 2, (2,): 1, (0, 1): 1.5, (1, 2, 3): 1, (3,): 0.5}
DISTRIBUTION = LabelDistribution.from_counts(COUNTS, 4)
KINDS = {
    "pal": {"target": "normalised"},
    "weighted": {"target": "normalised", "class_weights": (0.5, 1.0, 2.0, 3.0)},
    "weighted raw": {"target": "raw", "class_weights": (0.5, 1.0, 2.0, 3.0)},
    "bce": {"target": "raw", "loss": "bce"},
    "mse": {"target": "normalised", "loss": "mse"},
    "mse raw": {"target": "raw", "loss": "mse"},
}
BIASES = {"penalised": {"lambda_b": 0.2}, "free": {"lambda_b": 0.0}, "none": {"use_bias": False}}
each_kind = pytest.mark.parametrize("kind", KINDS)
each_bias = pytest.mark.parametrize("bias", BIASES)
TIGHT = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-9)


def make(kind, bias="penalised", *, lam=0.1, **more):
    return Objective(lambda_w=lam, lambda_h=lam, **KINDS[kind], **BIASES[bias], **more)


def loss_by_cvxpy(objective, logits, distribution=DISTRIBUTION):
    """Written out from the definitions, label set by label set."""
    import cvxpy as cp

    total = 0.0
    for s, (members, w) in enumerate(zip(distribution.label_sets, distribution.weights, strict=True)):
        m, z = len(members), logits[s, :]
        t = np.zeros(distribution.classes)
        t[list(members)] = 1 / m if objective.target == "normalised" else 1.0
        if objective.loss == "pal":
            t *= 1.0 if objective.class_weights is None else np.array(objective.class_weights)
            total += w * (t.sum() * cp.log_sum_exp(z) - t @ z)
        elif objective.loss == "bce":
            total += w * (cp.sum(cp.logistic(z)) - t @ z)
        else:
            total += w * cp.sum_squares(z - t) / 2
    return total


def fixed_by_cvxpy(objective, *, nonnegative):
    """The minimum for the simplex ETF written out, and rounded to float32 as networks hold it: one convex problem."""
    import cvxpy as cp

    sets, classes = len(DISTRIBUTION.counts), 4
    etf = np.sqrt(classes / (classes - 1)) * (np.eye(classes) - np.ones((classes, classes)) / classes)
    etf = etf.astype(np.float32).astype(float)
    h, b = cp.Variable((sets, classes)), cp.Variable((1, classes))
    logits = h @ etf.T + (np.ones((sets, 1)) @ b if objective.use_bias else 0.0)
    value = loss_by_cvxpy(objective, logits)
    value += objective.lambda_h / 2 * cp.sum_squares(cp.diag(np.sqrt(DISTRIBUTION.weights)) @ h)
    value += objective.lambda_b / 2 * cp.sum_squares(b) if objective.bias_mode == "penalised" else 0.0
    constraints = [h >= 0] if nonnegative else []
    found = cp.Problem(cp.Minimize(value), constraints).solve(solver=cp.CLARABEL, **TIGHT)
    return found + objective.lambda_w / 2 * classes  # K rows of length 1


def step(ratio=0.2, classes=6, n_1=100, n_2=8):
    singles = {(k,): n_1 * (1 if k < classes // 2 else ratio) for k in range(classes)}
    return LabelDistribution.from_counts(singles | dict.fromkeys(combinations(range(classes), 2), n_2), classes)


@each_kind
@each_bias
def test_the_optimum_of_a_learned_classifier_agrees_with_a_general_convex_solver(kind, bias):
    import cvxpy as cp

    objective = make(kind, bias)
    z, b = cp.Variable((6, 4)), cp.Variable((1, 4))
    value = loss_by_cvxpy(objective, z + np.ones((6, 1)) @ b)
    value += objective.lam * cp.normNuc(cp.diag(np.sqrt(DISTRIBUTION.weights)) @ z)
    value += objective.lambda_b / 2 * cp.sum_squares(b) if bias == "penalised" else 0.0
    constraints = [b == 0] if bias == "none" else []
    expected = cp.Problem(cp.Minimize(value), constraints).solve(solver=cp.CLARABEL, **TIGHT)
    found = solve(DISTRIBUTION, objective)
    assert found.certified
    assert found.objective == pytest.approx(expected, rel=1e-7)
    assert (
        lower_bound(DISTRIBUTION, objective, dual_point=found.dual_point)
        == found.lower_bound
        <= found.objective * (1 + 1e-14)
    )
    assert (
        np.linalg.norm(residual_matrix(DISTRIBUTION, objective, probabilities=found.probabilities), 2)
        <= objective.lam * 1.0001
    )


@each_kind
@each_bias
@pytest.mark.parametrize("nonnegative", [False, True])
def test_the_optimum_of_a_fixed_classifier_agrees_with_a_general_convex_solver(kind, bias, nonnegative):
    objective = make(kind, bias, classifier="etf")
    found = (solve_relu if nonnegative else solve)(DISTRIBUTION, objective)
    assert found.certified
    assert abs(found.objective - found.lower_bound) <= 1e-10 * found.objective
    assert found.objective == pytest.approx(fixed_by_cvxpy(objective, nonnegative=nonnegative), rel=1e-7)
    assert found.prototypes.min() >= 0 or not nonnegative
    np.testing.assert_array_equal(found.weight, simplex_etf(4, 4))
    again = objective_terms(
        found.weight, found.bias, found.prototypes, label_set=np.arange(6), multi_hot=DISTRIBUTION.multi_hot(),
        objective=objective, sample_weights=DISTRIBUTION.weights,
    )  # fmt: skip
    assert again.total == found.objective


@pytest.mark.parametrize("kind", ["weighted", "bce", "mse"])
def test_relu_optima_lie_above_the_convex_ones_and_below_what_any_features_reach(kind):
    objective = make(kind, lam=0.03)
    found, free = solve_relu(DISTRIBUTION, objective), solve(DISTRIBUTION, objective)
    assert found.prototypes.min() >= 0
    assert free.objective <= found.lower_bound + 1e-9
    assert found.lower_bound <= found.objective <= found.lower_bound * 1.02
    rng = np.random.default_rng(0)
    for scale in (0.1, 1.0):
        features = np.maximum(found.prototypes + scale * rng.standard_normal(found.prototypes.shape), 0)
        weight = found.weight + scale * rng.standard_normal(found.weight.shape)
        terms = objective_terms(
            weight, found.bias, features, label_set=np.arange(6), multi_hot=DISTRIBUTION.multi_hot(),
            objective=objective, sample_weights=DISTRIBUTION.weights,
        )  # fmt: skip
        assert terms.total >= found.lower_bound


@each_kind
def test_numpy_values_and_gradients_are_those_of_the_solvers_loss(kind):
    objective = make(kind)
    logits = 3 * np.random.default_rng(1).standard_normal((6, 4))
    loss, targets = loss_of(DISTRIBUTION, objective), objective.target_rows(DISTRIBUTION.multi_hot())
    np.testing.assert_allclose(losses(logits, targets, objective.loss), loss.value(logits), rtol=1e-13)
    np.testing.assert_allclose(loss_gradients(logits, targets, objective.loss), loss.gradient(logits), atol=1e-14)
    residual = residual_matrix(DISTRIBUTION, objective, probabilities=predictions(logits, objective.loss))
    np.testing.assert_allclose(residual, np.sqrt(DISTRIBUTION.weights)[:, None] * loss.gradient(logits), atol=1e-14)
    step_ = 1e-6 * np.eye(4)
    slope = [
        (losses(logits + e, targets, objective.loss) - losses(logits - e, targets, objective.loss)) / 2e-6
        for e in step_
    ]
    np.testing.assert_allclose(loss.gradient(logits), np.transpose(slope), atol=1e-7)


@each_kind
@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), noise=st.floats(0.0, 1.0))
def test_laws_hold_at_optima_and_near_them(kind, seed, noise):
    """(20) and (22) with the radius of any predictions, and the radius that a gap proves."""
    rng = np.random.default_rng(seed)
    objective = make(kind, "none", lam=float(np.exp(rng.uniform(np.log(0.003), np.log(0.3)))))
    counts = {s: rng.lognormal() for s in COUNTS}
    distribution = LabelDistribution.from_counts(counts, 4)
    optimum = solve(distribution, objective)
    shift = noise * rng.standard_normal(optimum.prototypes.shape)
    weight = optimum.weight + 0.3 * noise * rng.standard_normal((4, 4))
    features = optimum.prototypes + shift
    logits = features @ weight.T
    p = predictions(logits, objective.loss)
    exact = float(np.linalg.norm(residual_matrix(distribution, objective, probabilities=p), 2))
    value = objective_terms(
        weight, np.zeros(4), features, label_set=np.arange(len(features)), multi_hot=distribution.multi_hot(),
        objective=objective, sample_weights=distribution.weights,
    ).total  # fmt: skip
    proven = radius(distribution, objective, gap=value - optimum.lower_bound)
    assert exact <= proven * (1 + 1e-9)
    for law in (
        *laws.spectral_laws(distribution, objective, probabilities=p, radius=exact),
        laws.deviation_law(distribution, objective, probabilities=p, radius=exact),
    ):
        assert law.left >= law.right - 1e-10
    left, right = laws.pair_laws(distribution, objective, logits=logits, radius=exact)
    assert (left >= right - 1e-8).all()


@pytest.mark.parametrize("kind", ["weighted", "bce", "mse"])
def test_stationarity_is_what_23_says(kind):
    objective = make(kind, lam=0.02)
    optimum = solve(DISTRIBUTION, objective)
    r = residual_matrix(DISTRIBUTION, objective, probabilities=optimum.probabilities)
    np.testing.assert_allclose(r.T @ r @ optimum.weight, objective.lam**2 * optimum.weight, atol=1e-7)
    sigma = laws.residual_sigma(DISTRIBUTION, objective, probabilities=optimum.probabilities)
    assert len(sigma) == 4 - (objective.loss == "pal")
    assert sigma[0] == pytest.approx(1, abs=1e-5)


@each_bias
@pytest.mark.parametrize("kind", ["pal", "weighted", "bce", "mse", "mse raw"])
def test_classes_collapse_at_the_thresholds(kind, bias):
    """(11a) and (11b), on both sides of each."""
    labels = step()
    equal = {"class_weights": (0.5,) * 3 + (2.0,) * 3} if kind == "weighted" else {}
    base = Objective(lambda_w=1.0, lambda_h=1.0, **{**KINDS[kind], **equal}, **BIASES[bias])
    minority, everything = minority_collapse(labels, base), zero_threshold(labels, base)
    assert minority.minority == ("3", "4", "5")
    for factor in (0.97, 1.03):
        for threshold, check in ((minority.threshold, _minority_collapsed), (everything.threshold, _all_collapsed)):
            lam = float(np.sqrt(factor * threshold))
            objective = Objective(lambda_w=lam, lambda_h=lam, **{**KINDS[kind], **equal}, **BIASES[bias])
            # The minority is the first to go: where it has gone together with everything, its threshold says no more.
            assert check(solve(labels, objective)) == (factor > 1 or lam**2 >= everything.threshold)
    kappa = pair_kappa(labels, base)
    targets = base.targets(labels)
    assert kappa[0, 4] == pytest.approx(0.5 * labels.weights @ (targets[:, 0] - targets[:, 4]) ** 2)


def _minority_collapsed(optimum):
    return bool(np.ptp(optimum.weight[3:], axis=0).max() < 1e-5)


def _all_collapsed(optimum):
    return optimum.rank == 0


def test_minority_classes_of_different_weights_are_not_exchangeable():
    objective = Objective("raw", 0.1, 0.1, class_weights=(1.0,) * 5 + (2.0,))
    found = minority_collapse(step(), objective)
    assert found.threshold is None
    assert "different weights" in found.reason


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"target": "raw", "loss": "bce"}, "loss bce"),
        ({"target": "raw", "loss": "mse"}, "loss mse"),
        ({"target": "normalised", "class_weights": (1.0, 2.0, 1.0, 1.0)}, "class weights"),
    ],
)
def test_what_is_not_stated_for_an_objective_is_null_with_the_reason(more, reason):
    objective = Objective(lambda_w=0.05, lambda_h=0.05, lambda_b=0.1, **more)
    assert reason in spectral_bound(DISTRIBUTION, objective).reason
    theory = theory_content(analyse(DISTRIBUTION, objective))
    assert theory["optimum"]["certified"]
    assert theory["bound"]["value"] is None
    assert theory["laws"]["margins"] == []
    assert reason in theory["laws"]["undefined"]["margins"]
    assert Objective.from_config(theory["objective"]) == objective


def test_a_fixed_classifier_has_optima_and_no_laws():
    objective = make("bce", classifier="etf")
    theory = theory_content(analyse(DISTRIBUTION, objective))
    for part in ("optimum", "relu"):
        assert theory[part]["certified"]
    assert theory["bound"]["value"] is None
    assert theory["laws"]["spectral"] == []
    assert theory["laws"]["pairs"] is None
    assert "fixed" in theory["laws"]["undefined"]["pairs"]
    assert "fixed" in thresholds(DISTRIBUTION, objective)["reason"]
    assert Objective.from_config(theory["objective"]) == objective


def test_a_plain_objective_is_described_as_ever():
    plain = theory_content(analyse(DISTRIBUTION, make("pal")))
    assert set(plain["objective"]) == {"target", "lambda_w", "lambda_h", "lambda_b", "bias", "lam"}
    assert "undefined" not in plain["laws"]
    assert "reason" not in plain["thresholds"]


def test_the_simplex_etf_has_unit_rows_at_equal_angles_and_is_exact_in_float32():
    for classes, width in ((3, 3), (10, 10), (10, 16)):
        etf = simplex_etf(classes, width)
        expected = np.where(np.eye(classes, dtype=bool), 1.0, -1.0 / (classes - 1))
        np.testing.assert_allclose(etf @ etf.T, expected, atol=1e-6)
        assert nc2_w(etf) < 1e-6
        assert (etf == etf.astype(np.float32)).all()
        assert not etf[:, classes:].any()
    with pytest.raises(ValueError, match="needs as many features, found 9"):
        simplex_etf(10, 9)


def test_unseen_classes_and_a_free_bias():
    """The classes that occur decide; the others get prediction 0. A fixed classifier has no such problem of its own."""
    never = LabelDistribution.from_counts({(0,): 3, (1,): 1, (0, 1): 1}, 3)
    seen = LabelDistribution.from_counts({(0,): 3, (1,): 1, (0, 1): 1}, 2)
    for more in ({"loss": "bce"}, {"class_weights": (1.0, 2.0, 5.0)}):
        objective = Objective("raw", 0.05, 0.05, **more)
        smaller = {**more, **({"class_weights": (1.0, 2.0)} if "class_weights" in more else {})}
        found, expected = solve(never, objective), solve(seen, Objective("raw", 0.05, 0.05, **smaller))
        assert found.certified
        assert found.objective == pytest.approx(expected.objective, rel=1e-9)
        assert found.probabilities[:, 2].max() < 1e-20
        with pytest.raises(InputError, match="class 2 does not"):
            solve(never, Objective("raw", 0.05, 0.05, classifier="etf", **more))
    squared = solve(never, Objective("raw", 0.05, 0.05, loss="mse"))
    assert squared.certified
    assert np.abs(squared.probabilities[:, 2]).max() < 1e-6


def test_a_fixed_total_is_the_twin_that_the_claims_name():
    """Multiplicity one scaled up to N = 40,000, or pairs scaled down: the same shares, the same optimum."""

    def reference(n_1, few, n_2):
        singles = {(k,): n_1 if k < 5 else few for k in range(10)}
        return LabelDistribution.from_counts(singles | dict.fromkeys(combinations(range(10), 2), n_2), 10)

    paper = Objective("normalised", 5e-4, 0.256, 5e-4)
    found = {
        name: nc2_w(solve(reference(*counts), paper).weight)
        for name, counts in (
            ("natural", (3100, 620, 200)), ("fewer pairs", (3100, 620, 120)), ("40,000", (3100 / 0.6, 620 / 0.6, 200)),
        )
    }  # fmt: skip
    assert found == pytest.approx({"natural": 0.222, "fewer pairs": 0.263, "40,000": 0.263}, abs=6e-4)


def test_many_label_sets_are_solved_in_blocks(monkeypatch):
    from ncpipe.optimum import fixed

    objective = make("pal", classifier="etf")
    whole = fixed.solve_fixed(DISTRIBUTION, objective, nonnegative=True)
    monkeypatch.setattr(fixed, "_BLOCK", 2 * 4**2)
    parts = fixed.solve_fixed(DISTRIBUTION, objective, nonnegative=True)
    np.testing.assert_allclose(parts.features, whole.features, atol=1e-9)
    assert parts.bound == pytest.approx(whole.bound, rel=1e-13)
