"""Of all attempts at a case, the one that speaks for it: seeds, protocols and repetitions are attempts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.records.case_identity import CaseIdentity
from harness.records.record import FAILURES, INCONCLUSIVE, Record


def standing(records: Iterable[Record]) -> dict[str, Record]:
    """Key of a case's identity -> the record that speaks for it.

    Of several records of the very same question the last conclusive one counts. In the newest run with a conclusive
    one, whatever failed speaks; where nothing did, the newest run that timed the case does, by its record of the most
    processes.
    """
    held: dict[str, dict[str, Record]] = {}
    for record in sorted(records, key=lambda record: (record.status not in INCONCLUSIVE, record.started_at)):
        held.setdefault(CaseIdentity.of(record).key, {})[record.key] = record
    return {identity: _speaking(sorted(tries.values(), key=_start)) for identity, tries in held.items()}


def _speaking(tries: Sequence[Record]) -> Record:
    said = [record for record in tries if record.status not in INCONCLUSIVE | {"skipped"}]
    if not said:
        return tries[-1]
    failed = [record for record in said if record.run == said[-1].run and record.status in FAILURES]
    if failed:
        return failed[-1]
    timed = [record for record in said if record.series and record.status == "passed"]
    if not timed:
        return said[-1]
    return max((record for record in timed if record.run == timed[-1].run), key=_processes)


def _start(record: Record) -> str:
    return record.started_at


def _processes(record: Record) -> tuple[int, str]:
    return len({series.process for series in record.series}), record.started_at
