"""Intervals against their definitions: written down slowly, from tables, and where they begin to exist."""

from __future__ import annotations

import math
from itertools import combinations_with_replacement, pairwise
from statistics import NormalDist, median

import numpy as np
import pytest

from harness.analysis import stats

TABLE = {8: 1, 9: 2, 10: 4, 11: 6, 12: 8, 15: 16, 20: 38, 25: 69, 30: 110}
"""Sample size -> pairwise means outside a 99 % interval at each end: one more than the critical values of Wilcoxon's
signed-rank statistic at 0.005, one-sided."""


def drawn(count: int, seed: int = 0) -> list[float]:
    return list(np.random.default_rng(seed).normal(0.1, 0.02, count))


def averages(samples: list[float]) -> list[float]:
    return sorted((one + other) / 2 for one, other in combinations_with_replacement(samples, 2))


@pytest.mark.parametrize("count", TABLE)
def test_the_rank_is_that_of_the_tables(count: int) -> None:
    assert stats.signed_rank(count) == TABLE[count]


@pytest.mark.parametrize("count", range(1, 8))
def test_below_eight_samples_there_is_no_rank(count: int) -> None:
    assert stats.signed_rank(count) == 0


def test_a_lower_confidence_needs_fewer_samples() -> None:
    assert [stats.signed_rank(count, 0.95) for count in (5, 6, 10, 20)] == [0, 1, 9, 53]


def test_many_samples_take_the_normal_approximation() -> None:
    count = 101
    spread = math.sqrt(count * (count + 1) * (2 * count + 1) / 24)
    assert stats.signed_rank(count) == int(count * (count + 1) / 4 - NormalDist().inv_cdf(0.995) * spread)


def test_a_hundred_samples_take_the_exact_distribution() -> None:
    """Counted in whole numbers: of how many sets of ranks is the sum no larger than this?"""
    ways = [1] + [0] * 5050
    for rank in range(1, 101):
        for total in range(5050, rank - 1, -1):
            ways[total] += ways[total - rank]
    rank, tail = 0, 0
    while (tail := tail + ways[rank]) * 200 <= 2**100:
        rank += 1
    assert stats.EXACT_UP_TO == 100
    assert stats.signed_rank(100) == rank


@pytest.mark.parametrize("count", [1, 2, 8, 30])
def test_a_location_is_the_median_of_all_pairwise_means(count: int) -> None:
    samples = drawn(count)
    assert stats.hodges_lehmann(samples) == pytest.approx(median(averages(samples)))
    assert stats.location(samples).center == pytest.approx(median(averages(samples)))
    assert stats.location(samples).n == count


@pytest.mark.parametrize(("count", "confidence"), [(8, 0.99), (30, 0.99), (12, 0.95)])
def test_an_interval_ends_at_a_pairwise_mean_widened_by_likeness(count: int, confidence: float) -> None:
    samples = sorted(drawn(count))
    every, outside = averages(samples), stats.signed_rank(count, confidence)
    found, widening = stats.location(samples, confidence), stats.serial_widening(samples)
    assert widening > 1
    assert found.low == pytest.approx(found.center - (found.center - every[outside - 1]) * widening)
    assert found.high == pytest.approx(found.center + (every[-outside] - found.center) * widening)
    assert found.half_width == pytest.approx((found.high - found.low) / 2)
    assert found.confidence == confidence


def test_seven_samples_have_a_center_alone() -> None:
    found = stats.location(drawn(7))
    assert (found.low, found.high, found.n, found.confidence) == (-math.inf, math.inf, 7, 0.99)
    assert found.center == pytest.approx(median(averages(drawn(7))))


def test_likeness_is_the_lag_one_correlation_about_the_median() -> None:
    samples = [1.0, 2.0, 3.0, 4.0, 9.0]
    deviations = [value - 3.0 for value in samples]
    correlation = sum(a * b for a, b in pairwise(deviations)) / sum(d * d for d in deviations)
    assert stats.serial_widening(samples) == pytest.approx(math.sqrt((1 + correlation) / (1 - correlation)))


def test_likeness_is_taken_for_nine_tenths_at_most() -> None:
    assert stats.serial_widening(np.repeat([0.0, 1.0], 500)) == pytest.approx(math.sqrt(1.9 / 0.1))


@pytest.mark.parametrize("samples", [[5.0], [1.0, -1.0, 1.0, -1.0], [3.0, 3.0, 3.0]])
def test_what_is_unlike_or_constant_is_not_widened(samples: list[float]) -> None:
    assert stats.serial_widening(samples) == 1.0


def test_a_median_lies_between_counted_samples() -> None:
    """Of the binomial tables: at 99 % the first of eight, the third of fifteen, the eighth of thirty."""
    for count, place in ((8, 1), (9, 1), (15, 3), (30, 8)):
        found = stats.median_interval([float(value) for value in range(count)][::-1])
        below = sum(math.comb(count, k) for k in range(place)) / 2**count
        assert below <= 0.005 < below + math.comb(count, place) / 2**count
        assert (found.low, found.high, found.n) == (place - 1, count - place, count)
        assert found.center == (count - 1) / 2
    few = stats.median_interval([1.0, 2.0, 4.0])
    assert (few.low, few.high, few.center, few.n) == (-math.inf, math.inf, 2.0, 3)


def test_a_detectable_shift_clears_margin_and_interval_by_the_power() -> None:
    power = NormalDist().inv_cdf(0.8)
    own = 0.02 / NormalDist().inv_cdf(0.995)
    assert stats.detectable_shift(0.02, 0.01) == pytest.approx(0.01 + 0.02 + power * own)
    assert stats.detectable_shift(0.02, 0.01, 0.001) == pytest.approx(0.01 + 0.02 + power * own)
    assert stats.detectable_shift(0.02, 0.01, 0.5) == pytest.approx(0.01 + 0.02 + power * 0.5)
    wide = 0.02 / NormalDist().inv_cdf(0.975)
    assert stats.detectable_shift(0.02, 0.01, confidence=0.95) == pytest.approx(0.01 + 0.02 + power * wide)


@pytest.mark.parametrize("samples", [[], [math.inf], [1.0, math.nan]])
def test_every_function_of_samples_refuses_those_that_say_nothing(samples: list[float]) -> None:
    for function in (stats.location, stats.hodges_lehmann, stats.serial_widening, stats.median_interval):
        with pytest.raises(ValueError, match="an interval needs samples, all of them finite"):
            function(samples)
