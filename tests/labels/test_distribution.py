from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from ncpipe.errors import InputError
from ncpipe.labels.distribution import LabelDistribution, contrast_basis, contrast_classes

MATRICES = st.integers(2, 6).flatmap(
    lambda k: st.lists(st.lists(st.integers(0, 1), min_size=k, max_size=k), min_size=1, max_size=20)
)


@given(MATRICES)
def test_counting_a_matrix_agrees_with_counting_its_rows_one_by_one(rows):
    tally: dict[tuple[int, ...], int] = {}
    for row in rows:
        key = tuple(k for k, there in enumerate(row) if there)
        tally[key] = tally.get(key, 0) + 1
    unlabelled = tally.pop((), 0)
    if not tally:
        with pytest.raises(InputError, match="no labelled sample"):
            LabelDistribution.from_matrix(np.array(rows))
        return
    for matrix in (np.array(rows), np.array(rows, dtype=bool), sparse.coo_array(np.array(rows))):
        distribution = LabelDistribution.from_matrix(matrix)
        assert distribution.as_counts() == tally
        assert list(distribution.as_counts()) == sorted(tally, key=lambda s: (len(s), s))
        assert distribution.unlabelled == unlabelled


def test_equal_label_sets_are_merged_whatever_the_order_of_their_classes():
    distribution = LabelDistribution.from_counts({(1, 0): 2, (0, 1): 3, (2,): 1, (0,): 0}, 3)
    assert distribution.as_counts() == {(2,): 1.0, (0, 1): 5.0}
    np.testing.assert_array_equal(distribution.multi_hot(), [[0, 0, 1], [1, 1, 0]])
    np.testing.assert_array_equal(distribution.class_counts(), [5, 5, 1])
    np.testing.assert_array_equal(distribution.class_counts(1), [0, 0, 1])
    assert distribution.multiplicities == (1, 2)
    assert distribution.restrict(2).as_counts() == {(0, 1): 5.0}


def test_targets_sum_to_tau():
    distribution = LabelDistribution.from_counts({(0,): 1, (0, 1): 1, (0, 1, 2): 1}, 4)
    for target in ("normalised", "raw"):
        np.testing.assert_allclose(distribution.targets(target).sum(axis=1), distribution.tau(target), rtol=1e-15)
    np.testing.assert_array_equal(distribution.tau("raw"), [1, 2, 3])


@pytest.mark.parametrize(
    ("counts", "classes", "message"),
    [
        ({(0,): 1}, 1, "at least 2 classes"),
        ({(3,): 1}, 3, r"label set \(3,\): classes must lie in 0..2"),
        ({(0,): -1}, 2, "found count -1"),
        ({(0,): np.nan}, 2, "found count nan"),
        ({(0,): 0}, 2, "no labelled sample"),
        ({(): 5}, 2, "no labelled sample"),
    ],
)
def test_counts_that_are_no_distribution_are_refused_with_what_was_found(counts, classes, message):
    with pytest.raises(InputError, match=message):
        LabelDistribution.from_counts(counts, classes)


@pytest.mark.parametrize("bad", [2.0, -1.0, np.nan, 0.5])
def test_entries_other_than_0_and_1_are_refused_with_their_place(bad):
    matrix = np.zeros((3, 4))
    matrix[1, 2] = bad
    with pytest.raises(InputError, match=r"at row 1, column 2"):
        LabelDistribution.from_matrix(matrix)


@pytest.mark.parametrize("classes", [2, 3, 10, 57])
def test_contrast_basis_is_an_orthonormal_basis_of_the_zero_sum_vectors(classes):
    basis = contrast_basis(classes)
    np.testing.assert_allclose(basis.T @ basis, np.eye(classes - 1), atol=1e-14)
    np.testing.assert_allclose(basis @ basis.T, np.eye(classes) - 1 / classes, atol=1e-14)


def test_a_contrast_names_the_classes_that_carry_it():
    contrast = np.array([0.8, -0.3, -0.3, -0.2, -0.0])
    assert contrast_classes(contrast, "abcde") == [["a"], ["b", "c", "d"]]
