"""Sampling weights of a setting: their definitions by hand, what they keep, and that the best is the best."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncpipe.errors import InputError, StoreError
from ncpipe.geometry.synthesis import fit_synthesis
from ncpipe.labels.distribution import LabelDistribution
from ncpipe.labels.sampling import resampled, sampling_weights
from ncpipe.labels.spectrum import pooled_spectrum
from ncpipe.objective.settings import Objective
from ncpipe.optimum.optimum import solve
from ncpipe.results.sampling_file import check_sampling, read_sampling
from ncpipe.stores.files import digest_file, read_json, write_json
from ncpipe.theory.analysis import write_theory
from ncpipe.theory.sampling import write_sampling_weights

METHODS = ("class_balanced", "effective_number", "max_kappa")


def digits(ratio=0.1):
    counts = {(k,): 140.0 * (1 if k < 5 else ratio) for k in range(10)}
    return LabelDistribution.from_counts(counts | dict.fromkeys(itertools.combinations(range(10), 2), 20.0), 10)


def small():
    counts = {(0,): 8, (1,): 4, (2,): 2, (3,): 2, (0, 1): 4, (0, 2): 2, (1, 3): 2, (2, 3): 2}
    return LabelDistribution.from_counts(counts, 4)


def test_class_balanced_by_hand():
    """n = 14, 10, 6, 6; multiplicity one keeps its 16 of 26 samples."""
    found = sampling_weights(small(), "normalised", method="class_balanced")
    single = np.array([8 / 14, 4 / 10, 2 / 6, 2 / 6])
    pairs = np.array([4 * (1 / 14 + 1 / 10), 2 * (1 / 14 + 1 / 6), 2 * (1 / 10 + 1 / 6), 2 * (1 / 6 + 1 / 6)]) / 2
    expected = np.concatenate([16 / 26 * single / single.sum(), 10 / 26 * pairs / pairs.sum()])
    np.testing.assert_allclose(found.weights, expected, rtol=1e-14)
    ratio = found.factors
    assert found.cap == max(ratio.max(), 1 / ratio.min())


@given(seed=st.integers(0, 2**32), method=st.sampled_from(METHODS), target=st.sampled_from(["normalised", "raw"]))
@settings(max_examples=12, deadline=None)
def test_shares_are_kept_caps_hold_and_nothing_beats_the_bound(seed, method, target):
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(3, 6))
    counts = {(k,): float(rng.integers(1, 100)) for k in range(classes)}
    pairs = itertools.combinations(range(classes), 2)
    natural = LabelDistribution.from_counts(counts | {s: float(rng.integers(1, 50)) for s in pairs}, classes)
    found = sampling_weights(natural, target, method=method, cap=2.5 if method == "max_kappa" else None)
    for m in (1, 2):
        rows = natural.multiplicity == m
        assert found.weights[rows].sum() == pytest.approx(natural.weights[rows].sum(), rel=1e-12)
    assert natural.weights @ found.factors == pytest.approx(1, rel=1e-12)
    assert found.factors.max() <= found.cap * (1 + 1e-12)
    assert found.factors.min() >= 1 / found.cap * (1 - 1e-12)
    assert found.kappa[method] == pytest.approx(pooled_spectrum(found.distribution, target).kappa, rel=1e-12)
    assert found.kappa["natural"] == pytest.approx(pooled_spectrum(natural, target).kappa, rel=1e-12)
    assert found.kappa[method] <= found.kappa["max_kappa"] + 1e-9
    assert found.kappa["max_kappa"] <= found.upper_bound


def test_the_default_setting_gains_what_was_measured():
    found = sampling_weights(digits(), "normalised", method="max_kappa", cap=2.0)
    assert found.kappa["natural"] == pytest.approx(0.032335, abs=1e-6)
    assert found.kappa["class_balanced"] == pytest.approx(0.039211, abs=1e-6)
    assert found.kappa["max_kappa"] == pytest.approx(0.046707, abs=1e-6)
    assert found.upper_bound == pytest.approx(found.kappa["max_kappa"], rel=1e-6)
    # The rarer classes count double, alone and together; pairs of frequent classes half.
    of = dict(zip(found.natural.label_sets, found.factors, strict=True))
    for label_set, factor in {(0,): 0.9, (9,): 2.0, (0, 1): 0.5, (0, 9): 0.8, (8, 9): 2.0}.items():
        assert of[label_set] == pytest.approx(factor, abs=1e-4)


def test_a_cap_belongs_to_max_kappa_alone():
    for method, cap in (("max_kappa", None), ("class_balanced", 2.0)):
        with pytest.raises(ValueError, match="max_kappa needs one, the others have none"):
            sampling_weights(small(), "normalised", method=method, cap=cap)


def test_a_file_is_read_back_to_the_last_bit_and_written_to_the_same_bytes(tmp_path):
    names = ["ant", "bee", "cat", "doe"]
    counts = {"0": 8, "1": 4, "2": 2, "3": 2, "0+1": 4, "0+2": 2, "1+3": 2, "2+3": 2}
    for name in ("one", "two"):
        write_sampling_weights(counts, names, "raw", tmp_path / name, method="max_kappa", cap=2.0)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    found = read_sampling(tmp_path / "one")
    expected = sampling_weights(small(), "raw", method="max_kappa", cap=2.0)
    np.testing.assert_array_equal(found.weights, expected.weights)
    assert found.natural.as_counts() == expected.natural.as_counts()
    assert found.natural.class_names == tuple(names)
    assert (found.method, found.target, found.cap) == ("max_kappa", "raw", 2.0)
    assert (found.kappa, found.upper_bound) == (expected.kappa, expected.upper_bound)


def test_damaged_files_and_weights_of_other_labels_are_refused(tmp_path):
    path = tmp_path / "weights.json"
    write_sampling_weights({"0": 3, "1": 1, "0+1": 2}, ["a", "b"], "raw", path, method="class_balanced", cap=None)
    check_sampling(path, read_sampling(path), {(0,): 3, (1,): 1, (0, 1): 2}, "raw")
    with pytest.raises(InputError, match=r"label set a\+b has 2 samples there and 4 here"):
        check_sampling(path, read_sampling(path), {(0,): 3, (1,): 1, (0, 1): 4}, "raw")
    with pytest.raises(InputError, match="about raw targets; the objective has normalised ones"):
        check_sampling(path, read_sampling(path), {(0,): 3, (1,): 1, (0, 1): 2}, "normalised")
    content = read_json(path)
    write_json(path, {**content, "weights": content["weights"][:-1]})
    with pytest.raises(StoreError, match="damaged"):
        read_sampling(path)
    digest_file(path).unlink()
    with pytest.raises(StoreError, match="needs a weight > 0 for each of 3 label sets"):
        read_sampling(path)
    write_json(path, {key: value for key, value in content.items() if key != "cap"})
    with pytest.raises(StoreError, match="it lacks 'cap'"):
        read_sampling(path)


def test_theory_of_weights_is_theory_of_duplicated_samples():
    """Whole weights: each sample as often as it weighs; (7) divides by the number of samples."""
    natural, repeats = small(), np.array([1, 2, 3, 1, 2, 1, 1, 2])
    duplicated = LabelDistribution(natural.indicator, natural.counts * repeats, natural.class_names)
    weighted = resampled(natural, duplicated.weights)
    assert weighted.samples == pytest.approx(natural.samples, rel=1e-14)
    objective = Objective("normalised", lambda_w=0.01, lambda_h=0.05, lambda_b=0.01)
    found, expected = solve(weighted, objective), solve(duplicated, objective)
    assert found.certified
    assert found.objective == pytest.approx(expected.objective, rel=1e-9)
    assert found.lower_bound == pytest.approx(expected.lower_bound, rel=1e-9)
    assert found.objective != pytest.approx(solve(natural, objective).objective, rel=1e-3)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6)
    assert pooled_spectrum(weighted, "raw").kappa == pytest.approx(pooled_spectrum(duplicated, "raw").kappa, rel=1e-12)


def test_the_theory_file_is_about_the_weights_and_describes_features_by_the_samples(tmp_path):
    names = ["ant", "bee", "cat", "doe"]
    counts = {"0": 8, "1": 4, "2": 2, "3": 2, "0+1": 4, "0+2": 2, "1+3": 2, "2+3": 2}
    entry = {"target": "normalised", "lambda_w": 0.01, "lambda_h": 0.05, "lambda_b": 0.01, "bias": True}
    weights, theory = tmp_path / "sampling.json", tmp_path / "theory.json"
    write_sampling_weights(counts, names, "normalised", weights, method="max_kappa", cap=2.0)
    write_theory(counts, 4, names, entry, theory, sampling=weights)
    found, sampling = read_json(theory), read_sampling(weights)
    assert found["distribution"]["natural_counts"] == list(counts.values())
    np.testing.assert_allclose(found["distribution"]["counts"], 26 * sampling.weights, rtol=1e-14)
    assert found["spectrum"]["pooled"]["kappa"] == pytest.approx(sampling.kappa["max_kappa"], rel=1e-10)
    assert found["optimum"]["objective"] == solve(sampling.distribution, Objective.from_config(entry)).objective
    optimum = {k: np.array(found["optimum"][k]) for k in ("prototypes", "weight")}
    synthesis = fit_synthesis(optimum["prototypes"], optimum["weight"], small())
    assert found["synthesis"] == synthesis
    assert found["synthesis"] != fit_synthesis(optimum["prototypes"], optimum["weight"], sampling.distribution)
    # A setting without weights says nothing of them.
    write_theory(counts, 4, names, entry, theory)
    assert "natural_counts" not in read_json(theory)["distribution"]
    with pytest.raises(InputError, match="label set ant has 8 samples there and 9 here"):
        write_theory({**counts, "0": 9}, 4, names, entry, theory, sampling=weights)
