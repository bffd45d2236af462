"""Bounds on gᵀQg over g >= 0, and the certificate that they give where (9a) leaves a gap."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncpipe.errors import InputError
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.objective.settings import Objective
from ncpipe.optimum.copositive import LARGEST, copositive_ceiling, nonnegative_peak
from ncpipe.optimum.relu import solve_relu

HORN = np.array([[1, -1, 1, 1, -1], [-1, 1, -1, 1, 1], [1, -1, 1, -1, 1], [1, 1, -1, 1, -1], [-1, 1, 1, -1, 1]])


def by_supports(matrix: np.ndarray) -> float:
    """The largest gᵀQg over g >= 0: on its support the maximiser is an eigenvector, so all supports are tried."""
    best = -np.inf
    for size in range(1, len(matrix) + 1):
        for support in combinations(range(len(matrix)), size):
            values, vectors = np.linalg.eigh(matrix[np.ix_(support, support)])
            for value, vector in zip(values, vectors.T, strict=True):
                if (vector >= -1e-9).all() or (vector <= 1e-9).all():
                    best = max(best, value)
    return best


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 7))
def test_both_sides_enclose_the_largest_value(seed, size):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(size, size))
    matrix = matrix + matrix.T
    true = by_supports(matrix)
    value, vector = nonnegative_peak(matrix)
    assert vector.min() >= 0
    assert np.linalg.norm(vector) == pytest.approx(1.0)
    assert value == pytest.approx(vector @ matrix @ vector)
    assert value == pytest.approx(true, abs=1e-7)
    assert true - 1e-12 <= copositive_ceiling(matrix) <= true + 1e-5


def test_horns_matrix_is_proven_copositive():
    """The classic copositive matrix that is no sum of a semidefinite and a nonnegative one."""
    assert np.linalg.eigvalsh(HORN)[0] < -1
    assert 0 <= copositive_ceiling(-HORN) < 1e-7


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.array([[0.0, 1.0], [0.0, 0.0]]), "symmetric"),
        (np.eye(LARGEST + 1), f"found {LARGEST + 1} rows"),
        (np.array([[np.nan]]), "matrix: found nan"),
        (np.ones(3), "matrix: found shape"),
    ],
)
def test_other_matrices_are_refused(matrix, message):
    with pytest.raises(InputError, match=message):
        copositive_ceiling(matrix)


def test_the_five_cycle_ends_certified():
    """(29): acute features reach 1.536430, no nonnegative features less than 1.539299."""
    counts = {tuple(sorted((i, (i + 1) % 5))): 1 for i in range(5)}
    labels = LabelDistribution.from_counts(counts, 5)
    optimum = solve_relu(labels, Objective("normalised", 0.18, 0.18, use_bias=False))
    assert optimum.objective == pytest.approx(1.539299, abs=1e-6)
    assert optimum.lower_bound == pytest.approx(1.539299, abs=1e-6)
    assert optimum.certified


def test_level_one_closes_what_acute_features_leave():
    """Random distributions of few label sets, some of them beyond (9a): the worst gap seen in 60 was 6e-6."""
    rng = np.random.default_rng(0)
    gaps = []
    for _ in range(8):
        every = [s for m in (1, 2, 3) for s in combinations(range(5), m)]
        chosen = rng.choice(len(every), size=8, replace=False)
        labels = LabelDistribution.from_counts({every[i]: float(rng.integers(1, 20)) for i in chosen}, 5)
        optimum = solve_relu(labels, Objective("normalised", 0.1, 0.1, use_bias=False))
        assert optimum.lower_bound <= optimum.objective + 1e-12
        gaps.append(optimum.relative_gap)
    assert max(gaps) < 2e-5
    assert np.median(gaps) < 1e-6
