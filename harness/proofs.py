"""Proofs that stand: of a run that proved the same cases at the same clean commit, on the same machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.case import Case
from harness.engines.fragment import Fragment
from harness.errors import RecordError, UserError
from harness.extent import extent_of
from harness.record import Environment, StandingProof
from harness.run_file import read_file


@dataclass(frozen=True)
class Proofs:
    """What one run proved and did not time, by what a proof depends on."""

    run: str
    by_case: Mapping[str, Fragment]

    def of(self, case: Case) -> Fragment | None:
        return self.by_case.get(_proven(case))


NONE = Proofs("", {})


def read(path: Path, environment: Environment) -> Proofs:
    """The passed proofs of a run made with `timing=off`. UserError where the file is none, or its records or this
    process are of another commit or machine, or of a tree with changes: their sources could differ."""
    try:
        file = read_file(path)
    except RecordError as error:
        raise UserError(f"no proof can be taken from {path}: {error}") from None
    held: dict[str, Fragment] = {}
    for digest, record in zip(file.hashes, file.records, strict=True):
        if record.environment is None or _code(record.environment) != _code(environment):
            raise UserError(f"no proof can be taken from {path}: it is of another commit or machine")
        if record.environment.dirty or environment.dirty:
            raise UserError(f"no proof can be taken from {path}: the tree had changes that are in no commit")
        if record.status == "passed" and record.parity is not None and not record.case.timing.processes:
            held[_proven(record.case)] = Fragment(
                status="passed",
                provenance=record.provenance,
                receipts=record.receipts,
                parity=record.parity,
                proof=StandingProof(run=record.run, content=digest),
            )
    return Proofs(file.run, held)


def _proven(case: Case) -> str:
    """What a proof depends on: everything but how the case is timed, and of its workload what the proof is fed."""
    asked = case.model_dump_json(exclude={"timing", "arms", "deadline_s", "workload"})
    return f"{asked} {extent_of(case)} {case.workload.dtype}"


def _code(environment: Environment) -> tuple[str, str]:
    return environment.commit, environment.fingerprint()
