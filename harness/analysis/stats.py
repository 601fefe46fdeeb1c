"""Robust location and its interval from few, skewed, serially correlated samples. Pure numbers: no arms, no clocks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.99
POWER = 0.8
EXACT_UP_TO = 100
"""Sample sizes up to this use the exact distribution of the signed-rank statistic; above, its normal approximation."""
FEWEST = 8
"""Below eight samples no 99 % signed-rank interval exists: the most extreme outcome is likelier than 1 %."""
LARGEST_CORRELATION = 0.9


@dataclass(frozen=True)
class Interval:
    """A location and its interval, in the unit of the samples; infinitely wide when they are too few."""

    center: float
    low: float
    high: float
    n: int
    confidence: float = CONFIDENCE

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


def location(samples: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """The Hodges-Lehmann estimate with its interval by Wilcoxon inversion, in time order.

    The inversion assumes independent samples. Where neighbors resemble each other the interval is widened by
    sqrt((1 + r) / (1 - r)), r their lag-1 correlation: at r = 0.5 the plain 99 % one covers 86 %, the widened one 97 %.
    Raises ValueError on no samples or on one that is not finite.
    """
    values = _finite(samples)
    averages = _walsh_averages(values)
    center = float(np.median(averages))
    rank = signed_rank(values.size, confidence)
    if rank == 0:
        return Interval(center, -math.inf, math.inf, values.size, confidence)
    widening = serial_widening(values)
    low, high = float(averages[rank - 1]), float(averages[-rank])
    low, high = center - (center - low) * widening, center + (high - center) * widening
    return Interval(center, low, high, values.size, confidence)


def hodges_lehmann(samples: ArrayLike) -> float:
    """The median of all pairwise means: nearly as efficient as the mean, and unmoved by 29 % of outliers."""
    return float(np.median(_walsh_averages(_finite(samples))))


@lru_cache
def signed_rank(n: int, confidence: float = CONFIDENCE) -> int:
    """How many pairwise means lie outside the interval at each end; 0 when n is too small for one."""
    tail = (1 - confidence) / 2
    if n > EXACT_UP_TO:
        spread = math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
        return int(n * (n + 1) / 4 - NormalDist().inv_cdf(1 - tail) * spread)
    probability = np.zeros(n * (n + 1) // 2 + 1)
    probability[0] = 1.0
    for rank in range(1, n + 1):
        shifted = probability[:-rank].copy()
        probability[rank:] += shifted
        probability /= 2
    return int(np.searchsorted(np.cumsum(probability), tail, side="right"))


def serial_widening(samples: ArrayLike) -> float:
    """By how much a standard error grows because neighbors in time resemble each other; 1 when they do not."""
    deviations = _finite(samples)
    deviations = deviations - np.median(deviations)
    power = float(deviations @ deviations)
    if power == 0:
        return 1.0
    correlation = float(deviations[1:] @ deviations[:-1]) / power
    correlation = min(max(correlation, 0.0), LARGEST_CORRELATION)
    return math.sqrt((1 + correlation) / (1 - correlation))


def median_interval(samples: ArrayLike) -> Interval:
    """The median and its distribution-free 99 % interval, from the binomial count of samples below it."""
    values = np.sort(_finite(samples))
    count = values.size
    below = np.cumsum([math.comb(count, k) / 2.0**count for k in range(count + 1)])
    rank = int(np.searchsorted(below, (1 - CONFIDENCE) / 2, side="right"))
    center = float(np.median(values))
    if rank == 0:
        return Interval(center, -math.inf, math.inf, count)
    return Interval(center, float(values[rank - 1]), float(values[-rank]), count)


def detectable_shift(
    half_width: float, margin: float, standard_error: float = 0.0, confidence: float = CONFIDENCE
) -> float:
    """The smallest shift that an interval of this half-width would show wholly beyond the margin 80 times in 100.

    The estimate must clear margin + half-width by 0.84 standard errors: `standard_error`, where the estimate is known
    to vary by more than its interval tells, and never less than the interval's own, which is half_width / 2.58 at 99 %.
    """
    normal = NormalDist()
    own = half_width / normal.inv_cdf(0.5 + confidence / 2)
    return margin + half_width + normal.inv_cdf(POWER) * max(own, standard_error)


def _walsh_averages(values: NDArray[np.float64]) -> NDArray[np.float64]:
    first, second = np.triu_indices(values.size)
    return np.sort((values[first] + values[second]) / 2)


def _finite(samples: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(samples, dtype=np.float64)
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError("an interval needs samples, all of them finite")
    return values
