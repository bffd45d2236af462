"""Label files: every format gives the label distribution of the same matrix, and nothing but clear errors otherwise."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fuzz import fuzz
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from shared import shared_file
from sklearn.datasets import dump_svmlight_file

from ncpipe.errors import InputError, NcpipeError
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.labels.files import class_names_line, read_labels, write_labels
from ncpipe.labels.files import rows as rows_module
from ncpipe.stores.zarr import Array, EpochArray, EpochWriter, write_store

NAMES = ("plain", "two words", "it's", 'say "x"', "a, b", "back\\slash", "{brace}", "100 %")
Writer = Callable[[Path, np.ndarray, tuple[str, ...]], Path]


def tally(matrix: np.ndarray) -> dict[tuple[int, ...], int]:
    """Samples by label set, by brute force."""
    counted = Counter(tuple(np.flatnonzero(row).tolist()) for row in matrix)
    counted.pop((), None)
    return dict(counted)


def check(distribution: LabelDistribution, matrix: np.ndarray, names: tuple[str, ...] | None) -> None:
    assert distribution.as_counts() == tally(matrix)
    assert distribution.unlabelled == int((matrix.sum(1) == 0).sum())
    assert list(distribution.label_sets) == sorted(distribution.label_sets, key=lambda s: (len(s), s))
    assert distribution.classes == matrix.shape[1]
    if names is not None:
        assert distribution.class_names == names


# --- writers of every layout, as the tools that make such files write them ---------------------------------------


def quoted(name: str) -> str:
    """Quote a name as Weka does."""
    return "'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'"


def arff_text(
    matrix: np.ndarray, names: tuple[str, ...], *, relation: str, first: bool, sparse_rows: bool, newline: str = "\n"
) -> str:
    """An ARFF file with two features: a number, and a nominal one whose quoted values hold separators."""
    labels = [f"@attribute {quoted(name)} {{0,1}}" for name in names]
    features = ["@attribute x NUMERIC", "@Attribute 'the \\'colour\\'' {'a, b','c {d} %'}"]
    lines = [
        "% a comment with @data in it",
        "",
        f"@relation {relation}",
        *(labels + features if first else features + labels),
    ]
    lines += ["", "@data", ""]
    start, offset = (0, len(names)) if first else (2, 0)
    for i, row in enumerate(matrix.astype(int).tolist()):
        if sparse_rows:
            pairs = [(start + k, "1") for k in range(len(names)) if row[k]] + [(offset, "0.5")]
            pairs += [(offset + 1, "'c {d} %'")] if i % 2 else []
            lines.append("{" + ",".join(f"{k} {v}" for k, v in sorted(pairs)) + "}")
        else:
            values = ["1e-3", "'a, b'" if i % 2 else "'c {d} %'"]
            cells = [*map(str, row), *values] if first else [*values, *map(str, row)]
            lines.append((", " if i % 2 else ",").join(cells))
    return newline.join([*lines, ""])


def arff(*, first: bool, sparse_rows: bool, newline: str = "\n") -> Writer:
    def write(folder: Path, matrix: np.ndarray, names: tuple[str, ...]) -> Path:
        count = len(names) if first else -len(names)
        text = arff_text(
            matrix, names, relation=f"'Some set: -C {count} -x'", first=first, sparse_rows=sparse_rows, newline=newline
        )
        path = folder / "meka.arff"
        path.write_bytes(text.encode())
        return path

    return write


def mulan(folder: Path, matrix: np.ndarray, names: tuple[str, ...]) -> Path:
    from xml.sax.saxutils import quoteattr

    path = folder / "mulan-train.arff"
    path.write_text(arff_text(matrix, names, relation="MultiLabelData", first=False, sparse_rows=False))
    labels = "\n".join(f"<label name={quoteattr(name)}></label>" for name in names)
    (folder / "mulan.xml").write_text(
        f'<?xml version="1.0" encoding="utf-8"?>\n<labels xmlns="http://mulan.sourceforge.net/labels">{labels}</labels>'
    )
    return path


def npz(folder: Path, matrix: np.ndarray, names: tuple[str, ...]) -> Path:
    path = folder / "a.npz"
    pickled = np.array([{"never": "read"}], dtype=object)
    np.savez(path, X=np.ones(3), Y=matrix.astype(np.uint8), label_names=np.array(names), other=pickled)
    return path


def npy_fortran(folder: Path, matrix: np.ndarray, names: tuple[str, ...]) -> Path:
    path = folder / "a.npy"
    np.save(path, np.asfortranarray(matrix.astype(np.float32)))
    return path


def npz_csr(folder: Path, matrix: np.ndarray, names: tuple[str, ...]) -> Path:
    path = folder / "sparse.npz"
    sparse.save_npz(path, sparse.csr_array(matrix.astype(float)))
    return path


def csv_with_header(folder: Path, matrix: np.ndarray, names: tuple[str, ...]) -> Path:
    path = folder / "a.csv"
    header = ";".join('"' + name.replace('"', '""') + '"' for name in names)
    rows = [";".join(map(str, row)) for row in matrix.astype(int).tolist()]
    path.write_bytes(("\ufeff" + "\r\n".join([header, *rows, ""])).encode())
    return path


def csv_plain(folder: Path, matrix: np.ndarray, names: tuple[str, ...]) -> Path:
    path = folder / "a.csv"
    np.savetxt(path, matrix, fmt="%.1f", delimiter=",")
    return path


def csv_counting(folder: Path, matrix: np.ndarray, names: tuple[str, ...]) -> Path:
    import pandas as pd

    path = folder / "a.csv"
    pd.DataFrame(matrix.astype(int)).to_csv(path, index=False)
    return path


def svmlight(folder: Path, matrix: np.ndarray, names: tuple[str, ...]) -> Path:
    path = folder / "a.svm"
    features = np.arange(2.0 * len(matrix)).reshape(-1, 2) + 1
    dump_svmlight_file(features, sparse.csr_matrix(matrix.astype(int)), str(path), multilabel=True, zero_based=False)
    return path


def label_lists(folder: Path, matrix: np.ndarray, names: tuple[str, ...]) -> Path:
    """The extreme classification repository's header; no features for samples with labels."""
    path = folder / "a.txt"
    rows = [",".join(map(str, np.flatnonzero(row))) or " 0:1" for row in matrix]
    path.write_text("\n".join([f"{len(matrix)} 5 {matrix.shape[1]}", *rows, ""]))
    return path


def json_counts(folder: Path, matrix: np.ndarray, names: tuple[str, ...]) -> Path:
    path = folder / "a.json"
    write_labels(path, LabelDistribution.from_matrix(matrix, class_names=names))
    return path


def npz_written(folder: Path, matrix: np.ndarray, names: tuple[str, ...]) -> Path:
    path = folder / "b.npz"
    write_labels(path, LabelDistribution.from_matrix(matrix, class_names=names))
    return path


def data_store(folder: Path, matrix: np.ndarray, names: tuple[str, ...]) -> Path:
    rows, index = np.unique(matrix.astype(np.uint8), axis=0, return_inverse=True)
    arrays = {
        "label_sets": Array(("label_set", "class"), rows, "label sets"),
        "label_set_train": Array(("train_sample",), index.astype(np.int32), "label set of each sample"),
    }
    write_store(folder / "images.zarr", arrays, attributes={"class_names": list(names)})
    return folder


def run_store(folder: Path, matrix: np.ndarray, names: tuple[str, ...]) -> Path:
    rows, index = np.unique(matrix.astype(np.uint8), axis=0, return_inverse=True)
    static = {
        "label_sets": Array(("label_set", "class"), rows, "label sets"),
        "label_set_train": Array(("train_sample",), index.astype(np.int32), "label set of each sample"),
    }
    EpochWriter.create(
        folder / "features.zarr",
        epochs=[0],
        arrays={"objective": EpochArray((), (), "float64", "objective")},
        static=static,
        attributes={"class_names": list(names)},
    )
    return folder / "features.zarr"


LAYOUTS: dict[str, tuple[Writer, bool]] = {
    "npz": (npz, True),
    "npy in Fortran order": (npy_fortran, False),
    "scipy csr": (npz_csr, False),
    "csv, header, CRLF, semicolons": (csv_with_header, True),
    "csv, floats": (csv_plain, False),
    "csv, counting header": (csv_counting, False),
    "MEKA first, dense": (arff(first=True, sparse_rows=False), True),
    "MEKA last, dense, CRLF": (arff(first=False, sparse_rows=False, newline="\r\n"), True),
    "MEKA first, sparse": (arff(first=True, sparse_rows=True), True),
    "MEKA last, sparse, CRLF": (arff(first=False, sparse_rows=True, newline="\r\n"), True),
    "Mulan": (mulan, True),
    "extreme classification": (label_lists, False),
    "json": (json_counts, True),
    "npz written here": (npz_written, True),
    "data set": (data_store, True),
    "run": (run_store, True),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_distribution(layout, tmp_path):
    write, named = LAYOUTS[layout]
    rng = np.random.default_rng(7)
    matrix = rng.random((40, len(NAMES))) < 0.2
    matrix[:3] = False  # samples without a label
    matrix[3] = True
    path = write(tmp_path, matrix, NAMES)
    check(read_labels(path), matrix, NAMES if named else None)


@fuzz(150)
@given(data=st.data())
def test_any_matrix_and_any_names_survive_text(data):
    classes = data.draw(st.integers(2, 6))
    word = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z"), include_characters=" "), min_size=1)
    names = tuple(data.draw(st.lists(word, min_size=classes, max_size=classes, unique=True)))
    rows = data.draw(st.lists(st.lists(st.booleans(), min_size=classes, max_size=classes), min_size=2, max_size=8))
    matrix = np.array(rows)
    matrix[0, :2] = matrix[1, :2] = True
    first, sparse_rows = data.draw(st.booleans()), data.draw(st.booleans())
    with tempfile.TemporaryDirectory() as folder:
        path = arff(first=first, sparse_rows=sparse_rows)(Path(folder), matrix, names)
        check(read_labels(path), matrix, names)
        if all(name.strip() for name in names) and any(_is_text(name) for name in names):
            stripped = tuple(name.strip() for name in names)
            check(read_labels(csv_with_header(Path(folder), matrix, names)), matrix, stripped)


def _is_text(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return True
    return False


def test_a_separator_within_quotes_does_not_count(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('"a";",,,"\n1;0\n0;1\n')
    assert read_labels(path).class_names == ("a", ",,,")


def test_a_nominal_label_whose_first_value_is_1_is_1_where_a_sparse_row_leaves_it_out(tmp_path):
    path = tmp_path / "a.arff"
    path.write_text("@relation 'r: -C 2'\n@attribute a {1,0}\n@attribute b {0,1}\n@data\n{}\n{0 0,1 1}\n{1 1}\n")
    assert read_labels(path).as_counts() == {(0,): 1, (1,): 1, (0, 1): 1}


def test_arff_as_found_in_the_wild(tmp_path):
    path = tmp_path / "a.arff"
    path.write_bytes(
        b"@RELATION music\r\n\r\n"
        b"@ATTRIBUTE tempo REAL\r\n@ATTRIBUTE 'caf\xe9' {x, y} % Latin-1\r\n"
        b'@ATTRIBUTE "quiet still" numeric\r\n@attribute sad{0, 1}\t% tight\r\n@attribute\tangry\t{ 0,1 }\r\n'
        b"@DATA\r\n% none\r\n1,x,0,1,1 % both\r\n'?',\"y, z\",1,'0','1'\r\n0.5 ? 0 0 1.0\r\n"
    )
    distribution = read_labels(path, labels=-3)
    assert distribution.class_names == ("quiet still", "sad", "angry")
    assert distribution.as_counts() == {(2,): 1, (0, 2): 1, (1, 2): 1}


def test_labels_of_an_arff_file_can_be_named_by_an_xml_elsewhere(tmp_path):
    path = mulan(tmp_path, np.eye(len(NAMES), dtype=bool), NAMES)
    some = tmp_path / "some.xml"
    some.write_text('<labels><label name="two words"><label name="plain"/></label></labels>')
    distribution = read_labels(path, labels=some)
    assert distribution.class_names == ("two words", "plain")
    assert distribution.unlabelled == len(NAMES) - 2


@pytest.mark.parametrize(
    ("first", "expected"), [(None, ("1", "2", "3")), (0, ("0", "1", "2", "3")), (1, ("1", "2", "3"))]
)
def test_svmlight_classes_count_from_zero_or_one(first, expected, tmp_path):
    path = tmp_path / "a.svmlight"
    path.write_text("# made by hand\n1,3 1:0.5 # comment\n2\n2 qid:1 7:1\n1:4\n")
    distribution = read_labels(path, first_class=first)
    assert distribution.class_names == expected
    named = {tuple(distribution.class_names[k] for k in s): n for s, n in distribution.as_counts().items()}
    assert named == {("2",): 2, ("1", "3"): 1}
    assert distribution.unlabelled == 1


def test_svmlight_written_by_scikit_learn(tmp_path):
    matrix = np.random.default_rng(0).random((30, 5)) < 0.4
    matrix[0, 0] = True
    check(read_labels(svmlight(tmp_path, matrix, ())), matrix, ("0", "1", "2", "3", "4"))


def test_a_number_of_classes_beyond_the_largest_that_occurs(tmp_path):
    path = tmp_path / "a.svm"
    path.write_text("0,1 1:1\n1 1:1\n")
    assert read_labels(path, classes=4).class_names == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("text", "counts", "unlabelled"),
    [
        ("0\n1\n\n0,1\n", {(0,): 1, (1,): 1, (0, 1): 1}, 1),
        ("# a comment is no sample\n0\n\n# nor here\n1\n0,1\n\n\n", {(0,): 1, (1,): 1, (0, 1): 1}, 1),
        ("5 9 2\n0\n1\n\n0,1\n\n", {(0,): 1, (1,): 1, (0, 1): 1}, 2),
        ("4 9 2\n0\n1\n 3:1\n0,1\n\n", {(0,): 1, (1,): 1, (0, 1): 1}, 1),
    ],
)
def test_an_empty_line_is_a_sample_without_labels_unless_nothing_follows(text, counts, unlabelled, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(text)
    distribution = read_labels(path)
    assert distribution.as_counts() == counts
    assert distribution.unlabelled == unlabelled


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("0,1\n0,1\n1,0\n1,1\n0,1\n", ("0", "1")),
        ("1,2\n0,1\n1,0\n1,1\n0,1\n", ("1", "2")),
        ('"0","1"\n0,1\n1,0\n1,1\n0,1\n', ("0", "1")),
        ("\ufeffa;b\r\nFalse;True\r\nTrue;False\r\nTRUE;true\r\nfalse;True\r\n\r\n", ("a", "b")),
        ("a\tb\n0\t1\n1\t0\n1\t1\n0\t1\n  \n", ("a", "b")),
    ],
)
def test_headers_by_one_rule(text, names, tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    distribution = read_labels(path)
    assert distribution.as_counts() == {(0,): 1, (1,): 2, (0, 1): 1}
    assert distribution.class_names == names == class_names_line(path)


def test_the_option_header_decides_against_the_rule(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("0,1\n1,0\n1,1\n")
    assert read_labels(path, header=False).as_counts() == {(0,): 1, (1,): 1, (0, 1): 1}
    assert class_names_line(path, header=False) is None
    path.write_text("2019,2020\n1,0\n1,1\n")
    assert read_labels(path, header=True).class_names == ("2019", "2020")
    path.write_text("0,0\n1,0\n0,1\n")  # two columns alike do not count upwards: a sample
    assert class_names_line(path) is None
    assert read_labels(path).unlabelled == 1


def test_a_table_of_tabs_may_have_commas_in_its_names_and_minus_one_for_absent(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("sea, sky\tsand\n1\t-1\n-1\t1\n1\t1\n")
    distribution = read_labels(path, present=1)
    assert distribution.class_names == ("sea, sky", "sand")
    assert distribution.as_counts() == {(0,): 1, (1,): 1, (0, 1): 1}


@pytest.mark.parametrize("compress", [(".gz", gzip.compress), (".bz2", bz2.compress)], ids=["gz", "bz2"])
@pytest.mark.parametrize("suffix", [".csv", ".npy", ".arff", ".svm", ".json"])
def test_compressed_files_are_what_they_hold(suffix, compress, tmp_path):
    plain, packed = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}{compress[0]}"
    plain.write_bytes(VALID[suffix])
    packed.write_bytes(compress[1](VALID[suffix]))
    assert read_labels(packed).to_json() == read_labels(plain).to_json()


@pytest.mark.parametrize("kind", ["csr", "csc", "bsr", "coo", "dia"])
@pytest.mark.parametrize("family", ["array", "matrix"])
def test_every_sparse_matrix_that_scipy_saves(kind, family, tmp_path):
    rng = np.random.default_rng(3)
    matrix = rng.random((12, 6)) < 0.4
    sparse.save_npz(tmp_path / "a.npz", getattr(sparse, f"{kind}_{family}")(matrix.astype(float)))
    check(read_labels(tmp_path / "a.npz"), matrix, None)


def test_small_compressed_files_do_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(rows_module, "MOST_ENTRIES", 50)
    path = tmp_path / "a.svm.gz"
    path.write_bytes(gzip.compress(b"0,1\n" * 40))
    with pytest.raises(InputError, match="more than 50 samples and labels"):
        read_labels(path)


def test_escapes_in_names_without_quotes(tmp_path):
    path = tmp_path / "a.arff"
    path.write_text("@relation 'k: -C 2'\n@attribute a\\_b {0,1}\n@attribute m\\'u {0,1}\n@data\n1,0\n0,1\n")
    assert read_labels(path).class_names == ("a_b", "m'u")
    path.write_text("@relation k\n@attribute m\\'u {0,1}\n@attribute a\\b{0,1}\n@data\n1,0\n0,1\n")
    for name in ("m\\'u", "m'u"):  # as either tool writes it into the label list
        (tmp_path / "a.xml").write_text(f'<labels><label name="{name}"/><label name="a\\b"/></labels>')
        assert read_labels(path).class_names == ("m'u", "a\\b")


def test_shares_are_counts_that_sum_to_1(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"classes": 3, "label_sets": [[0],[1,2]], "counts": [0.6, 0.4]}')
    distribution = read_labels(path)
    assert distribution.weights.tolist() == pytest.approx([0.6, 0.4])
    assert distribution.samples == 1


def test_counts_need_not_be_whole_in_json(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"classes": 3, "label_sets": [[0], [2, 1], [1, 2], []], "counts": [0.5, 2, 1.25, 3]}')
    distribution = read_labels(path)
    assert distribution.as_counts() == {(0,): 0.5, (1, 2): 3.25}
    assert distribution.unlabelled == 3
    with pytest.raises(InputError, match=r"counts that are not whole .* allowed is \.json"):
        write_labels(tmp_path / "a.npz", distribution)


def test_a_theory_file_is_a_label_file(tmp_path):
    path = tmp_path / "pal.json"
    content = {"classes": 2, "class_names": ["a", "b"], "label_sets": [[0], [0, 1]], "counts": [3.0, 1.0]}
    path.write_text(json.dumps({"distribution": content, "optimum": {"objective": 1}}))
    assert read_labels(path).as_counts() == {(0,): 3, (0, 1): 1}


def test_equal_label_sets_merge_as_by_brute_force():
    rng = np.random.default_rng(1)
    for classes in (2, 5, 70, 3000):  # many classes: several integers per row
        matrix = rng.random((60, classes)) < rng.choice([0.02, 0.3, 0.9])
        matrix = matrix[rng.integers(0, 60, 200)]
        matrix[0, 0] = True
        check(LabelDistribution.from_matrix(sparse.csr_array(matrix)), matrix, None)


def test_reading_leaves_the_given_matrix_alone():
    given_matrix = sparse.csr_array((np.array([1.0, 0.0]), np.array([1, 0]), np.array([0, 2])), shape=(1, 2))
    LabelDistribution.from_matrix(given_matrix)
    assert given_matrix.nnz == 2


# --- real data ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "samples", "label_sets", "mean", "counts"),
    [
        ("yeast", 2417, 198, 4.237, [762, 1038, 983, 862, 722, 597, 428, 480, 178, 253, 289, 1816, 1799, 34]),
        ("scene", 2407, 15, 1.074, [427, 364, 397, 433, 533, 431]),
    ],
)
def test_real_label_matrices(name, samples, label_sets, mean, counts):
    distribution = read_labels(shared_file(f"multilabel/{name}.npz"))
    assert distribution.samples == samples
    assert distribution.unlabelled == 0
    assert len(distribution.counts) == label_sets
    assert distribution.weights @ distribution.multiplicity == pytest.approx(mean, abs=5e-4)
    assert distribution.class_counts().tolist() == counts


def test_another_key_and_what_it_holds():
    path = shared_file("multilabel/voc_image_labels.npz")
    with pytest.raises(InputError, match="no key 'Y', the label matrix; found are 'voc2007_trainval'"):
        read_labels(path)
    with pytest.raises(InputError, match=r"key 'voc2007_test': found -1 at row 0, column 0 .*; allowed are 0 and 1"):
        read_labels(path, key="voc2007_test")
    found = read_labels(path, key="voc2007_test", present=1)
    with np.load(path, allow_pickle=False) as arrays:
        labels = arrays["voc2007_test"] == 1
        assert found.class_names == tuple(arrays["label_names"].tolist())
    assert found.class_counts().tolist() == labels.sum(axis=0).tolist()
    assert found.unlabelled == (~labels.any(axis=1)).sum()


@pytest.mark.parametrize("order", ["C", "F"])
def test_one_entry_says_present_and_all_others_absent(tmp_path, order):
    entries = np.array([[1, -1, 0], [0, 1, 1], [-1, -1, 0], [2, 1, 1]], dtype=float)
    np.save(tmp_path / "labels.npy", np.asarray(entries, order=order))
    found = read_labels(tmp_path / "labels.npy", present=1)
    assert found.as_counts() == {(0,): 1, (1, 2): 2}
    assert found.unlabelled == 1
    entries[3, 1] = np.nan
    np.save(tmp_path / "labels.npy", np.asarray(entries, order=order))
    with pytest.raises(InputError, match=r"found nan at row 3, column 1 \(from 0\); allowed are numbers"):
        read_labels(tmp_path / "labels.npy", present=1)
    (tmp_path / "labels.svm").write_text("1,0\n")
    with pytest.raises(InputError, match=r"present: found 1 for .*; allowed for \.npz, \.npy, \.csv, \.tsv only"):
        read_labels(tmp_path / "labels.svm", present=1)


# --- bad input: one line with the file, and the line or key ---------------------------------------------------------


def saved(array: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def zipped(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def declared(shape: str, dtype: str = "|u1") -> bytes:
    """An .npy file whose header promises more than follows."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\x01\x00"


MATRIX = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 1]])
HEAD = "@relation 'r: -C 2'\n@attribute a {0,1}\n@attribute b {0,1}\n@attribute x numeric\n@data\n"

BAD = {
    "a number that is no label": ("a.npz", zipped(Y=MATRIX * 2), r"key 'Y': found 2 at row 0, column 0"),
    "nan": ("a.npy", saved(np.array([[1, np.nan], [0, 1]])), r"found nan at row 0, column 1"),
    "three dimensions": ("a.npy", saved(np.ones((2, 2, 2))), "found 3 dimensions"),
    "text matrix": ("a.npz", zipped(Y=np.array([["a", "b"]])), "found elements of type <U1; allowed are numbers"),
    "complex matrix": ("a.npz", zipped(Y=np.ones((2, 2), complex)), "found elements of type complex128"),
    "pickled matrix": ("a.npz", zipped(Y=np.array([[None, 1]])), "key 'Y': found elements of type object"),
    "pickled names": (
        "a.npz", zipped(Y=MATRIX, label_names=np.array(["a", None])),
        r"key 'label_names': found elements of type object; allowed is a list of names as text",
    ),
    "minus one in csv": ("a.csv", b"a,b\n1,-1\n", "found '-1'; allowed are 0 and 1, .*the option present says"),
    "minus one": ("a.npy", saved(np.array([[1, -1], [0, 1]])), "found -1 .*the option present says"),
    "years as names": ("a.csv", b"2019,2020\n1,0\n", "line 1: column '1': found '2019'.*names that are numbers"),
    "a torn gz": ("a.csv.gz", gzip.compress(b"a,b\n1,0\n" * 99)[:-20], "damaged"),
    "no gz": ("a.csv.gz", b"a,b\n1,0\n", "damaged"),
    "no bz2": ("a.svm.bz2", b"0\n1\n", "damaged"),
    "a compressed npz": ("a.npz.gz", gzip.compress(zipped(Y=MATRIX)), r"found suffix '\.npz\.gz'"),
    "a gz of npy cut short": ("a.npy.gz", gzip.compress(saved(MATRIX)[:-9]), "damaged, it ends too early"),
    "a long line": ("a.csv.bz2", bz2.compress(b"1" * (1 << 27)), "found a line of more than"),
    "rows without end": ("a.npy.gz", gzip.compress(declared("(1000000000000, 10)")), "shape .* declared"),
    "sparse rows without end": (
        "a.npz",
        zipped(format=np.array(b"coo"), shape=[1 << 40, 2], data=np.ones(2), row=[0, 1], col=[0, 1]),
        "more than 100,000,000 samples and labels",
    ),
    "names that do not fit": ("a.npz", zipped(Y=MATRIX, label_names=np.array(["a"])), "found 1 for 3 classes"),
    "numeric names": ("a.npz", zipped(Y=MATRIX, label_names=np.arange(3)), "allowed is a list of names"),
    "no key": ("a.npz", zipped(labels=MATRIX), "no key 'Y', the label matrix; found are 'labels'"),
    "one class column": ("a.npy", saved(np.ones((4, 1))), "found 1 classes"),
    "no samples": ("a.npy", saved(np.ones((0, 3))), "no labelled sample"),
    "no labels": ("a.npy", saved(np.zeros((4, 3))), "no labelled sample"),
    "one sample": ("a.npy", saved(np.array([[1, 1], [0, 0]])), "found 1 sample with a label; .* at least 2"),
    "one class occurs": ("a.npy", saved(np.array([[1, 0], [1, 0]])), r"found one class that occurs \('0'\)"),
    "huge rows": ("a.npy", declared("(1000000000000, 10)"), "shape .* declared but 2 bytes follow"),
    "huge columns": ("a.npy", declared("(1, 1000000000000)"), "shape .* declared but 2 bytes follow"),
    "negative shape": ("a.npy", declared("(-2, -1)"), "shape .* declared"),
    "truncated zip": ("a.npz", zipped(Y=MATRIX)[:-30], "damaged, not an .npz file"),
    "empty npz": ("a.npz", b"", "damaged, not an .npz file"),
    "empty npy": ("a.npy", b"", "damaged, not a numpy array"),
    "csr out of range": (
        "a.npz",
        zipped(
            format=np.array(b"csr"), shape=np.array([2, 2]), data=np.ones(2), indices=np.array([0, 7]),
            indptr=np.array([0, 1, 2]),
        ),
        "not a csr matrix",
    ),
    "another sparse format": (
        "a.npz",
        zipped(format=np.array(b"lil"), shape=[2, 2], data=np.ones(2), indices=[0, 1], indptr=[0, 1, 2]),
        "key 'format': found 'lil'; allowed are csr, csc",
    ),
    "ragged csv": ("a.csv", b"a,b\n1,0\n1,0,1\n", "line 3: found 3 values; allowed are 2, as many as in line 1"),
    "a word in csv": ("a.csv", b"a,b\n1,0\nyes,1\n", "line 3: column 'a': found 'yes'; allowed are 0 and 1"),
    "an empty cell": ("a.csv", b"a,b\n1,\n", "line 2: column 'b': found ''"),
    "nan in csv": ("a.csv", b"nan,1\n0,1\n", "line 1: column '1': found 'nan'"),
    "an index column": ("a.csv", b",a,b\n0,1,1\n1,0,1\n2,1,1\n", "line 1: column 1 has no name"),
    "one column": ("a.csv", b"1\n0\n1\n", "found 1 classes"),
    "only a header": ("a.csv", b"a,b\n", "no labelled sample"),
    "empty csv": ("a.csv", b"", "found 0 classes"),
    "open quote in csv": ("a.csv", b'"a,b\n1,0\n', "not CSV"),
    "a quote before a tab": ("a.csv", b'\t\t\t"b, c",d\n', r"line 1: not CSV \('\\t' expected"),
    "latin-1 csv": ("a.csv", "caf\xe9,b\n1,0\n".encode("latin-1"), r"not UTF-8 text \(byte 3\)"),
    "no label section": ("a.arff", HEAD.replace(": -C 2", "").encode() + b"1,0,3\n", "which attributes are labels"),
    "a -C too many": ("a.arff", HEAD.replace("-C 2", "-C -9").encode(), "@relation says -C -9; allowed are 1 to 3"),
    "-C 1": ("a.arff", HEAD.replace("-C 2", "-C 1").encode() + b"1,0,3\n", "found 1 classes"),
    "a quote in a name": (
        "a.arff", HEAD.replace("attribute b", "attribute it's").encode(), r"line 3: found the attribute name .*it's",
    ),
    "an open quote": ("a.arff", HEAD.encode() + b"1,0,'abc\n", "line 6: a quote is not closed"),
    "an open list": ("a.arff", HEAD.replace("{0,1}\n@attribute b", "{0,1\n@attribute b").encode(), "line 2: .* not"),
    "an open quote in a list": ("a.arff", HEAD.replace("x numeric", "x {'a,b}").encode(), "line 4: .*not closed"),
    "unknown type": ("a.arff", HEAD.replace("numeric", "relational").encode(), "line 4: .*found type 'relational'"),
    "no data line": ("a.arff", HEAD.replace("@data\n", "").encode(), "no @data line"),
    "data first": ("a.arff", b"@relation 'r: -C 2'\n@data\n1,0\n", "line 2: found @data before any @attribute"),
    "a line that is nothing": ("a.arff", b"@relation r\nhello\n", "line 2: found 'hello'"),
    "a label of other values": ("a.arff", HEAD.replace("a {0,1}", "a {no,yes}").encode(), "line 2: label 'a': found"),
    "a missing label": ("a.arff", HEAD.encode() + b"1,0,3\n1,?,3\n", r"line 7: label 'b': found '\?'"),
    "a label 2": ("a.arff", HEAD.encode() + b"1,2,3\n", "line 6: label 'b': found '2'"),
    "a short row": ("a.arff", HEAD.encode() + b"1,0\n", "line 6: found 2 values; allowed are 3"),
    "a sparse index too high": ("a.arff", HEAD.encode() + b"{0 1, 3 1}\n", "line 6: found '3 1'"),
    "a sparse index twice": ("a.arff", HEAD.encode() + b"{0 1, 0 1}\n", "line 6: attribute 0 occurs twice"),
    "an open sparse row": ("a.arff", HEAD.encode() + b"{0 1, 1 1\n", "line 6: a sparse row is not closed"),
    "empty arff": ("a.arff", b"", "no @data line"),
    "svm word": ("a.svm", b"1,x 1:1\n", "line 1: found the class 'x'"),
    "svm negative": ("a.svm", b"-1 1:1\n+1 1:1\n", "line 1: found the class '-1'"),
    "svm twice": ("a.svm", b"1,1 1:1\n", "line 1: found '1,1'; a class occurs twice"),
    "svm labels apart": ("a.svm", b"1 2 3:1\n", "line 1: found '2' after the labels"),
    "svm huge class": ("a.svm", b"1,999999999 1:1\n", "found 999999999 classes; allowed are 2 to 1,000,000"),
    "svm absurd class": ("a.svm", b"1," + b"9" * 5000 + b"\n", "line 1: found the class '9999"),
    "svm no labels": ("a.svm", b"1:1\n2:1\n", "no labelled sample"),
    "svm too few samples": ("a.txt", b"3 4 5\n1,2 1:1\n0 1:1\n", "3 samples are declared, 2 follow"),
    "svm class too high": ("a.txt", b"1 4 5\n1,5 1:1\n", "line 2: found '1,5'; allowed are the classes 0 to 4"),
    "json list": ("a.json", b"[1]", "no key 'label_sets'"),
    "json text": ("a.json", b"{", "not JSON"),
    "json deep": ("a.json", b"[" * 100_000, "not JSON"),
    "json class": ("a.json", b'{"label_sets": [[0], [-1]]}', "key 'label_sets'"),
    "json counts": ("a.json", b'{"label_sets": [[0], [1]], "counts": [1, NaN]}', "key 'counts'"),
    "json count": ("a.json", b'{"label_sets": [[0], [1]], "counts": [1]}', "key 'counts'"),
    "json classes": ("a.json", b'{"label_sets": [[0], [3]], "classes": 3}', "key 'classes': .* above 3"),
    "json names": ("a.json", b'{"label_sets": [[0], [1]], "class_names": ["a"]}', "found 1 for 2 classes"),
    "a suffix": ("a.xlsx", b"", r"found suffix '.xlsx'; allowed are .npz"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_in_one_line(case, tmp_path):
    name, content, message = BAD[case]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_labels(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_what_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"a\.csv: no such file or folder"):
        read_labels(tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"neither features\.zarr .* nor images\.zarr"):
        read_labels(tmp_path)
    (tmp_path / "a.arff").write_text(HEAD)
    with pytest.raises(InputError, match=r"other\.xml: no such file"):
        read_labels(tmp_path / "a.arff", labels=tmp_path / "other.xml")


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("<labels>", "not XML"),
        ("<labels/>", "not a Mulan label list"),
        ("<labels><label/></labels>", "not a Mulan label list"),
        ('<labels><label name="z"/></labels>', "label 'z': .* has no such attribute"),
        ('<labels><label name="a"/><label name="a"/></labels>', "a label is listed twice"),
        ('<?xml version="1.0" encoding="nonsense"?><labels/>', "not XML"),
    ],
)
def test_bad_label_lists(xml, message, tmp_path):
    (tmp_path / "a.arff").write_text(HEAD.replace(": -C 2", "") + "1,0,3\n")
    (tmp_path / "a.xml").write_text(xml)
    with pytest.raises(InputError, match=message) as caught:
        read_labels(tmp_path / "a.arff")
    assert str(caught.value).startswith(str(tmp_path / "a.xml"))


@pytest.mark.parametrize("option", [{"key": "Y"}, {"labels": 2}, {"first_class": 1}, {"classes": 3}, {"split": "test"}])
def test_an_option_of_another_format_is_refused(option, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("1,0\n0,1\n")
    with pytest.raises(InputError, match=rf"^{next(iter(option))}: found .*a\.csv; allowed for .* only"):
        read_labels(path, **option)


def test_a_damaged_store_is_said(tmp_path):
    folder = data_store(tmp_path, MATRIX, ("a", "b", "c"))
    chunk = next(
        p for p in (folder / "images.zarr" / "label_set_train").rglob("*") if p.is_file() and p.name != "zarr.json"
    )
    chunk.write_bytes(b"\0" * chunk.stat().st_size)
    with pytest.raises(NcpipeError, match="label_set_train"):
        read_labels(folder)
    with pytest.raises(InputError, match="split: found 'both'; allowed: train, test"):
        read_labels(folder, split="both")


VALID = {
    ".npy": saved(MATRIX),
    ".npz": zipped(Y=MATRIX, label_names=np.array(["a", "b", "c"])),
    ".csv": b'a,"b, c",d\n1,0,0\n0,1,0\n0,1,1\n',
    ".arff": HEAD.encode() + b"1,0,3\n0,1,?\n{0 1, 1 1, 2 'a b'}\n",
    ".svm": b"3 4 3\n0,1 1:0.5\n2 2:1\n0 1:1 # x\n",
    ".json": b'{"classes": 3, "label_sets": [[0], [1], [1, 2]], "counts": [1, 2.5, 3], "class_names": ["a", "b", "c"]}',
}
ALPHABET = b"01,;\t\n\r\"'{}%@:.- -C\\[]naN\xff\x00"


def refuse_or_read(suffix: str, content: bytes) -> None:
    """Whatever the bytes: a distribution, or one line that names the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        path.write_bytes(content)
        message = ""
        try:
            samples = read_labels(path).samples
        except InputError as error:
            samples, message = 0.0, str(error)
        assert samples > 0 or message.startswith(str(path))
        assert message.isprintable()


@fuzz(640)
@given(st.sampled_from(sorted(VALID)), st.binary(max_size=200))
def test_random_bytes_never_break_a_reader(suffix, content):
    refuse_or_read(suffix, content)


@fuzz(800)
@given(st.sampled_from(sorted(VALID)), st.data())
def test_damaged_files_never_break_a_reader(suffix, data):
    content = bytearray(VALID[suffix])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        length = data.draw(st.integers(0, 8))
        patch = data.draw(st.one_of(st.binary(max_size=6), st.lists(st.sampled_from(ALPHABET), max_size=6).map(bytes)))
        content[at : at + length] = patch
    refuse_or_read(suffix, bytes(content))
