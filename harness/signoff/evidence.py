"""What is on record about one case: its newest run, the newest kill matrix of its sources, and what came before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from harness.analysis.history.accepted import Accepted
from harness.records.case import Case
from harness.records.gate_evidence import Source, newest_matrix
from harness.records.record import Record

ENDS = frozenset({"lost", "skipped"})
"""Of records that say nothing about a case."""


@dataclass(frozen=True)
class Evidence:
    case: Case
    newest: Source | None
    """The last run of the case that said anything, passed or not. Parity and speed are taken from this one record."""
    matrix: Source | None
    """The newest record with a kill matrix of the same model on the same hardware, from the same sources."""
    proof: Source | None
    """The record that proved the newest run, where that was another run and its record is here."""
    earlier: tuple[Source, ...]
    """Passed and timed runs of the case before, on machines with the same fingerprint, oldest first."""
    steps: tuple[Accepted, ...] = ()
    """Acceptances of steps of this case, valid or not, under the key of its newest run."""
    commit_held: bool | None = None
    """Whether the repository of this code holds the commit of the newest run; None where there is none to ask."""

    def used(self) -> tuple[Source, ...]:
        sources = (*self.earlier, *(source for source in (self.proof, self.newest, self.matrix) if source))
        return tuple({source.digest: source for source in sources}.values())


def gather(case: Case, sources: Sequence[Source], steps: Sequence[Accepted], until: datetime) -> Evidence:
    """What `sources` and the accepted `steps`, oldest first, said about the case at the time `until`."""
    sources = [source for source in sources if datetime.fromisoformat(source.record.started_at) <= until]
    mine = [source for source in sources if _same(source.record.case, case) and source.record.status not in ENDS]
    newest = mine[-1] if mine else None
    keys = {source.record.key for source in mine}
    return Evidence(
        case=case,
        newest=newest,
        matrix=newest_matrix(newest.record, sources) if newest else None,
        proof=_proof(newest, sources) if newest else None,
        earlier=tuple(source for source in mine[:-1] if newest and _comparable(source.record, newest.record)),
        steps=tuple(
            step.model_copy(update={"key": newest.record.key})
            for step in steps
            if newest and step.key in keys and step.made <= until.date()
        ),
    )


def _same(one: Case, other: Case) -> bool:
    """Whether two cases ask for the same build doing the same work; how long they were timed is no part of that."""
    fields = ("model", "size", "optimizations", "parameters", "hardware", "workload", "weights")
    return all(getattr(one, field) == getattr(other, field) for field in fields)


def _proof(newest: Source, sources: Sequence[Source]) -> Source | None:
    named = newest.record.proof
    return next((source for source in sources if named and source.digest == named.content), None)


def _comparable(earlier: Record, newest: Record) -> bool:
    """Times may be compared: both timed, both reproducible, on machines that are alike."""
    timed = earlier.status == "passed" and earlier.series and not earlier.provisional
    if not timed or earlier.environment is None or newest.environment is None:
        return False
    return earlier.environment.fingerprint() == newest.environment.fingerprint()
