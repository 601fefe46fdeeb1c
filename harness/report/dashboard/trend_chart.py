"""One phase of one case through time: points with intervals, levels, changes, accepted steps, epochs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise

from harness.analysis.history import trend
from harness.analysis.history.accepted import Accepted
from harness.analysis.history.nightly_rules import Finding
from harness.records.case import cpu_ranks
from harness.report import formats
from harness.report.cells import Tone
from harness.report.dashboard.entry import Entry, Speed

DATED = 120
"""Newest points in which changes of level are looked for: the search takes longer than linear."""
STANDINGS: dict[str, Tone] = {
    "slower": "bad", "rerun": "open", "insufficient history": "open", "faster": "good", "steady": "quiet",
}  # fmt: skip


@dataclass(frozen=True)
class Dot:
    """A record on the chart: its speed in the unit of the trend and the 99 % interval, None where there is none."""

    speed: float
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
    speed: float


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
    epochs: tuple[Mark, ...]
    """Where machine, versions or protocol changed: what is left of it is not judged with what is right of it."""
    bisect: str
    """The command that finds the commit of an alarm; empty without one."""
    on_cpu: bool

    @property
    def measure(self) -> str:
        return "Speed-up over the reference" if self.on_cpu else "Calls per second of the candidate"

    @property
    def unit(self) -> str:
        return "×" if self.on_cpu else "/s"


def build(
    entries: Sequence[Entry], phase: str, finding: Finding | None, accepted: Sequence[Accepted], today: date
) -> Trend | None:
    """From the records of one case, the oldest first; None where the phase was never timed as history goes by
    it."""
    measured = [(one, speed) for one in entries if (speed := one.speed(phase)) and speed.measure]
    timed = [one for one, _ in measured]
    if not timed:
        return None
    known = {timed[0].case, *(one.key for one in timed)}
    starts = {one.started_at: at for at, one in enumerate(timed)}
    levels = _levels(finding, starts) if finding else ()
    standing = finding.standing if finding else "insufficient history"
    return Trend(
        phase=phase,
        standing=standing,
        tone=STANDINGS[standing],
        sentence=_sentence(finding),
        dots=tuple(_dot(one, speed) for one, speed in measured),
        levels=levels,
        changes=tuple(Mark(after.first, change(after.speed / before.speed - 1)) for before, after in pairwise(levels)),
        accepted=tuple(
            Mark(starts[item.since], _accepted(item, today))
            for item in accepted
            if item.phase == phase and item.key in known and item.since in starts
        ),
        epochs=tuple(_epochs(measured)),
        bisect=f"python -m harness history bisect={finding.series.name}"
        if finding and finding.standing == "slower"
        else "",
        on_cpu=cpu_ranks(timed[0].identity.hardware) > 0,
    )


def change(fraction: float) -> str:
    """Signed, in percent."""
    return f"{'+' if fraction >= 0 else '−'}{formats.percent(abs(fraction))}"


def _epochs(measured: Sequence[tuple[Entry, Speed]]) -> Iterator[Mark]:
    for at, ((before, old), (after, new)) in enumerate(pairwise(measured), start=1):
        moved = ["other machine or versions"] if old.machine != new.machine else []
        moved += [after.protocol] if before.protocol != after.protocol else []
        if moved:
            yield Mark(at, "; ".join(moved))


def _dot(one: Entry, timed: Speed) -> Dot:
    speed, low, high = timed.measure or (0.0, 0.0, 0.0)
    bounded = low > 0 and math.isfinite(high)
    doubt = ", not from a clean commit" if one.provisional else ""
    told = f"{formats.ratio(timed.reference[0])} of the reference, " if timed.reference else ""
    text = (
        f"{one.day}, {told}{formats.milliseconds(timed.candidate_ms)}, {one.protocol}, commit {one.commit[:8]}{doubt}"
    )
    return Dot(
        speed, low if bounded else None, high if bounded else None, one.day, one.run, one.commit, one.provisional, text
    )


def _levels(finding: Finding, starts: dict[str, int]) -> tuple[Span, ...]:
    series = replace(finding.series, points=finding.series.points[-DATED:])
    found = trend.levels(series) if series.points else ()
    known = [[starts[point.at] for point in level.points if point.at in starts] for level in found]
    return tuple(Span(places[0], places[-1], level.speed) for level, places in zip(found, known, strict=True) if places)


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
