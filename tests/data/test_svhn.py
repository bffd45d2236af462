"""SVHN's MATLAB files: read where they are the official ones, and no others."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from ncpipe.data import svhn
from ncpipe.data.base import load_base
from ncpipe.data.official import DOWNLOADS
from ncpipe.data.synthesise import synthesise
from ncpipe.errors import InputError
from ncpipe.experiment.base_sets import BASE_SETS
from ncpipe.experiment.plan import setting_counts
from ncpipe.results.datasets import open_dataset

IMAGES = np.random.default_rng(3).integers(0, 256, (32, 32, 3, 30), dtype=np.uint8)
DIGITS = (np.arange(30, dtype=np.uint8) % 10 + 1)[:, None]


def write_split(path: Path, images: np.ndarray = IMAGES, digits: np.ndarray = DIGITS, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {"X": images, "y": digits}, **{"do_compression": True, **options})
    return path


@pytest.fixture
def write_svhn(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Path]:
    """Write two small files, and let them pass for the official ones."""

    def write(folder: Path) -> Path:
        write_split(folder / svhn.FILES["train"])
        write_split(folder / svhn.FILES["test"], IMAGES[..., 10:], DIGITS[10:])
        for name in svhn.FILES.values():
            monkeypatch.setitem(svhn.SHA256, name, hashlib.sha256((folder / name).read_bytes()).hexdigest())
        return folder

    return write


def test_pixels_lie_where_matlab_has_them(tmp_path, write_svhn):
    images, digits = svhn.read_svhn(svhn.find_svhn(write_svhn(tmp_path), "train"))
    assert images.shape == (30, 32, 32, 3)
    assert images.dtype == digits.dtype == np.uint8
    assert digits.tolist() == DIGITS[:, 0].tolist()
    for image, row, column, channel in ((0, 0, 0, 0), (29, 31, 5, 2), (15, 0, 31, 1)):
        assert images[image, row, column, channel] == IMAGES[row, column, channel, image]


def test_digit_zero_is_dropped_and_nine_classes_are_left(tmp_path, write_svhn):
    folder = str(write_svhn(tmp_path / "with space"))
    loaded = load_base("svhn", folder, 0)
    assert loaded.class_names == tuple("123456789")
    kept = [i for i in range(30) if DIGITS[i, 0] != 10]
    assert loaded.train_index.tolist() == kept
    assert loaded.train_labels.tolist() == [DIGITS[i, 0] - 1 for i in kept]
    assert np.array_equal(loaded.train_images, np.stack([IMAGES[..., i] for i in kept]))
    assert loaded.train_images.flags.c_contiguous
    assert len(loaded.test_labels) == 18


def test_nine_classes_go_through_composition_and_settings(tmp_path, log, write_svhn):
    spec = {
        "dataset": "mlab_svhn", "base": "svhn", "folder": str(write_svhn(tmp_path / "svhn")), "style": "cifar",
        "placement": "reference", "train_counts": [3, 2], "test_counts": [2, 1], "seed": 0,
    }  # fmt: skip
    manifest = synthesise(spec, tmp_path / "out", log)
    assert manifest["class_names"] == list("123456789")
    assert manifest["samples"] == {"train": 9 * 3 + 36 * 2, "test": 9 * 2 + 36}
    data = open_dataset(tmp_path / "out", "train")
    assert data.images.shape[1:] == (64, 64, 3)
    assert data.label_sets.shape == (9 + 36, 9)
    # The numbers of base images are those of the file, whose digits agree with the label set.
    for sample in (0, 26, 27, 98):
        digits = {int(DIGITS[i, 0]) for i in data.base_index[sample] if i >= 0}
        assert digits == {k + 1 for k in np.flatnonzero(data.label_sets[data.label_set[sample]])}
    step = setting_counts(spec, {"profile": "step", "ratio": 0.34})
    assert [step[str(k)] for k in range(9)] == [3] * 5 + [1] * 4
    assert step["7+8"] == 2
    assert len(step) == 45


def test_nine_classes_go_through_the_theory():
    """The weakest contrast of the targets' second moments, against a dense eigenvalue solver."""
    from ncpipe.labels.distribution import LabelDistribution
    from ncpipe.labels.spectrum import pooled_spectrum

    classes, alone, pairs = BASE_SETS["svhn"].classes, 40, 7
    spec = {"base": "svhn", "train_counts": [alone, pairs]}
    counts = {tuple(map(int, name.split("+"))): n for name, n in setting_counts(spec, {"profile": "balanced"}).items()}
    distribution = LabelDistribution.from_counts(counts, classes, class_names=BASE_SETS["svhn"].class_names)
    targets = np.array([[(k in s) / len(s) for k in range(classes)] for s in counts])
    weights = np.array(list(counts.values())) / sum(counts.values())
    moment = np.einsum("s,sj,sk->jk", weights, targets, targets)
    expected = np.linalg.eigvalsh(moment)[0]
    assert pooled_spectrum(distribution, "normalised").kappa == pytest.approx(expected, rel=1e-12)


# --- other files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change", [lambda b: b[:-1], lambda b: b + b"x", lambda b: b"", lambda b: b[:500] + b"!" + b[501:]]
)
def test_nothing_of_another_file_is_parsed(tmp_path, write_svhn, monkeypatch, change):
    path = svhn.find_svhn(write_svhn(tmp_path), "test")
    path.write_bytes(change(path.read_bytes()))
    monkeypatch.setattr(scipy.io, "loadmat", lambda *_, **__: pytest.fail("a file of another SHA-256 is parsed"))
    with pytest.raises(InputError) as caught:
        svhn.read_svhn(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert str(caught.value) == (
        f"{path}: found a file with SHA-256 {digest}; allowed is the official one with SHA-256 "
        f"{svhn.SHA256[path.name]}, ncpipe fetch svhn downloads it"
    )


def test_the_official_digests_are_those_of_the_downloads():
    assert svhn.SHA256.keys() == set(svhn.FILES.values())
    assert set(svhn.SHA256.values()) == {file.sha256 for file in DOWNLOADS["svhn"]}


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(InputError, match=r"absent: missing; allowed is .* ncpipe fetch svhn downloads them"):
        load_base("svhn", str(tmp_path / "absent"), 0)
    with pytest.raises(InputError, match=r"train_32x32\.mat: missing; allowed is a folder that holds train_32x32\.mat"):
        load_base("svhn", str(tmp_path), 0)
    with pytest.raises(InputError, match=r"train_32x32\.mat: cannot be read \(No such file"):
        svhn.read_svhn(tmp_path / "train_32x32.mat")
