"""What one process of a case leaves behind, and how the pieces of a case become the fields of its record. Pure but for
writing and reading one file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ValidationError, model_validator

from harness.errors import RecordError
from harness.records.case import Frozen
from harness.records.checks import Parity
from harness.records.kill_matrix import KillMatrix
from harness.records.record import (
    ArmReport,
    Block,
    Ceilings,
    Failure,
    KernelTime,
    PhaseDispatches,
    Provenance,
    ReceiptNote,
    Series,
    StandingProof,
    Work,
)

SILENT = "it said nothing and left no fragment"
REPRODUCER = ".reproducer"
"""Ends the stem of the two files that a failing proof leaves beside its fragment."""


class PartialRecord(Frozen):
    """One part of a case. The worker says `passed`, `failed`, `crashed` or `out_of_memory`; the engine, who outlives
    it, says the rest. `passed` from a timing part means that it was timed."""

    status: Literal["passed", "failed", "crashed", "out_of_memory", "killed", "timed_out"]
    provenance: Provenance | None = None
    receipts: tuple[ReceiptNote, ...] = ()
    parity: Parity | None = None
    """From a timing part: the timed outputs checked again."""
    proof: StandingProof | None = None
    """Of another run, where it stood for one of this run."""
    kill_matrix: KillMatrix | None = None
    arms: tuple[ArmReport, ...] = ()
    series: tuple[Series, ...] = ()
    blocks: tuple[Block, ...] = ()
    work: tuple[Work, ...] = ()
    dispatches: tuple[PhaseDispatches, ...] | None = None
    """From a timing part."""
    ceilings: Ceilings | None = None
    kernels: tuple[KernelTime, ...] = ()
    timing_notes: tuple[str, ...] = ()
    error: Failure | None = None

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.status == "failed" and (self.parity is None or self.parity.passed):
            raise RecordError("a fragment `failed` without a broken parity: other ends have words of their own")
        if self.status not in ("passed", "failed") and self.error is None:
            raise RecordError(f"a fragment `{self.status}` without its error")
        return self

    def write(self, path: Path) -> None:
        """Appears at `path` complete or not at all."""
        partial = path.with_name(f"{path.name}.partial")
        partial.write_text(self.model_dump_json())
        os.replace(partial, path)


def keep_reproducer(left: Path, folder: Path, name: str, proven: PartialRecord) -> PartialRecord:
    """Move what a failing proof saved beside its fragment `left` to `folder`, under `name`; its parity tells of it."""
    saved = [left.with_name(f"{left.stem}{REPRODUCER}{end}") for end in (".safetensors", ".json")]
    if proven.parity is None or not all(path.exists() for path in saved):
        return proven
    folder.mkdir(parents=True, exist_ok=True)
    for path in saved:
        shutil.move(path, folder / f"{name}{path.suffix}")
    return proven.model_copy(update={"parity": proven.parity.model_copy(update={"reproducer": f"{name}.json"})})


def ended(
    status: Literal["crashed", "killed", "timed_out"], kind: str, message: str, output: str = ""
) -> PartialRecord:
    """The fragment of a process that did not write one itself; `output` is the tail of what it said."""
    return PartialRecord(status=status, error=Failure(kind=kind, message=message, traceback=output))


def read(path: Path) -> PartialRecord:
    """A fragment as the worker wrote it; one that cannot be trusted is a crash of the worker, with the reason."""
    try:
        return PartialRecord.model_validate_json(path.read_bytes())
    except (ValidationError, RecordError) as error:
        return ended("crashed", type(error).__name__, f"the worker's fragment cannot be trusted: {error}")


def proof(prove: PartialRecord) -> PartialRecord:
    """The fragment of a first part. One that `passed` without a passed parity proves nothing and must not be timed."""
    if prove.status == "passed" and not (prove.parity and prove.parity.passed):
        return ended("crashed", "NoParity", "the worker reported `passed` without a passed parity")
    return prove


def merge(prove: PartialRecord, times: Sequence[PartialRecord]) -> dict[str, Any]:
    """Fields of the record of a case: its first end that is not `passed`, and everything that was measured until then.

    Speed is withheld, with a note, when the timed outputs turn out wrong, and that of a phase which launched what the
    proof did not.
    """
    parts = (prove, *times)
    end = next((part for part in parts if part.status != "passed"), prove)
    parity = _joined([part.parity for part in parts if part.parity])
    proven = parity is not None and parity.passed
    timed = any(part.series for part in parts)
    withheld = ["speed withheld: parity does not hold for the timed outputs"] if timed and not proven else []
    launched = _dispatches(times)
    seen = parity.dispatches if parity else None
    unseen = [item for item in launched or () if item.unproven(seen)]
    withheld += [_not_proven(item, seen) for item in unseen] if proven else []
    hidden = {item.phase for item in unseen}
    return {
        "status": end.status,
        "error": end.error,
        "provenance": prove.provenance,
        "receipts": prove.receipts,
        "parity": parity,
        "proof": prove.proof,
        "kill_matrix": next((part.kill_matrix for part in parts if part.kill_matrix and proven), None),
        "arms": _chain(parts, "arms"),
        "series": tuple(one for one in _chain(parts, "series") if one.phase not in hidden) if proven else (),
        "blocks": _chain(parts, "blocks"),
        "work": tuple(dict.fromkeys(_chain(parts, "work"))),
        "dispatches": launched,
        "ceilings": _best([part.ceilings for part in parts if part.ceilings]),
        "kernels": _chain(parts, "kernels"),
        "timing_notes": (*dict.fromkeys(_chain(parts, "timing_notes")), *withheld),
    }


def _dispatches(times: Sequence[PartialRecord]) -> tuple[PhaseDispatches, ...] | None:
    """By phase, what any process launched; None where no part tells."""
    told = [item for part in times for item in part.dispatches or ()]
    phases = dict.fromkeys(item.phase for item in told)
    every = {phase: {name for item in told if item.phase == phase for name in item.launched} for phase in phases}
    return tuple(PhaseDispatches(phase=p, launched=tuple(sorted(names))) for p, names in every.items()) or None


def _not_proven(timed: PhaseDispatches, proven: tuple[str, ...] | None) -> str:
    missing = ", ".join(
        f"{count} launch{'es' * (count > 1)} of {kernel}" for kernel, count in timed.unproven(proven).items()
    )
    return (
        f"{timed.phase}: speed withheld, not proven at this size: {missing}; prove with a workload that launches them"
    )


def _chain(parts: Sequence[PartialRecord], field: str) -> tuple[Any, ...]:
    return tuple(item for part in parts for item in getattr(part, field))


def _joined(found: Sequence[Parity]) -> Parity | None:
    if not found:
        return None
    return Parity(
        checks=tuple(check for parity in found for check in parity.checks),
        not_judged=tuple(dict.fromkeys(note for parity in found for note in parity.not_judged)),
        first_divergence=next((parity.first_divergence for parity in found if parity.first_divergence), None),
        drift=next((parity.drift for parity in found if parity.drift), None),
        reproducer=next((parity.reproducer for parity in found if parity.reproducer), None),
        wall_s=sum(parity.wall_s for parity in found),
        statistics=next((parity.statistics for parity in found if parity.statistics), None),
        dispatches=next((parity.dispatches for parity in found if parity.dispatches is not None), None),
        standing=tuple(verdict for parity in found for verdict in parity.standing),
    )


def _best(found: Sequence[Ceilings]) -> Ceilings | None:
    """A ceiling is the most that any process reached."""
    if not found:
        return None

    def most(field: str) -> float | None:
        return max((value for ceilings in found if (value := getattr(ceilings, field)) is not None), default=None)

    return Ceilings(
        copy_bytes_per_s=most("copy_bytes_per_s"),
        read_bytes_per_s=most("read_bytes_per_s"),
        resident_bytes_per_s=most("resident_bytes_per_s"),
        matmul_flops_per_s=most("matmul_flops_per_s"),
        matmul_dtype=next((ceilings.matmul_dtype for ceilings in found if ceilings.matmul_dtype), None),
    )
