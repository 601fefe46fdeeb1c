"""What an interval of a speed-up says, given how small a change is none."""

from __future__ import annotations

from typing import Literal

Verdict = Literal["faster", "slower", "same", "inconclusive", "invalid"]


def decided(low: float, high: float, edge: float) -> Verdict:
    """Of the interval low to high of log(other time / candidate time) and the margin `edge` on either side of 0."""
    if low > edge:
        return "faster"
    if high < -edge:
        return "slower"
    return "same" if -edge <= low and high <= edge else "inconclusive"
