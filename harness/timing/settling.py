"""Whether a level still moves, beyond what its noise explains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

SETTLED = 0.005
SETTLED_CLOCK = 0.01
WARM_UP_WINDOW = 3
NORMAL = 1.4826
"""Standard deviation over median absolute deviation of normal noise."""
MEDIAN_ERROR = 1.2533
"""Standard error of a median over that of a mean of normal noise."""


def moved(levels: Sequence[float]) -> float:
    """By how much the last readings differ from those before, beyond what their noise explains; infinitely while there
    are too few. Noise is read off neighbors, which a drift hardly separates."""
    if len(levels) < 2 * WARM_UP_WINDOW:
        return math.inf
    last = levels[-2 * WARM_UP_WINDOW :]
    before, after = last[:WARM_UP_WINDOW], last[WARM_UP_WINDOW:]
    sigma = NORMAL * median(abs(right - left) for left, right in pairwise(last)) / math.sqrt(2)
    noise = MEDIAN_ERROR * sigma * math.sqrt(2 / WARM_UP_WINDOW)
    return max(0.0, abs(median(after) - median(before)) - noise)
