"""Intervals and tests against scipy, closed forms and their own coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ncpipe.statistics import equivalence_p, log_ratios, mean_interval, spearman_interval


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_mean_interval_is_scipys_t_interval(confidence):
    samples = generator().normal(3.0, 2.0, 7)
    low, high = stats.t.interval(confidence, 6, loc=samples.mean(), scale=stats.sem(samples))
    value, ours_low, ours_high = mean_interval(samples, confidence=confidence)
    np.testing.assert_allclose([value, ours_low, ours_high], [samples.mean(), low, high], rtol=1e-12)


def test_mean_interval_of_three_uses_t_of_two_degrees():
    # (1, 2, 3): mean 2, standard error 1/sqrt(3), t = 4.3027
    value, low, high = mean_interval(np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose([value, low, high], [2, 2 - 4.302653 / np.sqrt(3), 2 + 4.302653 / np.sqrt(3)], rtol=1e-6)


def test_mean_interval_works_over_the_last_axis():
    samples = generator().normal(size=(4, 3, 5))
    whole = mean_interval(samples)
    for index in np.ndindex(4, 3):
        np.testing.assert_allclose([part[index] for part in whole], mean_interval(samples[index]))


def test_one_sample_has_a_mean_and_no_interval():
    value, low, high = mean_interval(np.array([4.0]))
    assert value == 4
    assert np.isnan(low)
    assert np.isnan(high)


def test_mean_interval_covers_the_truth_as_often_as_it_says():
    interval = mean_interval(generator(1).normal(size=(20_000, 5)))
    covered = np.mean((interval.low <= 0) & (interval.high >= 0))
    assert abs(covered - 0.95) < 0.006  # four standard errors of the count


@pytest.mark.parametrize(("samples", "confidence"), [(np.empty(0), 0.95), (np.ones(3), 1.0), (np.ones(3), 0.0)])
def test_mean_interval_refuses_what_has_no_interval(samples, confidence):
    with pytest.raises(ValueError, match=r"sample|confidence"):
        mean_interval(samples, confidence=confidence)


@given(st.lists(st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)), min_size=1, max_size=9))
def test_log_ratios_change_sign_when_the_pair_is_swapped(pairs):
    treated, control = np.array(pairs).T
    np.testing.assert_allclose(log_ratios(treated, control), -log_ratios(control, treated))
    np.testing.assert_allclose(np.exp(log_ratios(treated, control)), treated / control)


def test_log_ratios_of_values_that_are_not_positive_are_undefined():
    found = log_ratios(np.array([0.0, 1.0, 2.0]), np.array([1.0, -1.0, 1.0]))
    np.testing.assert_allclose(found, [np.nan, np.nan, np.log(2)])


def test_unpaired_values_are_refused():
    with pytest.raises(ValueError, match="paired"):
        log_ratios(np.ones(3), np.ones(4))


@given(st.integers(0, 10_000))
def test_spearman_is_scipys_with_and_without_ties(seed):
    rng = generator(seed)
    x, y = rng.integers(0, 6, (2, 12)).astype(float)
    if np.ptp(x) and np.ptp(y):
        np.testing.assert_allclose(spearman_interval(x, y).value, stats.spearmanr(x, y).statistic, atol=1e-12)


def test_spearman_interval_is_fishers_with_the_error_of_bonett_and_wright():
    rng = generator(2)
    x = rng.normal(size=30)
    y = x + rng.normal(size=30)
    rho, low, high = spearman_interval(x, y)
    half = 1.959964 * np.sqrt((1 + rho**2 / 2) / 27)
    np.testing.assert_allclose([low, high], np.tanh(np.arctanh(rho) + np.array([-half, half])), rtol=1e-6)


def test_spearman_interval_covers_the_truth():
    # Bivariate normal: the population value is (6 / pi) arcsin(r / 2) (Pearson 1907).
    rng, r, hits = generator(3), 0.8, 0
    truth = 6 / np.pi * np.arcsin(r / 2)
    for _ in range(1000):
        x, z = rng.normal(size=(2, 40))
        _, low, high = spearman_interval(x, r * x + np.sqrt(1 - r**2) * z)
        hits += bool(low <= truth <= high)
    assert hits >= 930


@pytest.mark.parametrize("sign", [1, -1])
def test_a_perfect_rank_correlation_keeps_a_width(sign):
    x = np.arange(10.0)
    rho, low, high = spearman_interval(x, sign * np.exp(x))
    inner, outer = sorted([sign * low, sign * high])
    assert sign * rho == pytest.approx(1, abs=1e-14)
    assert outer == pytest.approx(1, abs=1e-14)
    assert 0.9 < inner < 1 - 12 / 990


def test_spearman_of_constants_and_of_few_pairs():
    assert np.isnan(spearman_interval(np.ones(9), np.arange(9.0)).value)
    rho, low, _ = spearman_interval(np.arange(3.0), np.arange(3.0))
    assert rho == 1
    assert np.isnan(low)


def test_spearman_refuses_unequal_lengths():
    with pytest.raises(ValueError, match="equal length"):
        spearman_interval(np.ones(4), np.ones(5))


def test_equivalence_is_two_one_sided_t_tests_of_scipy():
    samples = generator(4).normal(0.002, 0.004, (50, 6))
    lower = stats.ttest_1samp(samples, -0.01, axis=1, alternative="greater").pvalue
    upper = stats.ttest_1samp(samples, 0.01, axis=1, alternative="less").pvalue
    np.testing.assert_allclose(equivalence_p(samples, 0.01), np.maximum(lower, upper), rtol=1e-10)


def test_equivalence_agrees_with_the_interval_inside_the_margin():
    samples = generator(5).normal(0.004, 0.006, (500, 5))
    interval = mean_interval(samples, confidence=0.9)
    inside = (interval.low > -0.01) & (interval.high < 0.01)
    np.testing.assert_array_equal(equivalence_p(samples, 0.01) < 0.05, inside)
    assert 0 < inside.sum() < 500


def test_equivalence_without_spread():
    found = equivalence_p(np.array([[0.0, 0.0], [0.02, 0.02], [0.01, 0.01]]), 0.01)
    np.testing.assert_array_equal(found, [0.0, 1.0, 0.5])


@pytest.mark.parametrize(("samples", "margin"), [(np.ones(5), 0.0), (np.ones(1), 0.01)])
def test_equivalence_refuses_what_it_cannot_test(samples, margin):
    with pytest.raises(ValueError, match="equivalence"):
        equivalence_p(samples, margin)
