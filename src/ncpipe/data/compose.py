"""Composition of multi-label images from single-label ones, on a canvas of twice the side.

What follows Li, Li, Wang, Qu (ICML 2024): multiplicities one and two; the places bottom-right
and top-left; the two styles; the pixel-wise maximum; shifts uniform below a quarter of the side; a fair coin for who
is where; base images drawn without replacement within one label set, and anew for the next; the order of label sets.

- Style ``mnist``: an image lies at its place and is then rolled down and right by two independent shifts, so that what
  leaves the canvas at the bottom or the right comes back at the top or the left. Multiplicity one is always
  bottom-right: ink at the top left therefore tells multiplicity two apart.
- Style ``cifar``: one shift for both axes moves an image from its corner towards the centre; nothing wraps.
  Multiplicity one is in either corner, by a fair coin.

What is ours: multiplicities three and four, which add the places bottom-left and top-right,
with labels assigned to the first m places by a random permutation; any side; ``placement="random"``, which takes away
the hint of style ``mnist`` by giving multiplicity one either of the first two places; and the random streams: one for
each (split, label set, purpose), so that each label set of a smaller data set begins the same one of a larger.
Li's code sets no seed, so only its distribution can be reproduced, not its samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from ncpipe.errors import InputError
from ncpipe.labels.names import LabelSet, label_set_name
from ncpipe.results.datasets import Split
from ncpipe.streams import integers, permutations, stream

Style = Literal["mnist", "cifar"]
Placement = Literal["reference", "random"]

PLACES = ("bottom-right", "top-left", "bottom-left", "top-right")
MAX_MULTIPLICITY = len(PLACES)
_FAR = np.array([(1, 1), (0, 0), (1, 0), (0, 1)])  # (place, axis): 1 where a place is in the lower or the right half


@dataclass(frozen=True, eq=False)
class Composed:
    """The samples of one split: label sets in canonical order, the samples of each contiguous.

    Parameters
    ----------
    images : ndarray, shape (N, 2s, 2s, C), uint8
    label_set : ndarray, shape (N,), int32
        Row of each sample among the label sets.
    base_index : ndarray, shape (N, 4), int32
        Position (`BaseImages.train_index` or `test_index`) of the base image that lies at each of `PLACES`; -1: none.
    """

    images: np.ndarray
    label_set: np.ndarray
    base_index: np.ndarray


@dataclass(frozen=True, eq=False)
class Draws:
    """What chance decides for n samples of a label set of multiplicity m.

    Parameters
    ----------
    member : ndarray, shape (n, m)
        Which of its class's images each label takes: 0, 1, … in file order.
    place : ndarray, shape (n, m)
        Where each label lies, an index into `PLACES`.
    shift : ndarray, shape (n, m, 2)
        Shift along each axis, pixels.
    """

    member: np.ndarray
    place: np.ndarray
    shift: np.ndarray


def canonical_label_sets(classes: int, multiplicities: Sequence[int]) -> list[LabelSet]:
    """All label sets of the given multiplicities, multiplicity first, then lexicographic."""
    return [label_set for m in sorted(multiplicities) for label_set in combinations(range(classes), m)]


def draw(
    label_set: LabelSet,
    count: int,
    *,
    available: Sequence[int],
    side: int,
    split: Split,
    style: Style,
    placement: Placement,
    seed: int,
) -> Draws:
    """Draw everything that chance decides for `count` samples; a larger count begins with a smaller one.

    Parameters
    ----------
    label_set : tuple of int
    count : int
    available : sequence of int
        Base images of each class of the label set; >= `count` each.
    side : int
        Of the base images, pixels.
    split : {"train", "test"}
    style : {"mnist", "cifar"}
    placement : {"reference", "random"}
    seed : int
    """
    m = len(label_set)
    name = label_set_name(label_set)
    member = np.stack(
        [
            permutations(stream(seed, "base image", split, name, k), 1, size)[0, :count]
            for k, size in zip(label_set, available, strict=True)
        ],
        axis=1,
    )
    places = stream(seed, "place", split, name)
    if m > 1:
        place = permutations(places, count, m)
    elif style == "mnist" and placement == "reference":
        place = np.zeros((count, 1), np.int64)
    else:
        place = integers(places, 2, (count, 1))
    shift = integers(stream(seed, "shift", split, name), side // 4, (count, m, 2))
    return Draws(member, place, shift)


def origins(place: np.ndarray, shift: np.ndarray, *, side: int, style: Style) -> np.ndarray:
    """Row and column of the canvas where the first pixel of each image goes.

    Parameters
    ----------
    place : ndarray, shape (n, m)
    shift : ndarray, shape (n, m, 2)
        Style ``cifar`` uses the first one for both axes.
    side : int
    style : {"mnist", "cifar"}

    Returns
    -------
    ndarray, shape (n, m, 2)
    """
    far = _FAR[place]  # (n, m, 2)
    if style == "mnist":
        return side * far + shift
    inward = shift[..., :1]
    return np.where(far == 1, side - inward, inward)


def paint(canvas: np.ndarray, images: np.ndarray, chosen: np.ndarray, origin: np.ndarray) -> None:
    """Compose in place, by pixel-wise maximum; what leaves the canvas comes back on the other side.

    Parameters
    ----------
    canvas : ndarray, shape (n, 2s, 2s, C), uint8
        Black at first.
    images : ndarray, shape (B, s, s, C), uint8
    chosen : ndarray, shape (n, m)
        Rows of `images`.
    origin : ndarray, shape (n, m, 2)
    """
    count, m = chosen.shape
    side = images.shape[1]
    sample = np.arange(count)[:, None, None]
    within = np.arange(side)
    for j in range(m):
        rows, columns = ((origin[:, j, axis, None] + within) % (2 * side) for axis in (0, 1))  # (n, s) each
        window = (sample, rows[:, :, None], columns[:, None, :])
        canvas[window] = np.maximum(canvas[window], images[chosen[:, j]])


def compose(
    images: np.ndarray,
    labels: np.ndarray,
    index: np.ndarray,
    *,
    label_sets: Sequence[LabelSet],
    counts: Sequence[int],
    split: Split,
    style: Style,
    placement: Placement,
    seed: int,
) -> Composed:
    """Compose one split.

    Parameters
    ----------
    images : ndarray, shape (B, s, s, C), uint8
    labels, index : ndarray, shape (B,)
        Class and position of each base image.
    label_sets : sequence of tuple of int
        In canonical order.
    counts : sequence of int
        Samples of each label set of multiplicity 1, 2, ...; what is not named is 0.
    split, style, placement, seed
        As for `draw`.

    Raises
    ------
    InputError
        If a class has fewer base images than a label set needs.
    """
    side = images.shape[1]
    sizes = [counts[len(s) - 1] if len(s) <= len(counts) else 0 for s in label_sets]
    total = sum(sizes)
    composed = Composed(
        images=np.zeros((total, 2 * side, 2 * side, images.shape[3]), np.uint8),
        label_set=np.repeat(np.arange(len(label_sets), dtype=np.int32), sizes),
        base_index=np.full((total, MAX_MULTIPLICITY), -1, np.int32),
    )
    members = {k: np.flatnonzero(labels == k) for s in label_sets for k in s}
    start = 0
    for label_set, count in zip(label_sets, sizes, strict=True):
        available = [len(members[k]) for k in label_set]
        if count > min(available):
            raise InputError(
                f"{split} samples of label set {label_set_name(label_set)}: found count {count}; allowed are at most "
                f"{min(available)}, the base images of its smallest class"
            )
        draws = draw(
            label_set, count,
            available=available, side=side, split=split, style=style, placement=placement, seed=seed,
        )  # fmt: skip
        chosen = np.stack([members[k][draws.member[:, j]] for j, k in enumerate(label_set)], axis=1)  # (n, m)
        rows = slice(start, start + count)
        paint(composed.images[rows], images, chosen, origins(draws.place, draws.shift, side=side, style=style))
        np.put_along_axis(composed.base_index[rows], draws.place, index[chosen].astype(np.int32), axis=1)
        start += count
    return composed
