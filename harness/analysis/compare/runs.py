"""Two runs compared case by case: what became faster or slower, and what cannot be compared, each with its word. Pure.

Times of different processes are not compared. Each run's candidate is compared with the reference of its own process,
and the change is the difference of the two log ratios. Its interval is the wider of two: that of the blocks (the two
Hodges-Lehmann intervals combined by MOVER, Zou and Donner 2008) and that of the processes (Student's t on their
centers), because blocks of one process share what differs between processes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Literal, get_args

from scipy import stats as distributions

from harness.analysis import stats
from harness.analysis.compare import estimate
from harness.analysis.compare.agreement import PROCESSES
from harness.analysis.compare.arms import PhaseComparison, arms, log_ratios_by_process
from harness.analysis.compare.estimate import Estimate
from harness.records.record import FAILURES, REFERENCE, Phase, Record

Word = Literal["introduced", "fixed", "lost", "added", "not comparable", "held"]
WORDS: tuple[Word, ...] = get_args(Word)
"""introduced: a failure that BASE did not have. lost: judged in BASE, not in HEAD. held: right in both, timed in
neither."""
UNDECIDED = ("inconclusive", "invalid")


@dataclass(frozen=True)
class Change:
    """One phase of one case in both runs."""

    key: str
    label: str
    phase: Phase
    base_ms: float
    head_ms: float
    """Medians of the candidate in its own run, milliseconds: for the eye, not what is judged."""
    estimate: Estimate
    """HEAD over BASE: above 1 HEAD is faster."""

    @property
    def effect(self) -> float:
        return abs(math.log(self.estimate.speedup)) if self.estimate.n else 0.0


@dataclass(frozen=True)
class NotComparable:
    """A case that has no speed to compare."""

    key: str
    label: str
    word: Word
    reason: str


@dataclass(frozen=True)
class Comparison:
    changes: tuple[Change, ...]
    """The largest effect first."""
    apart: tuple[NotComparable, ...]

    def only(self, phase: Phase) -> Comparison:
        """The same where one phase alone was timed."""
        return replace(self, changes=tuple(change for change in self.changes if change.phase == phase))

    def of(self, word: Word) -> tuple[NotComparable, ...]:
        return tuple(item for item in self.apart if item.word == word)

    @property
    def exit_code(self) -> int:
        """1: something is slower, fails anew, or is lost. 3: nothing is, but not every case was decided, or there was
        none. 0: every case was decided."""
        verdicts = [change.estimate.verdict for change in self.changes]
        if "slower" in verdicts or self.of("introduced") or self.of("lost"):
            return 1
        decided = verdicts or self.of("held") or self.of("fixed")
        return 3 if not decided or self.of("not comparable") or set(verdicts) & set(UNDECIDED) else 0


def compare_runs(base: Mapping[str, Record], head: Mapping[str, Record]) -> Comparison:
    """Records by case key, one per case and side."""
    changes: list[Change] = []
    apart: list[NotComparable] = []
    for key in sorted(base.keys() | head.keys()):
        for found in _case(base.get(key), head.get(key)):
            (changes if isinstance(found, Change) else apart).append(found)  # type: ignore[arg-type]
    return ordered(changes, apart)


def ordered(changes: Sequence[Change], apart: Sequence[NotComparable]) -> Comparison:
    by_effect = sorted(changes, key=lambda change: (-change.effect, change.label, change.phase))
    return Comparison(tuple(by_effect), tuple(sorted(apart, key=lambda item: (WORDS.index(item.word), item.label))))


def without_speed(base: Record | None, head: Record | None) -> NotComparable | None:
    """How a case ended in both runs, where one of the ends leaves no speed to compare; None when both passed."""
    known = head or base
    if known is None or (base is not None and head is not None and base.status == head.status == "passed"):
        return None

    def end(word: Word, reason: str) -> NotComparable:
        return NotComparable(known.key, known.case.label(), word, reason)

    before, after = base.status if base else None, head.status if head else None
    if after in FAILURES:
        again = before in FAILURES
        return end("not comparable" if again else "introduced", f"{'still ' * again}{after}{_why(head)}")
    if before in FAILURES and after == "passed":
        return end("fixed", f"was {before}{_why(base)}")
    if after == "passed":
        return end("added", "BASE has no record of it" if before is None else f"{before} in BASE{_why(base)}")
    if before in ("passed", *FAILURES):
        return end("lost", "HEAD has no record of it" if after is None else f"{after}{_why(head)}")
    return end("not comparable", f"{before or 'absent'} in BASE, {after or 'absent'} in HEAD")


def _case(base: Record | None, head: Record | None) -> Iterator[Change | NotComparable]:
    ended = without_speed(base, head)
    if ended is not None or base is None or head is None:
        skipped = {record.status for record in (base, head) if record} == {"skipped"}
        if ended is not None and not skipped:
            yield ended
        return
    label = head.case.label()
    if not base.series and not head.series:
        yield NotComparable(head.key, label, "held", "right in both, timed in neither")
        return
    reason = _incomparable(base, head)
    if reason:
        yield NotComparable(head.key, label, "not comparable", reason)
        return
    ours = {phase.phase: phase for phase in arms(head)}
    theirs = {phase.phase: phase for phase in arms(base)}
    for phase in get_args(Phase):
        if phase in ours and phase in theirs:
            yield _change(base, head, theirs[phase], ours[phase])
        elif phase in ours or phase in theirs:
            side = "HEAD" if phase in ours else "BASE"
            yield NotComparable(head.key, label, "not comparable", f"{phase} was timed in {side} alone")


def _incomparable(base: Record, head: Record) -> str | None:
    if base.provisional:
        return "BASE is from a tree that was not committed: it cannot be a baseline"
    return unlike(base, head)


def unlike(base: Record, head: Record) -> str | None:
    """Why the ratios of two records to their references do not share a scale; None where they do."""
    if base.environment is None or head.environment is None:
        return "a record without its environment"
    if base.environment.fingerprint() != head.environment.fingerprint():
        theirs, ours = (record.environment.model_dump() for record in (base, head) if record.environment)
        code = ("commit", "dirty", "diff_hash", "command")
        fields = [name for name in ours if ours[name] != theirs[name] and name not in code]
        return f"different machines or versions: {', '.join(fields)}"
    timed = [{series.arm for series in record.series} for record in (base, head)]
    if not all(REFERENCE in arms for arms in timed):
        return "the reference was not timed in both: their machines' states have nothing in common"
    return None


def _change(base: Record, head: Record, theirs: PhaseComparison, ours: PhaseComparison) -> Change:
    return Change(
        key=head.key,
        label=head.case.label(),
        phase=ours.phase,
        base_ms=theirs.candidate_ms,
        head_ms=ours.candidate_ms,
        estimate=change(base, head, theirs, ours, ("BASE", "HEAD")),
    )


def change(
    base: Record, head: Record, theirs: PhaseComparison, ours: PhaseComparison, names: tuple[str, str]
) -> Estimate:
    """HEAD's candidate over BASE's in one phase, each by the reference of its own process. `theirs` and `ours` are the
    judged phase of each record, `names` what its reasons call the two."""
    phase, margin = ours.phase, head.case.timing.margin
    sides = [log_ratios_by_process(record, phase, REFERENCE) for record in (base, head)]
    return _qualified(difference(sides[0], sides[1], margin), sides, (theirs, ours), names, margin)


Ratios = Mapping[int, Sequence[float]]


def difference(base: Ratios, head: Ratios, margin: float) -> Estimate:
    """HEAD's log ratios to its reference, by process, less BASE's."""
    if not base or not head:
        return Estimate(math.nan, 0.0, math.inf, 0, math.inf, "inconclusive", ("no pair of samples was kept",))
    before, after = (stats.location([ratio for blocks in side.values() for ratio in blocks]) for side in (base, head))
    across = _across_processes(base, head)
    center = after.center - before.center
    low = center - max(math.hypot(after.center - after.low, before.high - before.center), across)
    high = center + max(math.hypot(after.high - after.center, before.center - before.low), across)
    return estimate.of_interval(stats.Interval(center, low, high, min(before.n, after.n)), margin)


def _across_processes(base: Ratios, head: Ratios) -> float:
    """Half-width of the 99 % interval of the difference, from the pooled spread of the processes' centers."""
    centers = [[median(blocks) for blocks in side.values()] for side in (base, head)]
    freedom = sum(len(side) - 1 for side in centers)
    if freedom == 0:
        return math.inf
    pooled = sum((value - fmean(side)) ** 2 for side in centers for value in side) / freedom
    quantile = float(distributions.t.ppf(0.5 + stats.CONFIDENCE / 2, freedom))
    return quantile * math.sqrt(pooled * sum(1 / len(side) for side in centers))


def _qualified(
    found: Estimate, sides: Sequence[Ratios], phases: Sequence[PhaseComparison], names: Sequence[str], margin: float
) -> Estimate:
    """What disturbs a side overrides what the interval says."""
    invalid: list[str] = []
    doubts: list[str] = []
    for name, ratios, phase in zip(names, sides, phases, strict=True):
        reference = next(item.estimate for item in phase.against if item.arm == REFERENCE)
        if reference.verdict == "invalid":
            invalid += [f"{name}: {reason}" for reason in reference.reasons]
        if phase.again is None:
            doubts.append(f"{name}: its A/A pair is missing")
        if len(ratios) < PROCESSES:
            doubts.append(f"{name}: {len(ratios)} of the {PROCESSES} processes that a verdict needs")
    if invalid:
        return replace(found, verdict="invalid", reasons=(*found.reasons, *invalid))
    if doubts:
        return replace(found, verdict="inconclusive", reasons=(*found.reasons, *doubts))
    return estimate.allowing(found, [phase.again for phase in phases], margin)


def _why(record: Record | None) -> str:
    reason = None if record is None else record.error.message if record.error else record.reason
    return f": {reason}" if reason else ""
