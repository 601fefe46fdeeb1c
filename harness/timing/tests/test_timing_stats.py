"""The interval's promises, on simulated samples."""

import math
from itertools import product

import numpy as np
import pytest

from harness.analysis import stats


def correlated(rng, trials, n, rho, spread):
    noise = rng.normal(0, spread * math.sqrt(1 - rho**2), (trials, n))
    series = np.empty_like(noise)
    series[:, 0] = rng.normal(0, spread, trials)
    for step in range(1, n):
        series[:, step] = rho * series[:, step - 1] + noise[:, step]
    return series


@pytest.mark.parametrize("n", [8, 10, 13])
def test_exact_rank_agrees_with_enumerating_every_sign(n):
    ranks = np.arange(1, n + 1)
    totals = np.array([ranks @ signs for signs in product((0, 1), repeat=n)])
    inside = stats.signed_rank(n)
    assert np.mean(totals <= inside - 1) <= 0.005 < np.mean(totals <= inside)


def test_exact_and_normal_ranks_meet():
    assert stats.signed_rank(stats.EXACT_UP_TO + 1) == pytest.approx(stats.signed_rank(stats.EXACT_UP_TO), rel=0.03)


def test_too_few_samples_have_no_interval():
    assert math.isinf(stats.location([0.01] * (stats.FEWEST - 1)).half_width)
    assert stats.location([0.01] * stats.FEWEST).half_width == 0


@pytest.mark.parametrize(("n", "rho", "least"), [(30, 0.0, 0.98), (120, 0.0, 0.98), (30, 0.5, 0.94)])
def test_interval_covers_the_truth(n, rho, least):
    intervals = [stats.location(row) for row in correlated(np.random.default_rng(n), 400, n, rho, 0.01)]
    assert np.mean([found.low <= 0 <= found.high for found in intervals]) >= least


def test_location_ignores_a_quarter_of_outliers():
    samples = np.random.default_rng(1).normal(1, 0.01, 40)
    samples[:10] = 50
    assert stats.hodges_lehmann(samples) == pytest.approx(1, abs=0.03)


def test_serial_widening_sees_only_likeness():
    rng = np.random.default_rng(2)
    alternating = np.tile([1.0, -1.0], 20)
    assert stats.serial_widening(alternating) == 1
    assert stats.serial_widening(np.ones(20)) == 1
    assert stats.serial_widening(correlated(rng, 1, 4000, 0.5, 1)[0]) == pytest.approx(math.sqrt(3), rel=0.1)


def test_median_interval_covers_the_median_of_a_skewed_law():
    rng = np.random.default_rng(3)
    found = [stats.median_interval(row) for row in rng.exponential(1, (400, 25))]
    assert np.mean([one.low <= math.log(2) <= one.high for one in found]) >= 0.98
    assert math.isinf(stats.median_interval([1.0] * 5).half_width)


def test_detectable_shift_is_called_four_times_in_five():
    rng = np.random.default_rng(4)
    margin, spread, n = 0.01, 0.02, 30
    noise = rng.normal(0, spread, (400, n))
    shift = float(np.median([stats.detectable_shift(stats.location(row).half_width, margin) for row in noise]))
    called = np.mean([stats.location(row + shift).low > margin for row in rng.permuted(noise, axis=0)])
    assert 0.7 < called < 0.9


@pytest.mark.parametrize("samples", [[], [1.0, math.nan]])
def test_samples_that_say_nothing_are_refused(samples):
    with pytest.raises(ValueError, match="finite"):
        stats.location(samples)
