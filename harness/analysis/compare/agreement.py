"""Whether every process on its own bears out the verdict on all of them together.

Blocks of one process share its memory layout and its compiled code, so many blocks of one odd process can carry a
pooled interval that no other process would give (Georges, Buytaert and Eeckhout, OOPSLA 2007, ask for several
invocations).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import stdev

from harness.analysis import stats
from harness.analysis.compare.verdict import Verdict

PROCESSES = 3
"""Fewer cannot tell an odd process from a usual one: from so many on, a verdict asks that they agree."""


def dissent(verdict: Verdict, processes: Sequence[stats.Interval], margin: float) -> tuple[str, ...]:
    """Why the processes do not bear out the verdict; () where they do, are too few, or there is nothing to bear out.

    `processes` locates log(other time / candidate time) of each, `margin` is relative. A process speaks against
    `faster` when its center is not above 0, or its own 99 % interval ends below the margin; `slower` mirrors that; it
    speaks against `same` when its interval lies wholly outside the margin. One with too few pairs for an interval has
    a center alone.
    """
    if verdict not in ("faster", "slower", "same") or len(processes) < PROCESSES:
        return ()
    edge = math.log1p(margin)
    against = sum(not _bears_out(verdict, interval, edge) for interval in processes)
    if not against:
        return ()
    centers = ", ".join(f"{math.exp(interval.center):.3f}x" for interval in processes)
    return (f"{against} of {len(processes)} processes speak against `{verdict}`: one by one they read {centers}",)


def standard_error(processes: Sequence[stats.Interval]) -> float:
    """Of the mean over processes, from the spread of their centers; 0 where they are too few to tell it."""
    if len(processes) < PROCESSES:
        return 0.0
    return stdev(interval.center for interval in processes) / math.sqrt(len(processes))


def _bears_out(verdict: Verdict, interval: stats.Interval, edge: float) -> bool:
    if verdict == "faster":
        return interval.center > 0 and interval.high > edge
    if verdict == "slower":
        return interval.center < 0 and interval.low < -edge
    return interval.low <= edge and interval.high >= -edge
