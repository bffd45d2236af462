"""The checks at the doors: what they refuse, in which words, and what they let through unchanged."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from ncpipe.errors import (
    InputError,
    check_array,
    check_choice,
    check_instance,
    check_number,
    check_positions,
    check_whole,
)

AXES = ("sample", "feature")
BAD_ARRAYS = {
    "vector": ([1.0, 2.0], r"found shape \(2,\); allowed: 2 dimensions \(sample x feature\)"),
    "empty": (np.zeros((0, 2)), r"found shape \(0, 2\); allowed: at least one sample"),
    "no features": (np.zeros((2, 0)), r"found shape \(2, 0\); allowed: at least one feature"),
    "ragged": ([[1.0, 2.0], [3.0]], "rows of different lengths"),
    "complex": ([[1j, 2.0]], "dtype complex128"),
    "text": ([["a", "b"]], "dtype <U1"),
    "objects": (np.array([[None, 1.0]]), "dtype object"),
    "nothing": (None, "dtype object"),
    "frame with text": (pd.DataFrame({"a": ["x"], "b": [1.0]}), "dtype object"),
    "masked": (np.ma.masked_array([[1.0, 2.0]], [[True, False]]), "masked values"),
    "not a number": ([[1.0, np.nan]], "found nan at sample 0, feature 1; allowed: finite"),
    "both infinities": ([[np.inf, -np.inf]], "found inf at sample 0, feature 0"),
    "float16 overflow": (np.array([[np.inf, 1.0]], np.float16), "found inf at sample 0"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_an_array_that_cannot_be_is_refused_by_name(case):
    bad, words = BAD_ARRAYS[case]
    with pytest.raises(InputError, match=f"^features: .*{words}"):
        check_array("features", bad, AXES)


def test_sizes_are_asked_for_and_a_transposed_array_is_recognised():
    with pytest.raises(InputError, match=r"found shape \(3, 2\); allowed: 2 x 3 \(sample x feature\); the other way"):
        check_array("weight", np.ones((3, 2)), AXES, sizes=(2, 3))
    with pytest.raises(InputError, match=r"found shape \(3, 2\); allowed: 4 x any \(sample x feature\)$"):
        check_array("weight", np.ones((3, 2)), AXES, sizes=(4, None))


def test_floats_pass_without_a_copy_and_everything_else_becomes_float64():
    for dtype in (np.float32, np.float64):
        array = np.full((2, 3), 3e38, dtype)  # whose sum overflows in float32, though every value is finite
        assert check_array("features", array, AXES) is array
    others = (
        [[1, 2]],
        np.array([[True]]),
        np.float16([[1.5]]),
        torch.ones(1, 2, requires_grad=True, dtype=torch.float64),
        torch.ones(1, 2, dtype=torch.int64),
        pd.DataFrame({"a": [1], "b": [2]}),
    )
    for other in others:
        assert check_array("features", other, AXES).dtype == np.float64
    assert check_array("features", torch.ones(1, 2, dtype=torch.bfloat16), AXES).dtype == np.float32


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ([0.0, 1.0], "dtype float64"),
        ([True, False], "dtype bool"),
        ([0], r"found shape \(1,\); allowed: \(2,\)"),
        ([[0, 1]], r"found shape \(1, 2\)"),
        ([0, 3], "found 3 at sample 1; allowed: 0 to 2"),
        ([-1, 0], "found -1 at sample 0"),
    ],
)
def test_positions_that_cannot_be_are_refused_by_name(bad, words):
    with pytest.raises(InputError, match=f"^label_set: .*{words}"):
        check_positions("label_set", bad, "sample", length=2, limit=3)


def test_positions_pass_as_lists_unsigned_and_tensors():
    for good in ([0, 2], np.array([0, 2], np.uint8), torch.tensor([0, 2])):
        assert check_positions("label_set", good, "sample", length=2, limit=3).tolist() == [0, 2]


def test_words_numbers_and_instances_are_refused_by_name():
    with pytest.raises(InputError, match=r"variant: found 'defintion'; did you mean 'definition'.*allowed: definition"):
        check_choice("variant", "defintion", ("definition", "li2024"))
    with pytest.raises(InputError, match="variant: found 1; allowed: definition"):
        check_choice("variant", 1, ("definition",))
    for bad in (np.nan, "1", True, 0.5, None):
        with pytest.raises(InputError, match=r"cap: found .*; allowed: a finite number >= 1"):
            check_number("cap", bad, least=1)
    with pytest.raises(InputError, match="distribution: found list; allowed: dict"):
        check_instance("distribution", [], dict)


def test_whole_numbers_are_refused_by_name():
    for bad in (0, 4, 1.0, "1", True, None):
        with pytest.raises(InputError, match=r"multiplicity: found .*; allowed: a whole number from 1 to 3"):
            check_whole("multiplicity", bad, least=1, most=3)
    assert check_whole("multiplicity", np.int64(3), least=1) == 3
