"""The nightly rule and the ratchet, on series of one case and phase. Pure.

A point is the log of a speed, of one record: on a GPU of the candidate's own calls per second, on a CPU of its ratio to
the reference, in which the machine's mood cancels. Only points of the latest point's epoch are looked at: of machines
that the phase cannot tell apart, measured by one protocol.

nightly: the median of the last 3 against that of up to 30 before, beyond the margin and 4 robust standard errors.
ratchet: the median of the last 8 against the best median of 15 consecutive accepted points, by the same two limits:
what creeps passes every nightly rule. Both are then held to a false discovery rate over all that was judged in the same
call (Benjamini and Hochberg 1995).

On 20 synthetic histories of 60 nights x 50 cases, noise of 0.7 % and an outlier in a hundred, 0.4 false alarms in 1,000
case-nights; every step of 3, 5 and 10 % and every drift was found, 10 % within two nights. At a rate of 0.01 the false
alarms were 1.0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats as distributions

from harness.records.record import Phase

RECENT = 3
BASELINE = 30
FEWEST = 8
"""Points before the recent ones; with fewer nothing is judged."""
RATCHET_RECENT = 8
RATCHET_WINDOW = 15
ERRORS = 4.0
DISCOVERY_RATE = 0.001
MEDIAN_OF_3_VARIANCE = 0.449
MEDIAN_VARIANCE = math.pi / 2
"""Of the median of n normal values, times n, in units of their variance."""
MAD_TO_SIGMA = 1.4826
MAD_EFFICIENCY = 0.37
"""Degrees of freedom that a standard deviation from the MAD is worth, per point."""

Rule = Literal["nightly", "ratchet"]
Unit = Literal["x", "/s"]
"""Of a point's speed: times the reference's, or calls per second."""
Standing = Literal["slower", "faster", "rerun", "steady", "insufficient history"]


@dataclass(frozen=True)
class Point:
    at: str
    """Start of the record, ISO 8601."""
    run: str
    commit: str
    fingerprint: str
    """Of what the phase depends on."""
    log_speed: float
    protocol: str = ""

    def same_epoch(self, other: Point) -> bool:
        return (self.fingerprint, self.protocol) == (other.fingerprint, other.protocol)


@dataclass(frozen=True)
class Series:
    """One phase of one case, oldest point first."""

    key: str
    label: str
    phase: Phase
    margin: float
    points: tuple[Point, ...]
    ask: tuple[str, ...] = ()
    """The words after `python -m harness` that measure the case again."""
    unit: Unit = "x"

    @property
    def name(self) -> str:
        return f"{self.key}:{self.phase}"


@dataclass(frozen=True)
class Finding:
    """What the last point of a series means. `first_bad` and `last_good` date a step; None without one."""

    series: Series
    standing: Standing
    points: tuple[Point, ...]
    """Those that were looked at: of one epoch, from the last accepted step on."""
    rule: Rule | None = None
    change: float = 0.0
    """Relative: -0.05 is 5 % slower than before."""
    errors: float = 0.0
    """The change in robust standard errors."""
    p: float = 1.0
    last_good: Point | None = None
    first_bad: Point | None = None
    reason: str = ""


def judge(series: Sequence[Series], accepted_since: Mapping[tuple[str, Phase, str], str]) -> tuple[Finding, ...]:
    """One finding per series, in their order.

    `accepted_since`: (key, phase, fingerprint) -> start of the first point of the level that was accepted.
    """
    epochs = [_epoch(each, accepted_since) for each in series]
    tests = [_tests(each, points) for each, points in zip(series, epochs, strict=True)]
    limit = _largest_discovery([found.p for each in tests for found in each], DISCOVERY_RATE)
    return tuple(
        _verdict(each, points, found, limit) for each, points, found in zip(series, epochs, tests, strict=True)
    )


def _epoch(series: Series, accepted_since: Mapping[tuple[str, Phase, str], str]) -> tuple[Point, ...]:
    if not series.points:
        return ()
    last = series.points[-1]
    since = accepted_since.get((series.key, series.phase, last.fingerprint), "")
    return tuple(point for point in series.points if point.same_epoch(last) and point.at >= since)


def _tests(series: Series, points: Sequence[Point]) -> tuple[Finding, ...]:
    values = np.array([point.log_speed for point in points])
    if values.size < FEWEST + RECENT:
        return ()
    before = values[-RECENT - BASELINE : -RECENT]
    nightly_variance = MEDIAN_OF_3_VARIANCE + MEDIAN_VARIANCE / before.size
    shift = float(np.median(values[-RECENT:]) - np.median(before))
    found = [_test(series, points, "nightly", shift, _sigma(before), nightly_variance, before.size)]
    best = _best(values[:-RATCHET_RECENT])
    if best is not None:
        shift = float(np.median(values[-RATCHET_RECENT:])) - best
        ratchet_variance = MEDIAN_VARIANCE * (1 / RATCHET_RECENT + 1 / RATCHET_WINDOW)
        found.append(_test(series, points, "ratchet", shift, _steps_sigma(values), ratchet_variance, values.size))
    return tuple(found)


def _test(
    series: Series, points: Sequence[Point], rule: Rule, shift: float, sigma: float, variance: float, count: int
) -> Finding:
    error = sigma * math.sqrt(variance)
    errors = abs(shift) / error if error else math.inf * bool(shift) if shift else 0.0
    freedom = max(1.0, MAD_EFFICIENCY * (count - 1))
    p = 2 * float(distributions.t.sf(errors, freedom))
    beyond = abs(shift) > math.log1p(series.margin) and errors > ERRORS
    standing: Standing = "steady" if not beyond else "slower" if shift < 0 else "faster"
    return Finding(series, standing, tuple(points), rule, math.expm1(shift), errors, p)


def _verdict(series: Series, points: tuple[Point, ...], tests: Sequence[Finding], limit: float) -> Finding:
    if not tests:
        have = f"{len(points)} points of this machine, these versions and this protocol, {FEWEST + RECENT} are needed"
        return Finding(series, "insufficient history", points, reason=have)
    held = [found if found.p <= limit else replace(found, standing="steady") for found in tests]
    nightly = held[0]
    for found in held:
        if found.standing == "slower":
            return _dated(found)
    if nightly.standing == "faster":
        return _dated(nightly)
    values = np.array([point.log_speed for point in points])
    before = values[-RECENT - BASELINE : -RECENT]
    apart = float(values[-1] - np.median(before))
    if abs(apart) > max(math.log1p(series.margin), ERRORS * _sigma(before)):
        reason = f"{points[-1].run} reads {math.expm1(apart):+.1%}: measure it again, one point is no alarm"
        return replace(nightly, standing="rerun", reason=reason)
    return nightly


def _dated(found: Finding) -> Finding:
    """With the last point before the step and the first after it: the split of least absolute deviation.

    A step in the older half of the baseline would be its median, and no alarm.
    """
    values = np.array([point.log_speed for point in found.points])
    if found.rule == "nightly":
        window = values[-RECENT - BASELINE :]
        first = values.size - window.size + _split(window, (window.size - RECENT) // 2)
    else:
        medians = np.median(np.lib.stride_tricks.sliding_window_view(values[:-RATCHET_RECENT], RATCHET_WINDOW), axis=1)
        first = _split(values, int(np.argmax(medians)) + RATCHET_WINDOW // 2)
    return replace(found, last_good=found.points[first - 1], first_bad=found.points[first])


def _split(values: NDArray[np.float64], start: int) -> int:
    def cost(at: int) -> float:
        return sum(float(np.abs(part - np.median(part)).sum()) for part in (values[:at], values[at:]))

    return min(range(max(start, 1), values.size), key=cost)


def _best(values: NDArray[np.float64]) -> float | None:
    if values.size < RATCHET_WINDOW:
        return None
    return float(np.median(np.lib.stride_tricks.sliding_window_view(values, RATCHET_WINDOW), axis=1).max())


def _sigma(values: NDArray[np.float64]) -> float:
    return MAD_TO_SIGMA * float(np.median(np.abs(values - np.median(values))))


def _steps_sigma(values: NDArray[np.float64]) -> float:
    """From the differences of neighbors, which a drift or a step of the level leaves alone."""
    return _sigma(np.diff(values)) / math.sqrt(2)


def _largest_discovery(p_values: Sequence[float], rate: float) -> float:
    """The largest p-value that Benjamini and Hochberg's procedure rejects at this rate; -1 when it rejects none."""
    ordered = sorted(p_values)
    return max((p for rank, p in enumerate(ordered, 1) if p <= rate * rank / len(ordered)), default=-1.0)
