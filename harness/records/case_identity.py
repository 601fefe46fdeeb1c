"""What a case is about, however it was measured: the one answer to whether two records are of the same case."""

from __future__ import annotations

from harness.records.case import Case, Frozen, WorkloadShape
from harness.records.record import Record


class CaseIdentity(Frozen):
    """A model of one size or checkpoint, a stack with its parameters, a class of hardware, and a workload.

    Protocol, arms, seed and deadline say how well it was measured, and are no part of it.
    """

    model: str
    weights: str
    """`size full` of random weights, `checkpoint HASH` by the content of its files, and `checkpoint at DIR` where its
    content is not known."""
    stack: tuple[str, ...]
    """In the order of application, each optimization with what it is told: `linear(rows=8)`."""
    hardware: str
    workload: WorkloadShape

    @property
    def key(self) -> str:
        return self.digest()

    @classmethod
    def of_case(cls, case: Case, checkpoint: str | None = None) -> CaseIdentity:
        """`checkpoint` is the hash of what `case.weights` holds, where it is known."""
        at = f"checkpoint {checkpoint}" if checkpoint else f"checkpoint at {case.weights}"
        return cls(
            model=case.model,
            weights=f"size {case.size}" if case.weights is None else at,
            stack=case.stacked(),
            hardware=case.hardware,
            workload=case.workload,
        )

    @classmethod
    def of(cls, record: Record) -> CaseIdentity:
        return cls.of_case(record.case, checkpoint_of(record))

    @property
    def name(self) -> str:
        """Model and weights."""
        return f"{self.model}/{self.weights.removeprefix('size ')}"

    def label(self) -> str:
        return f"{self.name} {'+'.join(self.stack) or 'none'} {self.hardware} {self.workload.label()}"


def checkpoint_of(record: Record) -> str | None:
    """The hash of the checkpoint that a record is about; None where there is none, or where it does not say."""
    return record.provenance.checkpoint if record.provenance and record.case.weights is not None else None
