"""Named streams: stable across machines and versions, independent of what ran before, prefixes of one another."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ncpipe.streams import integers, permutations, stream

FROZEN_INTEGERS = [5, 6, 0, 4, 2, 4, 2, 6]
FROZEN_PERMUTATIONS = [[3, 2, 1, 0, 4], [4, 2, 0, 1, 3]]
FROZEN_WORD = 1302572215268996973
NAMES = st.lists(st.one_of(st.text(max_size=8), st.integers(-5, 5)), max_size=4)


def test_known_values_never_change():
    assert integers(stream(0, "shift", "train", "0+7"), 7, (8,)).tolist() == FROZEN_INTEGERS
    assert permutations(stream(3, "place", 1), 2, 5).tolist() == FROZEN_PERMUTATIONS
    assert stream(2**70, "a").bit_generator.random_raw() == FROZEN_WORD


def test_seeding_is_the_documented_one():
    digest = hashlib.sha256(json.dumps(["base image", 3]).encode()).digest()
    key = [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 32, 4)]
    expected = np.random.PCG64(np.random.SeedSequence(11, spawn_key=key)).random_raw(4)
    assert np.array_equal(stream(11, "base image", 3).bit_generator.random_raw(4), expected)


def test_streams_ignore_what_ran_before():
    first = stream(1, "a").bit_generator.random_raw(5)
    np.random.default_rng(1).random(100)
    stream(1, "b").random(10)
    assert np.array_equal(stream(1, "a").bit_generator.random_raw(5), first)


@given(NAMES, NAMES)
def test_different_names_give_different_streams(one, other):
    same = np.array_equal(stream(0, *one).bit_generator.random_raw(2), stream(0, *other).bit_generator.random_raw(2))
    assert same == (one == other)


@pytest.mark.parametrize("pair", [((1,), ("1",)), (("ab",), ("a", "b")), (("a",), ("a", ""))])
def test_names_that_look_alike_differ(pair):
    one, other = (stream(0, *names).bit_generator.random_raw() for names in pair)
    assert one != other


def test_negative_seed_is_refused():
    with pytest.raises(ValueError, match="non-negative"):
        stream(-1, "a")


@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 300))
def test_a_larger_draw_begins_with_the_smaller(few, more, bound):
    few, more = sorted((few, more))
    small, large = integers(stream(5, "x"), bound, (few, 2)), integers(stream(5, "x"), bound, (more, 2))
    assert np.array_equal(small, large[:few])
    assert np.array_equal(permutations(stream(5, "x"), few, 4), permutations(stream(5, "x"), more, 4)[:few])
    assert large.size == 0 or (large.min() >= 0 and large.max() < bound)


def test_integers_are_uniform():
    counts = np.bincount(integers(stream(0, "uniform"), 7, (70_000,)), minlength=7)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_permutations_are_uniform():
    rows = permutations(stream(0, "uniform"), 24_000, 4)
    assert np.array_equal(np.sort(rows, axis=1), np.broadcast_to(np.arange(4), rows.shape))
    counts = np.unique(rows, axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3
