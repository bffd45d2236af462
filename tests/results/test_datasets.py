"""Settings take the first samples of each label set; a data set opens only where manifest and store agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncpipe.data.synthesise import synthesise
from ncpipe.errors import InputError, StoreError
from ncpipe.results.datasets import open_dataset, select
from ncpipe.stores.files import read_json, write_json

LABEL_SETS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]], np.uint8)
KEYS = [(0,), (1,), (2,), (0, 1), (1, 2)]
STORED = [4, 3, 5, 2, 1]
INDEX = np.repeat(np.arange(5), STORED)
COUNTS = st.tuples(*(st.integers(0, n) for n in STORED))


def naive(counts):
    chosen = []
    for s, key in enumerate(KEYS):
        chosen += [i for i in range(len(INDEX)) if INDEX[i] == s][: counts.get(key, 0)]
    return chosen


@given(COUNTS, st.permutations(range(5)))
def test_takes_the_first_samples_in_stored_order(numbers, order):
    counts = {KEYS[s]: numbers[s] for s in order}
    chosen = select(INDEX, LABEL_SETS, counts)
    assert chosen.tolist() == naive(counts)
    assert chosen.dtype == np.int64


@given(COUNTS, COUNTS)
def test_smaller_settings_are_nested(one, other):
    small = dict(zip(KEYS, np.minimum(one, other).tolist(), strict=True))
    large = dict(zip(KEYS, one, strict=True))
    assert set(select(INDEX, LABEL_SETS, small).tolist()) <= set(select(INDEX, LABEL_SETS, large).tolist())


def test_label_sets_left_out_get_none_and_order_within_a_key_is_free():
    assert select(INDEX, LABEL_SETS, {(1, 0): 2, (2, 1): 1}).tolist() == [12, 13, 14]
    assert select(INDEX, LABEL_SETS, {}).size == 0
    assert select(INDEX, LABEL_SETS, {(0, 2): 0}).size == 0


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({(0, 1): 3}, r"label set 0\+1: found count 3; allowed are 0 to 2, the samples stored"),
        ({(0, 2): 1}, r"label set 0\+2: found count 1; allowed are 0 to 0"),
        ({(1,): -1}, r"label set 1: found count -1; allowed are 0 to 3"),
    ],
)
def test_impossible_counts_name_label_set_and_numbers(counts, message):
    with pytest.raises(InputError, match=message):
        select(INDEX, LABEL_SETS, counts)


def test_open_dataset_and_select_on_a_real_store(tmp_path, tiny_spec, log):
    manifest = synthesise(tiny_spec, tmp_path, log)
    data = open_dataset(tmp_path, "train")
    assert data.store_digest == manifest["store_digest"]
    assert data.class_names == tuple("0123456789")
    chosen = select(data.label_set, data.label_sets, {(3,): 2, (0, 9): 3})
    assert np.array_equal(data.label_sets[data.label_set[chosen]].sum(axis=1), [1, 1, 2, 2, 2])
    assert data.label_sets[data.label_set[chosen[-1]]].nonzero()[0].tolist() == [0, 9]


def test_manifest_of_another_store_is_refused(tmp_path, tiny_spec, log):
    synthesise(tiny_spec, tmp_path, log)
    manifest = read_json(tmp_path / "manifest.json")
    write_json(tmp_path / "manifest.json", manifest | {"store_digest": "0" * 64})
    with pytest.raises(StoreError, match=r"images\.zarr: found digest .*; its manifest allows 0{64} only"):
        open_dataset(tmp_path, "train")


def test_missing_pieces_are_named(tmp_path, tiny_spec, log):
    with pytest.raises(StoreError, match=r"manifest\.json: missing"):
        open_dataset(tmp_path, "test")
    synthesise(tiny_spec, tmp_path, log)
    (tmp_path / "images.zarr" / "zarr.json").unlink()
    with pytest.raises(StoreError, match=r"images\.zarr: no store here"):
        open_dataset(tmp_path, "test")
