"""On which side of a step a commit stands: beyond half of the step's effect, or short of it. Pure.

Not whether the commit is as fast as the good end: to call two speeds the same within a margin near the noise takes
more rounds than to tell them from the half of a step.

It is asked after each of LOOKS equal batches of rounds, and ends at the first that decides. To look again and again
would find what is not there more often than 1 time in 100, so each look takes an interval of CONFIDENCE, 99.75 %, which
leaves all of them together 1 % (Bonferroni: however much they depend on each other). What a look calls its interval is
therefore a 99 % interval over all looks. Below ten rounds none of this confidence exists: the look decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from harness.analysis import stats
from harness.analysis.compare.estimate import Estimate
from harness.analysis.compare.runs import Comparison
from harness.errors import UserError
from harness.records.record import Phase

LOOKS = 4
CONFIDENCE = 1 - (1 - stats.CONFIDENCE) / LOOKS
"""Of the interval of each look."""

Side = Literal["good", "bad", "skip"]


@dataclass(frozen=True)
class Answer:
    side: Side
    found: Estimate | None
    """The commit over the good end; None when it has no speed."""
    reason: str = ""
    """Why it is skipped."""

    def __str__(self) -> str:
        """In one line, without the commit's name."""
        speed = f"{told(self.found)}: " if self.found else ""
        return f"{speed}{self.side}{self.reason and f', {self.reason}'}"


def rounds_at(rounds: int) -> tuple[int, ...]:
    """How many rounds were measured at each look, the last being the most that a step takes."""
    return tuple(rounds * look for look in range(1, LOOKS + 1))


def told(found: Estimate) -> str:
    """How fast the judged end or commit is, its interval, and from how many rounds that counted."""
    if not found.n:
        return "no round that counts"
    interval = f"{found.low:.3f} to {found.high:.3f}" if math.isfinite(found.high) else "no interval"
    return f"{found.speedup:.3f}x of good ({interval}), {found.n} rounds"


def ends(looks: Iterable[Comparison], phase: Phase) -> Estimate:
    """Of the bad end over the good one, by the first look that calls it slower with its whole interval beyond half of
    it: that half then lies between no effect and the true one, and parts good from bad however far off the middle.

    UserError when no look does, and when the ends have no speed or more than one case.
    """
    found: Estimate | None = None
    for look in looks:
        found, reason = _speed(look, phase)
        if found is None:
            raise UserError(f"the ends of the bisection cannot be compared: {reason}")
        if found.verdict in ("faster", "same"):
            break
        if found.verdict == "slower" and found.high < half(found.speedup):
            return found
    if found is None:
        raise ValueError("a bisection needs a look")
    why = "".join(f"; {reason}" for reason in found.reasons)
    raise UserError(f"the bad end reads {told(found)}{why}: no step that so many rounds can find on this machine")


def answer(looks: Iterable[Comparison], phase: Phase, effect: float) -> Answer:
    """Of a commit against the good end, `effect` being the speed of the bad end over it, e.g. 0.949.

    bad: the interval of the commit lies wholly beyond half of the effect, in the logarithm. good: wholly short of it.
    skip: the last look cannot say, too many rounds were disturbed, or the commit failed. UserError when several cases
    were timed.
    """
    line = half(effect)
    found: Estimate | None = None
    for look in looks:
        found, reason = _speed(look, phase)
        if found is None:
            return Answer("skip", None, reason)
        if found.verdict == "invalid":
            continue
        if found.high < line:
            return Answer("bad", found)
        if found.low > line:
            return Answer("good", found)
    disturbed = found is not None and found.verdict == "invalid"
    return Answer("skip", found, "; ".join(found.reasons) if found and disturbed else f"not told from {line:.3f}x")


def half(effect: float) -> float:
    """The speed that lies halfway to this one in the logarithm."""
    return math.sqrt(effect)


def _speed(look: Comparison, phase: Phase) -> tuple[Estimate | None, str]:
    """The one speed that was compared, or why there is none."""
    asked = look.only(phase)
    if not asked.changes:
        return None, asked.apart[0].reason if asked.apart else f"{phase} was not timed"
    if len(asked.changes) + len(asked.apart) > 1:
        raise UserError(f"{len(asked.changes) + len(asked.apart)} cases were measured: a bisection asks of one")
    return asked.changes[0].estimate, ""
