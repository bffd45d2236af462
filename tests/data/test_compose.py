"""Composition against naive loops, Li's geometry, and the promises about draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ncpipe.data.compose import PLACES, canonical_label_sets, compose, draw, origins, paint
from ncpipe.errors import InputError

SIDE = 8
CORNER = {"bottom-right": (1, 1), "top-left": (0, 0), "bottom-left": (1, 0), "top-right": (0, 1)}


def base_images(per_class: int, *, classes: int = 4, side: int = SIDE, channels: int = 1):
    """Images of random pixels, classes interleaved, file positions that are not row numbers."""
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(classes), per_class)
    images = rng.integers(1, 256, (len(labels), side, side, channels), dtype=np.uint8)
    return images, labels, 1000 + 3 * np.arange(len(labels))


def compose_small(counts, *, style="mnist", placement="reference", per_class=12, classes=4, channels=1, **options):
    images, labels, index = base_images(per_class, classes=classes, channels=channels)
    label_sets = canonical_label_sets(classes, range(1, len(counts) + 1))
    settings_ = {"split": "train", "seed": 0} | options
    return compose(
        images, labels, index, label_sets=label_sets, counts=counts, style=style, placement=placement, **settings_
    )


def naive_canvas(image, place, shift, style):
    """One image alone on its canvas: pad, then roll (mnist); or pad unevenly (cifar), pixel by pixel."""
    side, _, channels = image.shape
    low, right = CORNER[PLACES[place]]
    canvas = np.zeros((2 * side, 2 * side, channels), np.uint8)
    for row in range(side):
        for column in range(side):
            for channel in range(channels):
                if style == "mnist":
                    r, c = (side * low + row + shift[0]) % (2 * side), (side * right + column + shift[1]) % (2 * side)
                else:
                    p = shift[0]
                    r, c = row + (side - p if low else p), column + (side - p if right else p)
                canvas[r, c, channel] = image[row, column, channel]
    return canvas


@pytest.mark.parametrize("style", ["mnist", "cifar"])
@pytest.mark.parametrize("channels", [1, 3])
def test_samples_equal_the_naive_composition(style, channels):
    counts = [3, 2, 2, 2]
    composed = compose_small(counts, style=style, channels=channels)
    images, _, index = base_images(12, channels=channels)
    label_sets = canonical_label_sets(4, [1, 2, 3, 4])
    row = 0
    for label_set in label_sets:
        count = counts[len(label_set) - 1]
        draws = draw(
            label_set, count,
            available=[12] * len(label_set), side=SIDE, split="train", style=style, placement="reference", seed=0,
        )  # fmt: skip
        for i in range(count):
            expected = np.zeros_like(composed.images[0])
            for place, position in enumerate(composed.base_index[row]):
                if position >= 0:
                    j = draws.place[i].tolist().index(place)
                    image = images[index.tolist().index(position)]
                    expected = np.maximum(expected, naive_canvas(image, place, draws.shift[i, j], style))
            assert np.array_equal(composed.images[row], expected)
            row += 1
    assert row == len(composed.images)


def painted(image, origin):
    """The canvas of a single image, shape (1, s, s, C), at a single place."""
    side, channels = image.shape[1], image.shape[3]
    canvas = np.zeros((1, 2 * side, 2 * side, channels), np.uint8)
    paint(canvas, image, np.zeros((1, 1), int), origin)
    return canvas[0]


@pytest.mark.parametrize("shift", [(0, 0), (6, 0), (0, 6), (3, 5), (6, 6)])
@pytest.mark.parametrize("place", [0, 1])
def test_li_mnist_geometry(place, shift):
    """Li: padded at the top and left (bottom-right) or at the bottom and right, then rolled down and right."""
    full = np.full((1, 28, 28, 1), 255, np.uint8)
    origin = origins(np.array([[place]]), np.array([[shift]]), side=28, style="mnist")
    ink = painted(full, origin)[:, :, 0] > 0
    start = 28 if place == 0 else 0
    padded = np.zeros((56, 56), bool)
    padded[start : start + 28, start : start + 28] = True
    assert np.array_equal(ink, np.roll(padded, shift, axis=(0, 1)))
    rows = set(np.flatnonzero(ink.any(axis=1)).tolist())
    allowed = set(range(28, 56)) | set(range(6)) if place == 0 else set(range(34))
    assert rows <= allowed
    if place == 0 and shift[0] == 6:
        assert {0, 5, 34, 55} <= rows  # wrapped round the border
        assert 33 not in rows


@pytest.mark.parametrize("p", range(8))
def test_li_cifar_geometry(p):
    """Li: p on one side of the padding, 32 - p on the other, the same for both axes; second shift unused; no wrap."""
    full = np.full((1, 32, 32, 3), 255, np.uint8)
    for place, start in ((0, 32 - p), (1, p)):
        origin = origins(np.array([[place]]), np.array([[(p, 7 - p)]]), side=32, style="cifar")
        ink = painted(full, origin).min(axis=-1) > 0
        expected = np.zeros((64, 64), bool)
        expected[start : start + 32, start : start + 32] = True
        assert np.array_equal(ink, expected)


@given(st.integers(1, 4), st.sampled_from(["mnist", "cifar"]), st.integers(0, 2**32), st.sampled_from([8, 28, 32]))
@settings(max_examples=40, deadline=None)
def test_draws_keep_their_ranges(m, style, seed, side):
    draws = draw(
        tuple(range(m)), 20,
        available=[25] * m, side=side, split="test", style=style, placement="reference", seed=seed,
    )  # fmt: skip
    assert draws.member.shape == draws.place.shape == (20, m)
    assert 0 <= draws.shift.min() <= draws.shift.max() < side // 4
    assert all(len(set(column)) == 20 for column in draws.member.T.tolist())
    if m > 1:
        assert np.array_equal(np.sort(draws.place, axis=1), np.broadcast_to(np.arange(m), (20, m)))
    else:
        assert set(draws.place[:, 0].tolist()) <= ({0} if style == "mnist" else {0, 1})


@pytest.mark.parametrize("style", ["mnist", "cifar"])
def test_larger_counts_and_more_multiplicities_extend(style):
    small, large = compose_small([4, 2], style=style), compose_small([9, 7, 1], style=style)
    for row in range(10):  # 4 classes and 6 pairs
        of_small, of_large = small.label_set == row, large.label_set == row
        count = int(of_small.sum())
        assert count == (4 if row < 4 else 2)
        assert np.array_equal(small.images[of_small], large.images[of_large][:count])
        assert np.array_equal(small.base_index[of_small], large.base_index[of_large][:count])


def test_no_base_image_twice_within_a_label_set_and_classes_fit():
    composed = compose_small([12, 12, 12, 12])
    _, labels, index = base_images(12)
    class_of = dict(zip(index.tolist(), labels.tolist(), strict=True))
    for row, label_set in enumerate(canonical_label_sets(4, [1, 2, 3, 4])):
        used = composed.base_index[composed.label_set == row]
        positions = used[used >= 0].tolist()
        assert len(positions) == len(set(positions)) == 12 * len(label_set)
        assert all({class_of[p] for p in sample if p >= 0} == set(label_set) for sample in used.tolist())
        assert np.all((used >= 0).sum(axis=1) == len(label_set))


def test_label_sets_share_base_images_but_not_draws():
    composed = compose_small([12, 6])
    first, pair = (composed.base_index[composed.label_set == row] for row in (0, 4))
    assert set(pair[pair >= 0].tolist()) & set(first[:, 0].tolist())
    options = {
        "available": [50, 50],
        "side": 28,
        "split": "train",
        "style": "mnist",
        "placement": "reference",
        "seed": 0,
    }
    single = draw((0,), 50, **options | {"available": [50]})
    one, other = (draw(pair, 50, **options) for pair in ((0, 1), (0, 2)))
    for first_draw, second_draw in ((one, other), (one, single)):
        assert not np.array_equal(first_draw.member[:, 0], second_draw.member[:, 0])  # class 0, in another order
        assert not np.array_equal(first_draw.shift[:, 0], second_draw.shift[:, 0])
    assert not np.array_equal(one.member[:, 0], one.member[:, 1])
    assert not np.array_equal(one.place, other.place)
    train, test = compose_small([12]), compose_small([12], split="test")
    assert not np.array_equal(train.base_index, test.base_index)


def test_order_is_canonical():
    composed = compose_small([3, 2, 1])
    assert canonical_label_sets(4, [2, 1]) == [(0,), (1,), (2,), (3,), (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert composed.label_set.tolist() == np.repeat(np.arange(14), [3] * 4 + [2] * 6 + [1] * 4).tolist()
    assert composed.label_set.dtype == composed.base_index.dtype == np.int32


def test_all_label_sets_of_ten_classes_are_counted():
    assert [len(canonical_label_sets(10, [m])) for m in (1, 2, 3, 4)] == [math.comb(10, m) for m in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("label_set", "style", "placement", "used"),
    [
        ((0,), "mnist", "reference", {0}),
        ((0,), "mnist", "random", {0, 1}),
        ((0,), "cifar", "reference", {0, 1}),
        ((0,), "cifar", "random", {0, 1}),
        ((0, 3), "mnist", "reference", {0, 1}),
        ((0, 3), "cifar", "random", {0, 1}),
    ],
)
def test_coins_are_fair_and_shifts_uniform(label_set, style, placement, used):
    count = 4900
    draws = draw(
        label_set, count,
        available=[count] * len(label_set), side=28, split="train", style=style, placement=placement, seed=0,
    )  # fmt: skip
    assert set(draws.place.ravel().tolist()) == used
    if len(used) == 2:
        assert stats.binomtest(int(draws.place[:, 0].sum()), count).pvalue > 1e-3
    for j in range(len(label_set)):
        joint = np.bincount(7 * draws.shift[:, j, 0] + draws.shift[:, j, 1], minlength=49)
        assert stats.chisquare(joint).pvalue > 1e-3  # uniform, and the two axes independent
    if len(label_set) == 2:
        together = np.bincount(7 * draws.shift[:, 0, 0] + draws.shift[:, 1, 0], minlength=49)
        assert stats.chisquare(together).pvalue > 1e-3  # each image has its own shift


def test_reference_placement_shows_multiplicity_in_the_top_left_and_random_does_not():
    images = np.full((40, SIDE, SIDE, 1), 255, np.uint8)
    labels, index = np.repeat([0, 1], 20), np.arange(40)
    for placement, expected in (("reference", 0), ("random", 40)):
        composed = compose(
            images, labels, index,
            label_sets=[(0,), (1,)], counts=[20], split="train", style="mnist", placement=placement, seed=0,
        )  # fmt: skip
        top_left = int((composed.images[:, 3, 3, 0] > 0).sum())  # no wrapped pixel reaches it
        assert top_left == expected or 5 < top_left < 35
        assert (top_left == 0) == (placement == "reference")


def test_too_few_base_images_names_label_set_and_limit():
    with pytest.raises(InputError, match=r"train samples of label set 0: found count 13; allowed are at most 12"):
        compose_small([13])


def test_seed_changes_everything():
    one, other = compose_small([4, 2]), compose_small([4, 2], seed=1)
    assert not np.array_equal(one.base_index, other.base_index)
    assert np.array_equal(one.label_set, other.label_set)
