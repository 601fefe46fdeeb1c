"""What a report says of the gate that judged its cases: faults that it saw, those of strangers
among them, and right answers that it refused."""

from __future__ import annotations

from collections.abc import Iterator

from harness.records.blind_fault import machine_of
from harness.records.gate_evidence import GateRecords
from harness.records.record import Record
from harness.report import blind_table
from harness.report.mutants import NONE_RAN


def lines(record: Record, gate: GateRecords) -> Iterator[str]:
    """Of one case: the newest kill matrix of its kernel sources, unless its own record holds one, and how often the
    newest calibration of its model on this kind of device refused a right answer; of all models, blind faults."""
    where = f"{record.case.model} on {record.case.hardware}"
    if record.kill_matrix is None:
        yield f"{where}: {_faults(record, gate)}"
    yield f"{where}: {_alarms(record, gate)}"
    yield from blind_table.sentences(gate.blind, machine_of(record.case.hardware))


def _faults(record: Record, gate: GateRecords) -> str:
    found = gate.matrix_of(record)
    if found is None or found.record.kill_matrix is None:
        return f"{NONE_RAN} No kill matrix of its kernel sources is on record, so nothing shows that its gate can fail."
    made, matrix = found.record, found.record.kill_matrix
    return (
        f"{NONE_RAN} The newest kill matrix of the same kernel sources: {matrix.summary()}, at size "
        f"{made.case.size}, {made.started_at} ({found.path})."
    )


def _alarms(record: Record, gate: GateRecords) -> str:
    found = gate.calibration_of(record)
    if found is None:
        return "no calibration on this kind of device is on record: its false-alarm rate is not known."
    commit = found.calibration.environment.commit[:8]
    return f"{found.calibration.alarms()}, by the limits of commit {commit} ({found.path})."
