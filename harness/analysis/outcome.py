"""What a finished run says: its coverage, what refuses it, and the exit code. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.records.record import FAILURES, Record

if TYPE_CHECKING:
    from harness.analysis.compare.arms import PhaseComparison
    from harness.analysis.compare.estimate import Estimate


@dataclass(frozen=True)
class Outcome:
    records: Sequence[Record]
    phases: Mapping[str, Sequence[PhaseComparison]]
    """Case key -> comparisons of its arms; no entry where nothing was timed."""

    def coverage(self) -> str:
        """planned = passed + failed + lost + skipped, as one line."""
        words = [_word(record) for record in self.records]
        counts = {word: words.count(word) for word in ("passed", "failed", "lost", "skipped")}
        return f"{len(words)} planned = " + " + ".join(f"{count} {word}" for word, count in counts.items())

    def refusals(self) -> tuple[str, ...]:
        """Why this run does not pass; empty when every case that could run is right and none is slower."""
        return tuple(reason for record in self.records for reason in self._against(record))

    def refused(self) -> tuple[Record, ...]:
        """The records that the refusals are about."""
        return tuple(record for record in self.records if any(self._against(record)))

    def _against(self, record: Record) -> Iterator[str]:
        if record.status not in ("passed", "skipped"):
            yield f"{record.case.label()}: {record.status}: {why(record)}"
        if record.kill_matrix is not None and not record.kill_matrix.complete:
            blind = ", ".join(f"{item.subject}: {item.name}" for item in record.kill_matrix.survivors)
            yield f"{record.case.label()}: the gate did not see planted faults: {blind or 'none at all'}"
        for phase in self.phases.get(record.key, ()):
            estimate = against_reference(phase)
            if estimate is not None and estimate.verdict == "slower":
                yield (
                    f"{record.case.label()}: {phase.phase} is slower than the reference, "
                    f"{estimate.speedup:.3g}x [{estimate.low:.3g}, {estimate.high:.3g}]"
                )

    @property
    def exit_code(self) -> int:
        passed = any(record.status == "passed" for record in self.records)
        return 0 if passed and not self.refusals() else 1


def why(record: Record) -> str:
    """One line: what broke, or why there is nothing."""
    if record.error is not None:
        return record.error.message
    if record.reason is not None:
        return record.reason
    if record.parity is None or record.parity.passed:
        return ""
    return record.parity.refusal() or "no check was made"


def against_reference(phase: PhaseComparison) -> Estimate | None:
    return next((item.estimate for item in phase.against if item.arm == "reference"), None)


def against_strongest(phase: PhaseComparison) -> Estimate | None:
    return next((item.estimate for item in phase.against if item.arm == phase.strongest), None)


def _word(record: Record) -> str:
    return "failed" if record.status in FAILURES else record.status
