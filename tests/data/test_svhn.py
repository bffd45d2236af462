"""SVHN's MATLAB files: as scipy writes and reads them; every fault is an InputError that names the file."""

from __future__ import annotations

import re
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from fuzz import fuzz
from hypothesis import given
from hypothesis import strategies as st

from ncpipe.data import svhn
from ncpipe.data.base import load_base
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


def write_svhn(folder: Path) -> Path:
    write_split(folder / svhn.FILES["train"])
    write_split(folder / svhn.FILES["test"], IMAGES[..., 10:], DIGITS[10:])
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


# --- whole files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 4, 5, 30])
@pytest.mark.parametrize("packed", [False, True])
def test_as_scipy_reads_it(tmp_path, count, packed):
    """Up to four labels lie in the tag of their element, more of them behind it."""
    path = write_split(tmp_path / "a.mat", IMAGES[..., :count], DIGITS[:count], do_compression=packed)
    labels, pixels = svhn.read_svhn(path)
    read = scipy.io.loadmat(path)
    assert labels == svhn.read_svhn_labels(path) == read["y"].tobytes()
    planes = np.frombuffer(pixels, np.uint8).reshape(count, 3, 32, 32)
    for image, channel, column, row in ((0, 0, 0, 0), (count - 1, 2, 5, 31), (count // 2, 1, 31, 0)):
        assert planes[image, channel, column, row] == read["X"][row, column, channel, image]


def test_other_arrays_are_passed_over_and_the_order_is_free(tmp_path):
    arrays = {"notes": "hello", "y": DIGITS, "more": np.arange(9.0), "cells": {"a": 1}, "X": IMAGES}
    scipy.io.savemat(tmp_path / "a.mat", arrays, do_compression=True)
    labels, pixels = svhn.read_svhn(tmp_path / "a.mat")
    assert (len(labels), len(pixels)) == (30, 30 * 3072)


def big_endian(values: np.ndarray, name: bytes) -> bytes:
    """An array as a machine of the other byte order writes it."""

    def element(kind: int, data: bytes) -> bytes:
        return struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8)

    content = element(6, struct.pack(">II", 9, 0)) + element(5, struct.pack(f">{values.ndim}i", *values.shape))
    return element(14, content + element(1, name) + element(2, values.tobytes(order="F")))


def test_the_other_byte_order(tmp_path):
    path = tmp_path / "a.mat"
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI"
    path.write_bytes(header + big_endian(IMAGES, b"X") + big_endian(DIGITS, b"y"))
    assert np.array_equal(scipy.io.loadmat(path)["X"], IMAGES)
    labels, pixels = svhn.read_svhn(path)
    assert labels == DIGITS.tobytes()
    assert pixels == IMAGES.tobytes(order="F")


def test_digit_zero_is_dropped_and_nine_classes_are_left(tmp_path):
    folder = str(write_svhn(tmp_path / "with space"))
    loaded = load_base("svhn", folder, 0)
    assert loaded.class_names == tuple("123456789")
    kept = [i for i in range(30) if DIGITS[i, 0] != 10]
    assert loaded.train_index.tolist() == kept
    assert loaded.train_labels.tolist() == [DIGITS[i, 0] - 1 for i in kept]
    assert np.array_equal(loaded.train_images, np.stack([IMAGES[..., i] for i in kept]))
    assert loaded.train_images.flags.c_contiguous
    assert len(loaded.test_labels) == 18


def test_nine_classes_go_through_composition_and_settings(tmp_path, log):
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


# --- single faults --------------------------------------------------------------------------------------------------


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        svhn.read_svhn(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": IMAGES}, "found no array y; allowed are SVHN's files of cropped digits (format 2)"),
        ({"y": DIGITS}, "found no array X; allowed are SVHN's files of cropped digits (format 2)"),
        (
            {"X": IMAGES[:31], "y": DIGITS},
            "found X of 31 x 32 x 3 x 30; allowed is 32 x 32 x 3 x 1 to 100000",
        ),
        ({"X": IMAGES[..., 0], "y": DIGITS}, "found X of 32 x 32 x 3; allowed is 32 x 32 x 3 x 1 to 100000"),
        ({"X": IMAGES[..., :0], "y": DIGITS}, "found X of 32 x 32 x 3 x 0; allowed is 32 x 32 x 3 x 1 to 100000"),
        ({"X": IMAGES, "y": DIGITS.T}, "found y of 1 x 30; allowed is 1 to 100000 x 1"),
        ({"X": IMAGES, "y": DIGITS[:29]}, "found 30 images in X; allowed are 29, as many as labels in y"),
        ({"X": IMAGES, "y": DIGITS + 1}, "found label 11 at item 9; allowed are 1 to 9, and 10 for digit 0"),
        ({"X": IMAGES, "y": DIGITS - 1}, "found label 0 at item 0; allowed are 1 to 9, and 10 for digit 0"),
        (
            {"X": IMAGES, "y": DIGITS.astype(float)},
            "found 240 bytes of type 9 in y; allowed are 30 of type 2, unsigned bytes",
        ),
        (
            {"X": IMAGES, "y": DIGITS * (1 + 1j)},
            "found 240 bytes of complex values in y; allowed are 30 of type 2, unsigned bytes",
        ),
        ({f"a{i}": 1.0 for i in range(101)}, "found more arrays than the 100 allowed"),
    ],
)
def test_faulty_arrays(tmp_path, arrays, message):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, arrays)
    assert refused(path) == message


def test_other_files(tmp_path):
    path = tmp_path / "a.mat"
    for content, message in (
        (b"", "found the version nothing; allowed is a MATLAB 5 file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(600), "found a MATLAB 7.3 (HDF5) file; allowed is MATLAB 5"),
        (b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400), "found a MATLAB 7.3 (HDF5) file; allowed is"),
        (b"<html>".ljust(300), "found the version 20202020; allowed is a MATLAB 5 file"),
        (b"MATLAB 5.0".ljust(124) + b"\x00\x02IM", "found the version 0002494d; allowed is a MATLAB 5 file"),
    ):
        path.write_bytes(content)
        assert refused(path).startswith(message)
    path.unlink()
    assert refused(path).startswith("cannot be read ([Errno 2]")
    scipy.io.savemat(path, {"X": IMAGES, "y": DIGITS}, do_compression=True)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert "declared bytes; allowed are" in refused(path)
    path.write_bytes(whole + whole[128:])
    assert refused(path) == "found the array X twice; allowed is once"
    path.write_bytes(whole + b"abc")
    assert refused(path).startswith("cannot be read (an array ends before its declared size); allowed is a whole")


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(InputError, match=r"absent: missing; allowed is .* ncpipe fetch svhn downloads them"):
        load_base("svhn", str(tmp_path / "absent"), 0)
    with pytest.raises(InputError, match=r"train_32x32\.mat: missing; allowed is a folder that holds train_32x32\.mat"):
        load_base("svhn", str(tmp_path), 0)


def test_a_wrong_checksum_of_a_deflated_array_is_seen(tmp_path):
    path = write_split(tmp_path / "a.mat")
    content = bytearray(path.read_bytes())
    (size,) = struct.unpack("<I", content[132:136])
    content[136 + size - 1] ^= 1  # the last byte of the first array's Adler-32
    path.write_bytes(content)
    assert "incorrect data check" in refused(path)
    assert svhn.read_svhn_labels(path) == DIGITS.tobytes()  # what is not asked for is not inflated


def element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"


def array_head(shape: tuple[int, ...], name: bytes) -> bytes:
    return element(6, struct.pack("<II", 9, 0)) + element(5, struct.pack(f"<{len(shape)}i", *shape)) + element(1, name)


def test_bombs_are_refused_before_they_fill_memory(tmp_path):
    """307 MB declared of which 1 kB is there; gigabytes of zeros that a few MB inflate to; a name without end."""
    path = tmp_path / "a.mat"
    declared = array_head((32, 32, 3, 100_000), b"X") + struct.pack("<II", 2, 307_200_000) + bytes(1000)
    zeros = zlib.compress(struct.pack("<II", 14, 2**31) + bytes(1 << 24), 9)
    name = element(6, bytes(8)) + element(5, struct.pack("<ii", 1, 1)) + struct.pack("<II", 1, 2**32 - 1)
    bombs = {
        "an array ends": element(14, declared),
        "a compressed array is not whole": element(15, zlib.compress(struct.pack("<II", 14, 2**31) + declared)[:-9]),
        "found array flags of type 0": element(15, zeros),
        "found a name of type 1 in 4294967295 bytes": element(14, name),
    }
    tracemalloc.start()
    try:
        for message, content in bombs.items():
            path.write_bytes(HEADER + content)
            assert message in refused(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4e6


# --- fuzzing: an InputError, or a valid result; never anything else ---------------------------------------------------


def check(path: Path) -> None:
    for read in (svhn.read_svhn, svhn.read_svhn_labels):
        try:
            found = read(path)
        except InputError as error:
            found, message = (), str(error)
        if not found:
            assert re.match(f"(?s)^{re.escape(str(path))}: .*allowed", message)
            assert message.isprintable()
            continue
        labels, *pixels = found if isinstance(found, tuple) else (found,)
        assert 1 <= len(labels) <= svhn.MAX_IMAGES
        assert set(labels) <= set(range(1, 11))
        assert all(len(part) == 3072 * len(labels) for part in pixels)


def flip(data: bytes, flips: list[tuple[int, int]]) -> bytes:
    changed = bytearray(data)
    for position, bit in flips:
        changed[position % len(changed)] ^= 1 << bit
    return bytes(changed)


FLIPS = st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 7)), min_size=1, max_size=4)
SIZES = st.integers(0, 2**32 - 1) | st.sampled_from([0, 1, 2, 4, 8, 2**31, 2**32 - 1])
# The labels first and only few pixels, so that what is flipped often is structure.
SMALL = (array_head((2, 1), b"y") + element(2, b"\x01\x0a"), array_head((32, 32, 3, 2), b"X") + element(2, bytes(6144)))


def mat(arrays: tuple[bytes, ...], *, packed: bool) -> bytes:
    parts = [element(14, array) for array in arrays]
    return HEADER + b"".join(_deflated(part) if packed else part for part in parts)


def _deflated(content: bytes) -> bytes:
    packed = zlib.compress(content)
    return struct.pack("<II", 15, len(packed)) + packed


@fuzz(120)
@given(content=st.binary(max_size=300), head=st.sampled_from([b"", HEADER, HEADER + struct.pack("<II", 15, 300)]))
def test_fuzz_random_bytes(place, content, head):
    path = place / "random.mat"
    path.write_bytes(head + content)
    check(path)


@fuzz(120)
@given(flips=FLIPS, packed=st.booleans())
def test_fuzz_bit_flips(place, flips, packed):
    path = place / "flipped.mat"
    path.write_bytes(flip(mat(SMALL, packed=packed), flips))
    check(path)


@fuzz(120)
@given(flips=st.lists(st.tuples(st.integers(0, 79), st.integers(0, 7)), min_size=1, max_size=3), packed=st.booleans())
def test_fuzz_structure(place, flips, packed):
    """Flags, dimensions, names and tags of the labels' array, behind a checksum that is right."""
    path = place / "structure.mat"
    path.write_bytes(mat((flip(SMALL[0], flips), SMALL[1]), packed=packed))
    check(path)


@fuzz(120)
@given(
    shape=st.lists(st.integers(-(2**31), 2**31 - 1) | st.sampled_from([1, 2, 3, 32]), max_size=5),
    name=st.sampled_from([b"X", b"y"]),
    sizes=st.tuples(SIZES, SIZES),
    packed=st.booleans(),
)
def test_fuzz_declared_sizes(place, shape, name, sizes, packed):
    path = place / "declared.mat"
    content = struct.pack("<II", 14, sizes[0]) + array_head(tuple(shape), name) + struct.pack("<II", 2, sizes[1])
    content += bytes(100)
    path.write_bytes(HEADER + (_deflated(content) if packed else content))
    check(path)
