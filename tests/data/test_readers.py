"""Readers of hostile files: every fault is an InputError that names the file, what was found and what is allowed."""

from __future__ import annotations

import contextlib
import gzip
import io
import re
import struct
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fuzz import fuzz
from hypothesis import given
from hypothesis import strategies as st

from ncpipe.data import readers
from ncpipe.data.base import load_base
from ncpipe.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
LABELS = np.arange(20, dtype=np.uint8) % 10


def idx(values: np.ndarray) -> bytes:
    return bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


IMAGES_FILE, LABELS_FILE = idx(PIXELS), idx(LABELS)


def write_mnist(folder: Path, *, packed: bool = False, **replaced: bytes) -> Path:
    """Write a small, whole MNIST folder; `replaced`: other bytes for one file (its name with underscores)."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "t10k"):
        for kind, content in (("images-idx3-ubyte", IMAGES_FILE), ("labels-idx1-ubyte", LABELS_FILE)):
            name = f"{split}-{kind}"
            data = gzip.compress(content, 1) if packed else content
            data = replaced.get(name.replace("-", "_"), data)
            (folder / (f"{name}.gz" if packed else name)).write_bytes(data)
    return folder


def records(count: int, first: int = 0) -> bytes:
    rng = np.random.default_rng(first)
    rows = rng.integers(0, 256, (count, readers.CIFAR_RECORD), dtype=np.uint8)
    rows[:, 0] = (first + np.arange(count)) % 10
    return rows.tobytes()


BATCHES = {name: records(2, 2 * number) for number, name in enumerate(readers.CIFAR_FILES)}


def tar_bytes(batches: dict[str, bytes], *, folder: str = readers.CIFAR_FOLDER) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in batches.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def write_archive(path: Path, batches: dict[str, bytes], **options: str) -> Path:
    path.write_bytes(gzip.compress(tar_bytes(batches, **options), 1))
    return path


def write_batches(folder: Path, batches: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in batches.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """One folder for all cases of a fuzzing test (a function's folder cannot be shared between cases)."""
    return tmp_path_factory.mktemp("fuzz")


# -- whole files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("base", ["mnist", "fashion_mnist"])
def test_idx_round_trip(tmp_path, packed, base):
    folder = str(write_mnist(tmp_path / "with space", packed=packed))
    loaded = load_base(base, folder, 0)
    assert np.array_equal(loaded.train_images[..., 0], PIXELS)
    assert np.array_equal(loaded.test_labels, LABELS)
    assert loaded.test_index.tolist() == list(range(20))


def test_cifar_planes_become_channels(tmp_path):
    loaded = load_base("cifar10", str(write_batches(tmp_path, BATCHES)), 0)
    second = BATCHES["data_batch_1.bin"][readers.CIFAR_RECORD :]  # label, then planes of 1024 bytes, row-major
    assert loaded.train_labels[1] == second[0] == 1
    for row, column, channel in ((0, 0, 0), (0, 5, 1), (31, 2, 2), (7, 31, 0)):
        assert loaded.train_images[1, row, column, channel] == second[1 + 1024 * channel + 32 * row + column]
    assert loaded.train_labels.tolist() == list(range(10))
    assert loaded.test_labels.tolist() == [0, 1]


def test_cifar_is_the_same_from_folder_parent_archive_and_parent_of_archive(tmp_path):
    direct = write_batches(tmp_path / "a" / readers.CIFAR_FOLDER, BATCHES)
    archive = tmp_path / "b" / "cifar-10-binary.tar.gz"
    archive.parent.mkdir()
    write_archive(archive, dict(reversed(BATCHES.items())))
    digests = {load_base("cifar10", str(p), 0).digest() for p in (direct, direct.parent, archive, archive.parent)}
    assert len(digests) == 1
    assert sorted(p.name for p in archive.parent.iterdir()) == [archive.name]  # nothing was extracted


# -- single faults, and what the message says ----------------------------------------------------------------------

IDX_FAULTS = {
    "wrong magic": (b"\0\0\x0d\x03" + IMAGES_FILE[4:], "found magic number 00000d03; allowed is 00000803"),
    "empty": (b"", "found magic number ; allowed is 00000803"),
    "header cut": (IMAGES_FILE[:10], "found a header of 10 bytes; allowed are 16"),
    "truncated": (IMAGES_FILE[:-1], "found 15679 bytes of data; allowed are 15680"),
    "trailing": (IMAGES_FILE + b"\0", "found more bytes of data; allowed are 15680"),
    "no images": (idx(PIXELS[:0]), "found 0 declared items; allowed are 1 to 200000"),
    "other side": (idx(PIXELS[:, :27]), "found items of 27 x 28 pixels; allowed are 28 x 28"),
    "huge count": (
        IMAGES_FILE[:4] + struct.pack(">I", 2**32 - 1) + IMAGES_FILE[8:],
        "found 4294967295 declared items; allowed are 1 to 200000",
    ),
    "huge side": (
        IMAGES_FILE[:8] + struct.pack(">II", 2**32 - 1, 2**31) + IMAGES_FILE[16:],
        "found items of 4294967295 x 2147483648 pixels; allowed are 28 x 28",
    ),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("fault", IDX_FAULTS)
def test_idx_image_faults(tmp_path, fault, packed):
    content, message = IDX_FAULTS[fault]
    data = gzip.compress(content) if packed else content
    folder = write_mnist(tmp_path, packed=packed, train_images_idx3_ubyte=data)
    with pytest.raises(InputError) as caught:
        load_base("mnist", str(folder), 0)
    assert message in str(caught.value)
    assert str(folder / f"train-images-idx3-ubyte{'.gz' if packed else ''}") in str(caught.value)


def test_label_out_of_range(tmp_path):
    labels = LABELS.copy()
    labels[7] = 10
    folder = write_mnist(tmp_path, t10k_labels_idx1_ubyte=idx(labels))
    with pytest.raises(InputError, match=r"t10k-labels-idx1-ubyte: found label 10 at item 7; allowed are 0 to 9"):
        load_base("mnist", str(folder), 0)


def test_counts_of_images_and_labels_must_agree(tmp_path):
    folder = write_mnist(tmp_path, train_labels_idx1_ubyte=idx(LABELS[:19]))
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte: found 20 images; allowed are 19"):
        load_base("mnist", str(folder), 0)


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b[:60] + b"\xff\0\xff" + b[63:], lambda b: b[5:]])
def test_corrupt_gzip(tmp_path, damage):
    folder = write_mnist(tmp_path, packed=True, train_images_idx3_ubyte=damage(gzip.compress(IMAGES_FILE)))
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte\.gz: cannot be read .*allowed is a whole IDX file"):
        load_base("mnist", str(folder), 0)


def test_wrong_gzip_checksum_is_seen(tmp_path):
    data = bytearray(gzip.compress(IMAGES_FILE))
    data[-8] ^= 1
    folder = write_mnist(tmp_path, packed=True, train_images_idx3_ubyte=bytes(data))
    with pytest.raises(InputError, match="CRC"):
        load_base("mnist", str(folder), 0)


def test_missing_folder_and_files(tmp_path):
    with pytest.raises(InputError, match=r"absent: missing; allowed is .* ncpipe fetch mnist downloads them"):
        load_base("mnist", str(tmp_path / "absent"), 0)
    with pytest.raises(InputError, match=r"train-labels-idx1-ubyte: missing; allowed are .* and .*\.gz in"):
        load_base("mnist", str(tmp_path), 0)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file: found a file; allowed is a folder"):
        load_base("fashion_mnist", str(tmp_path / "file"), 0)
    with pytest.raises(InputError, match=r"gone: missing; allowed is .* ncpipe fetch cifar10 downloads them"):
        load_base("cifar10", str(tmp_path / "gone"), 0)
    with pytest.raises(InputError, match=r"and 0 archives cifar-10-binary\*\.tar\.gz; allowed is exactly one of these"):
        load_base("cifar10", str(tmp_path), 0)


def test_two_archives_are_ambiguous(tmp_path):
    for name in ("cifar-10-binary.tar.gz", "cifar-10-binary-copy.tar.gz"):
        write_archive(tmp_path / name, BATCHES)
    with pytest.raises(InputError, match="2 archives"):
        load_base("cifar10", str(tmp_path), 0)


CIFAR_FAULTS = {
    "short": (BATCHES["data_batch_3.bin"][:-1], "found 6145 bytes; allowed are 3073 for each of 1 to 10000 records"),
    "empty": (b"", "found 0 bytes; allowed are 3073 for each of 1 to 10000 records"),
    "label": (b"\x0a" + BATCHES["data_batch_3.bin"][1:], "found label 10 at item 0; allowed are 0 to 9"),
}


@pytest.mark.parametrize("form", ["folder", "archive"])
@pytest.mark.parametrize("fault", CIFAR_FAULTS)
def test_cifar_faults(tmp_path, fault, form):
    content, message = CIFAR_FAULTS[fault]
    batches = BATCHES | {"data_batch_3.bin": content}
    path = write_batches(tmp_path, batches) if form == "folder" else write_archive(tmp_path / "c.tar.gz", batches)
    with pytest.raises(InputError) as caught:
        load_base("cifar10", str(path), 0)
    assert str(caught.value) == f"{path}, data_batch_3.bin: {message}"


def test_too_long_cifar_file(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "CIFAR_MAX_RECORDS", 1)
    for path in (write_batches(tmp_path / "f", BATCHES), write_archive(tmp_path / "c.tar.gz", BATCHES)):
        with pytest.raises(InputError, match=r"data_batch_1.bin: found \d+ (declared )?bytes; allowed are"):
            load_base("cifar10", str(path), 0)


def test_missing_batch(tmp_path):
    batches = {name: content for name, content in BATCHES.items() if name != "data_batch_4.bin"}
    with pytest.raises(InputError, match=r"data_batch_4\.bin: missing; allowed is a folder that holds all of"):
        load_base("cifar10", str(write_batches(tmp_path / "f", batches)), 0)
    with pytest.raises(InputError, match=r"found no cifar-10-batches-bin/data_batch_4\.bin in it"):
        load_base("cifar10", str(write_archive(tmp_path / "c.tar.gz", batches)), 0)
    with pytest.raises(InputError, match=r"found no cifar-10-batches-bin/data_batch_1\.bin in it"):
        load_base("cifar10", str(write_archive(tmp_path / "d.tar.gz", BATCHES, folder="../cifar-10-batches-bin")), 0)


def _archive_with(path: Path, change) -> Path:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        change(archive)
    path.write_bytes(gzip.compress(buffer.getvalue(), 1))
    return path


def test_links_doubles_and_crowds_in_archives(tmp_path):
    name = f"{readers.CIFAR_FOLDER}/data_batch_1.bin"

    def link(archive):
        member = tarfile.TarInfo(name)
        member.type, member.linkname = tarfile.SYMTYPE, "../../secret"
        archive.addfile(member)

    def double(archive):
        for _ in "ab":
            member = tarfile.TarInfo(name)
            member.size = 3073
            archive.addfile(member, io.BytesIO(bytes(3073)))

    def crowd(archive):
        for number in range(150):
            archive.addfile(tarfile.TarInfo(f"x{number}"))

    for change, message in (
        (link, "found a link or special member; allowed is a regular file"),
        (double, "found it twice; allowed is once"),
        (crowd, "found more members than the 100 allowed"),
    ):
        with pytest.raises(InputError, match=message):
            load_base("cifar10", str(_archive_with(tmp_path / "c.tar.gz", change)), 0)


def test_corrupt_archive_tail_is_seen(tmp_path):
    path = write_archive(tmp_path / "c.tar.gz", BATCHES)
    data = bytearray(path.read_bytes())
    data[-8] ^= 1  # gzip's checksum: behind everything that tarfile reads
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"c\.tar\.gz: cannot be read \(CRC check failed"):
        load_base("cifar10", str(path), 0)


def test_member_that_declares_far_more_than_there_is_ends_at_once(tmp_path):
    """Regression: tarfile seeks over 2**62 declared bytes in pieces, although the archive has ended: for centuries."""
    member = tarfile.TarInfo("readme.html")
    member.size = 2**62
    path = tmp_path / "c.tar.gz"
    path.write_bytes(gzip.compress(member.tobuf(tarfile.GNU_FORMAT) + bytes(4096)))
    with pytest.raises(InputError, match=r"c\.tar\.gz: cannot be read \(it ends before a member does\)"):
        load_base("cifar10", str(path), 0)


def test_bombs_are_refused_before_they_fill_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "CIFAR_MAX_UNPACKED", 1 << 22)
    bomb = write_archive(tmp_path / "c.tar.gz", {"padding": bytes(1 << 25)} | BATCHES)
    declared = IMAGES_FILE[:4] + struct.pack(">I", 200_000) + IMAGES_FILE[8:]  # 157 MB declared, 16 kB there
    folder = write_mnist(tmp_path / "m", packed=True, train_images_idx3_ubyte=gzip.compress(declared))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"unpacks to more than 4194304 bytes"):
            load_base("cifar10", str(bomb), 0)
        with pytest.raises(InputError, match=r"found 15680 bytes of data; allowed are 156800000"):
            load_base("mnist", str(folder), 0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12e6


# -- fuzzing: an InputError, or a valid result; never anything else -------------------------------------------------


def check(read: Callable[[], object], path: Path) -> None:
    """`read` succeeds, or raises an InputError that names the path and what is allowed."""
    with contextlib.suppress(InputError):
        read()
        return
    with pytest.raises(InputError, match=f"(?s)^{re.escape(str(path))}.*allowed"):
        read()


def check_images(path: Path) -> None:
    def read() -> None:
        count, pixels = readers.read_idx_images(path, side=28)
        assert 1 <= count == len(pixels) / 784

    check(read, path)


def check_cifar(path: Path) -> None:
    def read() -> None:
        loaded = load_base("cifar10", str(path), 0)
        assert loaded.train_images.shape[1:] == loaded.test_images.shape[1:] == (32, 32, 3)
        assert max(loaded.train_labels.max(), loaded.test_labels.max()) < 10

    check(read, path)


def flip(data: bytes, flips: list[tuple[int, int]]) -> bytes:
    changed = bytearray(data)
    for position, bit in flips:
        changed[position % len(changed)] ^= 1 << bit
    return bytes(changed)


FLIPS = st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 7)), min_size=1, max_size=4)
HEADERS = st.tuples(*(st.integers(0, 2**32 - 1) | st.sampled_from([1, 20, 28]) for _ in range(3)))


@fuzz(120)
@given(
    content=st.binary(max_size=200),
    head=st.sampled_from([b"", IMAGES_FILE[:4], IMAGES_FILE[:16]]),
    gz=st.booleans(),
)
def test_fuzz_idx_random_bytes(place, content, head, gz):
    path = place / ("random.gz" if gz else "random")
    path.write_bytes(head + content)
    check_images(path)


@fuzz(120)
@given(flips=FLIPS, gz=st.booleans(), after=st.booleans())
def test_fuzz_idx_bit_flips(place, flips, gz, after):
    path = place / ("flipped.gz" if gz else "flipped")
    small = idx(PIXELS[:2])
    if gz:
        path.write_bytes(flip(gzip.compress(small), flips) if after else gzip.compress(flip(small, flips)))
    else:
        path.write_bytes(flip(small, flips))
    check_images(path)


@fuzz(120)
@given(sizes=HEADERS, gz=st.booleans())
def test_fuzz_idx_declared_sizes(place, sizes, gz):
    path = place / ("declared.gz" if gz else "declared")
    content = IMAGES_FILE[:4] + struct.pack(">III", *sizes) + bytes(784)
    path.write_bytes(gzip.compress(content) if gz else content)
    check_images(path)


ONE_EACH = {name: bytes([number]) + bytes(3072) for number, name in enumerate(readers.CIFAR_FILES)}
SMALL_TAR = tar_bytes(ONE_EACH)


@fuzz(120)
@given(content=st.binary(max_size=200), packed=st.booleans())
def test_fuzz_archive_random_bytes(place, content, packed):
    path = place / "random.tar.gz"
    path.write_bytes(gzip.compress(content) if packed else content)
    check_cifar(path)


@fuzz(120)
@given(flips=FLIPS)
def test_fuzz_archive_bit_flips(place, flips):
    path = place / "flipped.tar.gz"
    path.write_bytes(flip(gzip.compress(SMALL_TAR), flips))
    check_cifar(path)


def _with_checksum(block: bytes) -> bytes:
    total = sum(block[:148]) + 8 * 32 + sum(block[156:512])
    return block[:148] + f"{total:06o}\0 ".encode() + block[156:]


@fuzz(120)
@given(
    member=st.integers(0, 5),
    flips=st.lists(st.tuples(st.integers(0, 511), st.integers(0, 7)), min_size=1, max_size=4),
    kind=st.sampled_from([None, *b"0123456LKSxgV"]),
    size=st.none() | st.sampled_from([b"77777777777\0", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"00000000000\0"]),
    valid=st.booleans(),
)
def test_fuzz_archive_headers(place, member, flips, kind, size, valid):
    """Hostile tar headers behind valid checksums: types (links, sparse, pax, GNU long names) and sizes of all kinds."""
    start = member * 4096  # 512 of header, 3073 of data, padded to 512
    block = bytearray(flip(SMALL_TAR[start : start + 512], flips))
    if kind is not None:
        block[156] = kind
    if size is not None:
        block[124:136] = size
    header = _with_checksum(bytes(block)) if valid else bytes(block)
    path = place / "headers.tar.gz"
    path.write_bytes(gzip.compress(SMALL_TAR[:start] + header + SMALL_TAR[start + 512 :], 1))
    check_cifar(path)


@fuzz(120)
@given(
    name=st.sampled_from(readers.CIFAR_FILES), content=st.binary(max_size=64), times=st.sampled_from([0, 1, 3073, 6146])
)
def test_fuzz_cifar_files(place, name, content, times):
    folder = write_batches(place / "batches", ONE_EACH | {name: content + bytes(times)})
    check_cifar(folder)
