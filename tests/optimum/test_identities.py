"""Identities of stationary points, (26) and (32): exact at certified optima of any loss, broken by moving away."""

from __future__ import annotations

import numpy as np
import pytest

from ncpipe.errors import InputError
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.settings import Objective
from ncpipe.optimum.identities import implied_lambda_h, kernel_synthesis
from ncpipe.optimum.optimum import solve

LABELS = LabelDistribution.from_counts({(0,): 40, (1,): 9, (2,): 5, (0, 1): 7, (1, 2): 4, (0, 1, 2): 3, (3,): 20}, 4)


def synthesised(objective, optimum, factor):
    return kernel_synthesis(
        LABELS, objective, weight=optimum.weight, bias=optimum.bias, prototypes=factor * optimum.prototypes
    )


@pytest.mark.parametrize("bias", [{"use_bias": False}, {"lambda_b": 0.02}, {"lambda_b": 0.0}])
@pytest.mark.parametrize("loss", ["pal", "bce", "mse"])
def test_optima_are_synthesised_by_their_residual_kernel_and_in_balance(loss, bias):
    objective = Objective("raw", 0.02, 0.05, loss=loss, **bias)
    optimum = solve(LABELS, objective, rtol=1e-13)
    made = synthesised(objective, optimum, 1.0)
    assert made.residual_prototypes < 1e-5
    assert made.residual_weight < 1e-5
    square = float(LABELS.weights @ (optimum.prototypes**2).sum(axis=1))
    assert implied_lambda_h(optimum.weight, square, objective.lambda_w) == pytest.approx(0.05, rel=1e-6)
    elsewhere = synthesised(objective, optimum, 1.1)
    assert elsewhere.residual_prototypes > 0.01


def test_turning_the_features_changes_nothing():
    objective = Objective("normalised", 0.02, 0.05, use_bias=False)
    optimum = solve(LABELS, objective, rtol=1e-13)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(9, 4)))[0].T  # (4, 9)
    made = kernel_synthesis(
        LABELS, objective, weight=optimum.weight @ turn, bias=optimum.bias, prototypes=optimum.prototypes @ turn
    )
    assert made.residual_prototypes < 1e-5


@pytest.mark.parametrize(
    ("weight", "prototypes", "message"),
    [
        (np.ones((3, 4)), np.ones((7, 4)), "found shapes"),
        (np.ones((4, 4)), np.ones((7, 5)), "found shapes"),
        (np.zeros((4, 4)), np.ones((7, 4)), "weight: found only zeros"),
        (np.full((4, 4), np.nan), np.ones((7, 4)), "weight: found nan"),
    ],
)
def test_other_points_are_refused(weight, prototypes, message):
    with pytest.raises(InputError, match=message):
        kernel_synthesis(
            LABELS, Objective("normalised", 0.1, 0.1), weight=weight, bias=np.zeros(4), prototypes=prototypes
        )


@pytest.mark.parametrize(
    ("weight", "square", "lambda_w"), [(np.zeros((2, 2)), 1, 1), (np.ones((2, 2)), 0, 1), (np.ones((2, 2)), 1, -1)]
)
def test_balance_refuses_what_has_none(weight, square, lambda_w):
    with pytest.raises(InputError):
        implied_lambda_h(weight, square, lambda_w)
