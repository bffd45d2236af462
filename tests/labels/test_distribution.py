from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from ncpipe.errors import InputError
from ncpipe.labels.distribution import LabelDistribution, as_distribution, contrast_basis, contrast_classes

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


def test_json_is_read_back_and_wrong_keys_are_named():
    distribution = LabelDistribution.from_counts({(0, 2): 2.5, (1,): 4}, 3, class_names=["a", "b", "c"], unlabelled=7)
    content = json.loads(json.dumps(distribution.to_json()))
    again = LabelDistribution.from_json(content)
    assert again.as_counts() == {(1,): 4.0, (0, 2): 2.5}
    assert (again.class_names, again.unlabelled) == (("a", "b", "c"), 7)
    assert LabelDistribution.from_json(
        {"label_sets": [[1, 0], [0, 1]], "counts": [1, 2], "classes": 2}
    ).as_counts() == {(0, 1): 3.0}
    for key, wrong in (
        ("classes", 2), ("classes", True), ("label_sets", [[0], ["1"]]), ("counts", [1]), ("counts", [1, float("nan")]),
        ("unlabelled", -1), ("class_names", "abc"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=f"key '{key}'"):
            LabelDistribution.from_json({**content, key: wrong})
    for key in ("classes", "label_sets", "counts"):
        with pytest.raises(InputError, match=f"key '{key}': missing"):
            LabelDistribution.from_json({k: v for k, v in content.items() if k != key})


LABEL_SETS = [[0], [2, 0], [], [0], (1, 2)]
ROWS = np.array([[1, 0, 0], [1, 0, 1], [0, 0, 0], [1, 0, 0], [0, 1, 1]])


@pytest.mark.parametrize(
    "labels",
    [
        LABEL_SETS,
        [set(s) for s in LABEL_SETS],
        tuple(np.array(s, dtype=np.int32) for s in LABEL_SETS),
        ROWS,
        ROWS.astype(bool),
        ROWS.astype(np.float16),
        sparse.csc_matrix(ROWS),
        sparse.lil_array(ROWS),
        torch.from_numpy(ROWS),
        torch.from_numpy(ROWS).bool(),
        torch.from_numpy(ROWS).to(torch.bfloat16).requires_grad_(),
        torch.from_numpy(ROWS).to_sparse(),
        pd.DataFrame(ROWS),
    ],
    ids=lambda labels: f"{type(labels).__module__}.{type(labels).__name__}",
)
def test_labels_of_every_kind_are_the_same_distribution(labels):
    distribution, label_set = as_distribution(labels)
    assert distribution.as_counts() == {(0,): 2.0, (0, 2): 1.0, (1, 2): 1.0}
    assert label_set.tolist() == [0, 1, -1, 0, 2]
    assert (distribution.unlabelled, distribution.class_names) == (1, ("0", "1", "2"))


def test_rows_can_stand_for_many_samples_and_names_come_from_columns():
    frame = pd.DataFrame(ROWS, columns=["sea", "sky", "sand"])
    distribution, label_set = as_distribution(frame, counts=np.array([2, 0, 5, 3, 4]))
    assert distribution.as_counts() == {(0,): 5.0, (1, 2): 4.0}
    assert (label_set.tolist(), distribution.unlabelled) == ([0, -1, -1, 0, 1], 5)
    assert distribution.class_names == ("sea", "sky", "sand")
    assert LabelDistribution.from_label_sets(LABEL_SETS, classes=5).classes == 5
    assert LabelDistribution.from_label_sets(LABEL_SETS, class_names=list("abcd")).class_names == ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 2, 1], "found 0 for sample 0; allowed: the classes of each sample"),
        (["0", "1+2"], "found '0' for sample 0"),
        (np.array([0, 2, 1]), r"label matrix: found shape \(3,\)"),
        ([[1, 0, 0], [0, 1, 0]], r"found a class twice in \[1, 0, 0\], sample 0; .*0/1 matrix is given as an array"),
        ([[1, 0], [0, 1]], "found rows of 0 and 1 alone; a 0/1 matrix is given as an array"),
        ([[0], [1.5]], r"label set \[1.5\]: allowed are whole class numbers"),
        ([[0], [-1]], r"label set \(-1,\): classes must lie in"),
        ([], "needs at least 2 classes"),
        ([[0], [0]], "classes: found 1"),
        ([[], []], "classes: found 0"),
        (np.array([["a", "b"]]), "label matrix: found dtype <U1"),
        (np.array([[1, 0], [0, 1]]) * 1j, "label matrix: found dtype complex128"),
        (sparse.csr_array(np.array([[1.0, np.nan], [0, 1]])), "label matrix: found nan"),
        (torch.tensor([[1, 2], [0, 1]]), "found 2 at row 0, column 1"),
        (None, "label matrix: found"),
    ],
)
def test_labels_that_are_neither_matrix_nor_label_sets_are_refused(labels, message):
    with pytest.raises(InputError, match=message):
        as_distribution(labels)


def test_the_doors_of_a_distribution_name_what_they_refuse():
    distribution = LabelDistribution.from_counts({(0,): 2, (0, 1): 1}, 3)
    with pytest.raises(InputError, match=r"target: found 'normalized'; did you mean 'normalised'\?"):
        distribution.targets("normalized")
    for multiplicity in (3, 1.5, True, None, "1"):
        with pytest.raises(InputError, match="no label set has it; those that occur are 1, 2"):
            distribution.restrict(multiplicity)
    with pytest.raises(InputError, match="multiplicity: found '1'"):
        distribution.class_counts("1")
    for counts in ([1.0], [1.0, np.nan], [1.0, 0.0], [1.0, -1.0]):
        with pytest.raises(InputError, match="counts: found"):
            LabelDistribution(distribution.indicator, np.array(counts), distribution.class_names)
    with pytest.raises(InputError, match="indicator: found ndarray"):
        LabelDistribution(distribution.multi_hot(), distribution.counts, distribution.class_names)
    with pytest.raises(InputError, match="class names: found 2 for 3 classes"):
        LabelDistribution(distribution.indicator, distribution.counts, ("a", "b"))
    with pytest.raises(InputError, match="class names: found 'ab' for 2 classes"):
        LabelDistribution.from_counts({(0,): 1}, 2, class_names="ab")
