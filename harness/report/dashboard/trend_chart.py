"""One phase of one case through time: points with intervals, levels, changes, accepted steps, machines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise

from harness.analysis.history import trend
from harness.analysis.history.accepted import Accepted
from harness.analysis.history.nightly_rules import Finding
from harness.report import formats
from harness.report.cells import Tone
from harness.report.dashboard.entry import Entry

DATED = 120
"""Newest points in which changes of level are looked for: the search takes longer than linear."""
STANDINGS: dict[str, Tone] = {
    "slower": "bad", "rerun": "open", "insufficient history": "open", "faster": "good", "steady": "quiet",
}  # fmt: skip


@dataclass(frozen=True)
class Dot:
    """A record on the chart: its speed-up over the reference and the 99 % interval, None where there is none."""

    ratio: float
    low: float | None
    high: float | None
    day: str
    run: str
    commit: str
    doubtful: bool
    """No point of the history: not from a clean commit."""
    text: str


@dataclass(frozen=True)
class Span:
    """A level between two changes: first and last dot by position, and its median."""

    first: int
    last: int
    ratio: float


@dataclass(frozen=True)
class Mark:
    """Something that happened at the dot of this position."""

    at: int
    text: str


@dataclass(frozen=True)
class Trend:
    phase: str
    standing: str
    tone: Tone
    sentence: str
    dots: tuple[Dot, ...]
    levels: tuple[Span, ...]
    changes: tuple[Mark, ...]
    accepted: tuple[Mark, ...]
    machines: tuple[Mark, ...]
    """Where the strict fingerprint changed: what is left of it is not compared with what is right of it."""
    bisect: str
    """The command that finds the commit of an alarm; empty without one."""


def build(
    entries: Sequence[Entry], phase: str, finding: Finding | None, accepted: Sequence[Accepted], today: date
) -> Trend | None:
    """From the records of one case, the oldest first; None where the phase was never timed beside a reference."""
    beside = [(one, speed.reference) for one in entries if (speed := one.speed(phase)) and speed.reference]
    timed = [one for one, _ in beside]
    if not timed:
        return None
    starts = {one.started_at: at for at, one in enumerate(timed)}
    levels = _levels(finding, starts) if finding else ()
    standing = finding.standing if finding else "insufficient history"
    return Trend(
        phase=phase,
        standing=standing,
        tone=STANDINGS[standing],
        sentence=_sentence(finding),
        dots=tuple(_dot(one, reference) for one, reference in beside),
        levels=levels,
        changes=tuple(Mark(after.first, change(after.ratio / before.ratio - 1)) for before, after in pairwise(levels)),
        accepted=tuple(
            Mark(starts[item.since], _accepted(item, today))
            for item in accepted
            if (item.key, item.phase) == (timed[0].key, phase) and item.since in starts
        ),
        machines=tuple(
            Mark(at, "other machine or versions")
            for at in range(1, len(timed))
            if timed[at].fingerprint != timed[at - 1].fingerprint
        ),
        bisect=f"python -m harness history bisect={finding.series.name}"
        if finding and finding.standing == "slower"
        else "",
    )


def change(fraction: float) -> str:
    """Signed, in percent."""
    return f"{'+' if fraction >= 0 else '−'}{formats.percent(abs(fraction))}"


def _dot(one: Entry, reference: tuple[float, float, float]) -> Dot:
    ratio, low, high = reference
    bounded = low > 0 and math.isfinite(high)
    doubt = ", not from a clean commit" if one.provisional else ""
    text = f"{one.day}, {formats.ratio(ratio)} ({formats.interval(low, high)}), commit {one.commit[:8]}{doubt}"
    return Dot(
        ratio, low if bounded else None, high if bounded else None, one.day, one.run, one.commit, one.provisional, text
    )


def _levels(finding: Finding, starts: dict[str, int]) -> tuple[Span, ...]:
    series = replace(finding.series, points=finding.series.points[-DATED:])
    found = trend.levels(series) if series.points else ()
    known = [[starts[point.at] for point in level.points if point.at in starts] for level in found]
    return tuple(
        Span(places[0], places[-1], level.speedup) for level, places in zip(found, known, strict=True) if places
    )


def _accepted(item: Accepted, today: date) -> str:
    until = "until" if today < item.expires else "expired"
    return f"accepted by {item.owner}, {until} {item.expires}: {item.reason}"


def _sentence(finding: Finding | None) -> str:
    if finding is None:
        return "no record from a clean commit: no history"
    if finding.last_good and finding.first_bad:
        return (
            f"{change(finding.change)} since {finding.first_bad.at[:10]}, by the {finding.rule} rule; commits "
            f"{finding.last_good.commit[:8]} to {finding.first_bad.commit[:8]}"
        )
    return finding.reason or f"{formats.number_of(len(finding.points), 'point')}, no change beyond the margin"
