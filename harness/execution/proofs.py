"""Proofs that stand: of the same case at the same clean commit on the same machine, made by another run or earlier in
this one."""

from __future__ import annotations

from pathlib import Path

from harness.errors import RecordError, UserError
from harness.records import run_line
from harness.records.case import Case
from harness.records.partial_record import PartialRecord
from harness.records.proof_size import proof_size_of
from harness.records.record import Environment, Record, StandingProof
from harness.records.run_file import read_file


class Proofs:
    """Passed proofs by what a proof depends on."""

    def __init__(self) -> None:
        self._held: dict[str, PartialRecord] = {}

    def of(self, case: Case) -> PartialRecord | None:
        return self._held.get(_proven(case))

    def add(self, record: Record) -> None:
        """Hold on to what `record` proved itself. Of a tree with changes nothing stands: they could differ by now."""
        if record.status != "passed" or record.proof is not None or record.provisional:
            return
        content = run_line.digest(record.model_dump(mode="json"))
        self._held.setdefault(
            _proven(record.case),
            PartialRecord(
                status="passed",
                provenance=record.provenance,
                receipts=record.receipts,
                parity=record.parity,
                proof=StandingProof(run=record.run, content=content),
            ),
        )


def read(path: Path, environment: Environment) -> Proofs:
    """What a run proved. UserError where the file is none, or its records or this process are of another commit or
    machine, or of a tree with changes: their sources could differ."""
    try:
        records = read_file(path).records
    except RecordError as error:
        raise UserError(f"no proof can be taken from {path}: {error}") from None
    held = Proofs()
    for record in records:
        if record.environment is None or _code(record.environment) != _code(environment):
            raise UserError(f"no proof can be taken from {path}: it is of another commit or machine")
        if record.environment.dirty or environment.dirty:
            raise UserError(f"no proof can be taken from {path}: the tree had changes that are in no commit")
        held.add(record)
    return held


def _proven(case: Case) -> str:
    """What a proof depends on: everything but how the case is timed, and of its workload what the proof is fed."""
    asked = case.model_dump_json(exclude={"timing", "arms", "deadline_s", "workload"})
    return f"{asked} {proof_size_of(case)} {case.workload.dtype}"


def _code(environment: Environment) -> tuple[str, str]:
    return environment.commit, environment.fingerprint()
