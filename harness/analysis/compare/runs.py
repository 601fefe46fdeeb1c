"""Two runs compared case by case: what became faster or slower, and what cannot be compared, each with its word. Pure.

A case is one in both runs by its identity; other arms, seeds or protocols make no other case of it. What is compared is
in `harness.analysis.compare.anchor`, how much it may differ by chance in `difference`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal, get_args

from harness.analysis.compare.anchor import speeds
from harness.analysis.compare.arms import PhaseComparison, arms, log_ratios_by_process
from harness.analysis.compare.difference import change, unlike
from harness.analysis.compare.estimate import Estimate
from harness.records.case_identity import CaseIdentity, checkpoint_of
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
    """Of the case's identity."""
    label: str
    phase: Phase
    base_ms: float
    head_ms: float
    """Medians of the candidate in its own run, milliseconds: for the eye, not what is judged."""
    estimate: Estimate
    """HEAD over BASE: above 1 HEAD is faster."""
    base_speedup: float | None = None
    head_speedup: float | None = None
    """Over the reference, in its own run; None where that was not timed. Told beside, not judged."""

    @property
    def effect(self) -> float:
        return abs(math.log(self.estimate.speedup)) if self.estimate.n else 0.0


@dataclass(frozen=True)
class NotComparable:
    """A case that has no speed to compare."""

    key: str
    """Of the case's identity."""
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
    """Records by the key of their identity, one per case and side, as `attempts.standing` gives them."""
    changes: list[Change] = []
    apart: list[NotComparable] = []
    for before, after in _pairs(base, head):
        for found in _case(before, after):
            (changes if isinstance(found, Change) else apart).append(found)  # type: ignore[arg-type]
    return ordered(changes, apart)


def _pairs(base: Mapping[str, Record], head: Mapping[str, Record]) -> Iterator[tuple[Record | None, Record | None]]:
    """By identity; a checkpoint that one side cannot tell the content of is known by its path."""
    yield from ((base[key], head[key]) for key in sorted(base.keys() & head.keys()))
    alone = {key: base[key] for key in sorted(base.keys() - head.keys())}
    for key in sorted(head.keys() - base.keys()):
        after = head[key]
        found = next((other for other, before in alone.items() if _same_path(before, after)), None)
        yield alone.pop(found) if found else None, after
    yield from ((before, None) for before in alone.values())


def _same_path(base: Record, head: Record) -> bool:
    unknown = base.case.weights is not None and not (checkpoint_of(base) and checkpoint_of(head))
    return unknown and CaseIdentity.of_case(base.case) == CaseIdentity.of_case(head.case)


def ordered(changes: Sequence[Change], apart: Sequence[NotComparable]) -> Comparison:
    by_effect = sorted(changes, key=lambda change: (-change.effect, change.label, change.phase))
    return Comparison(tuple(by_effect), tuple(sorted(apart, key=lambda item: (WORDS.index(item.word), item.label))))


def without_speed(base: Record | None, head: Record | None) -> NotComparable | None:
    """How a case ended in both runs, where one of the ends leaves no speed to compare; None when both passed."""
    known = head or base
    if known is None or (base is not None and head is not None and base.status == head.status == "passed"):
        return None

    def end(word: Word, reason: str) -> NotComparable:
        return NotComparable(CaseIdentity.of(known).key, known.case.label(), word, reason)

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
    key, label = CaseIdentity.of(head).key, head.case.label()
    if not base.series and not head.series:
        yield NotComparable(key, label, "held", "right in both, timed in neither")
        return
    if base.provisional and base != head:
        reason = "BASE is from a tree that was not committed: it cannot be a baseline"
        yield NotComparable(key, label, "not comparable", reason)
        return
    ours = {phase.phase: phase for phase in arms(head)}
    theirs = {phase.phase: phase for phase in arms(base)}
    for phase in get_args(Phase):
        if phase in ours and phase in theirs:
            differs = unlike(base, head, phase)
            if differs:
                yield NotComparable(key, label, "not comparable", f"{phase}: {differs}")
            else:
                yield _change(base, head, theirs[phase], ours[phase])
        elif phase in ours or phase in theirs:
            side = "HEAD" if phase in ours else "BASE"
            yield NotComparable(key, label, "not comparable", f"{phase} was timed in {side} alone")


def _change(base: Record, head: Record, theirs: PhaseComparison, ours: PhaseComparison) -> Change:
    same = base == head
    return Change(
        key=CaseIdentity.of(head).key,
        label=head.case.label(),
        phase=ours.phase,
        base_ms=theirs.candidate_ms,
        head_ms=ours.candidate_ms,
        estimate=_itself(head, ours.phase) if same else change(base, head, theirs, ours, ("BASE", "HEAD")),
        base_speedup=over_reference(base, ours.phase),
        head_speedup=over_reference(head, ours.phase),
    )


def _itself(record: Record, phase: Phase) -> Estimate:
    """One measurement on both sides differs from itself by nothing, whatever it may be worth."""
    blocks = sum(len(of_process) for of_process in speeds(record, phase).values())
    reason = "one record on both sides: nothing was measured twice"
    return Estimate(1.0, 1.0, 1.0, blocks, math.inf, "same", (reason,))


def over_reference(record: Record, phase: Phase) -> float | None:
    """The median speed-up over the reference of the same blocks; None where it was not timed."""
    ratios = [ratio for blocks in log_ratios_by_process(record, phase, REFERENCE).values() for ratio in blocks]
    return math.exp(median(ratios)) if ratios else None


def _why(record: Record | None) -> str:
    reason = None if record is None else record.error.message if record.error else record.reason
    return f": {reason}" if reason else ""
