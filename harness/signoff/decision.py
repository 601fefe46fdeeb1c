"""Evidence and policy to one decision. Pure: the same records at the same time give the same words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import Self

from pydantic import model_validator

from harness.analysis.outcome import why
from harness.errors import RecordError
from harness.records.case import Case, Frozen
from harness.records.kill_matrix import SignOffEvidence
from harness.signoff import correctness, origin, performance
from harness.signoff.commands import measuring
from harness.signoff.evidence import Evidence
from harness.signoff.finding import Finding
from harness.signoff.policy import Policy, Waiver


class Reference(Frozen):
    """A record that the decision rests on."""

    path: str
    content: str
    """Hash of the record's content."""
    run: str
    key: str


class Decision(Frozen):
    """Signed only where every requirement is met or waived, and then with the evidence that no waiver replaces."""

    case: Case
    """As its newest run has it; as it was asked for where there is none."""
    policy: Policy
    waivers: tuple[Waiver, ...]
    decided_at: datetime
    findings: tuple[Finding, ...]
    records: tuple[Reference, ...]
    proof: SignOffEvidence | None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.proof is None and all(finding.met or finding.waived for finding in self.findings):
            raise RecordError("a sign-off without parity and a complete kill matrix")
        return self

    @property
    def signed(self) -> bool:
        return self.proof is not None and all(finding.met or finding.waived for finding in self.findings)

    def refusals(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if not (finding.met or finding.waived))


def decide(evidence: Evidence, policy: Policy, waivers: Sequence[Waiver], now: datetime) -> Decision:
    found = _findings(evidence, policy, now.date())
    findings = tuple(_waived(finding, evidence.case, policy, waivers, now) for finding in found)
    return Decision(
        case=evidence.newest.record.case if evidence.newest else evidence.case,
        policy=policy,
        waivers=tuple(waivers),
        decided_at=now,
        findings=findings,
        records=tuple(
            Reference(path=source.path, content=source.digest, run=source.record.run, key=source.record.key)
            for source in evidence.used()
        ),
        proof=_proof(evidence),
    )


def _proof(evidence: Evidence) -> SignOffEvidence | None:
    newest, matrix = evidence.newest, evidence.matrix
    if newest is None or matrix is None or newest.record.parity is None or matrix.record.kill_matrix is None:
        return None
    if newest.record.status != "passed" or not matrix.record.kill_matrix.complete:
        return None
    return SignOffEvidence(parity=newest.record.parity, kill_matrix=matrix.record.kill_matrix)


def _waived(finding: Finding, case: Case, policy: Policy, waivers: Sequence[Waiver], now: datetime) -> Finding:
    if finding.met or finding.requirement not in policy.waivable:
        return finding
    for waiver in waivers:
        if waiver.covers(case, finding.requirement):
            if now.date() > waiver.expires:
                return finding.model_copy(update={"found": f"{finding.found}; the waiver of {waiver.owner} has expired "
                                                           f"on {waiver.expires}"})  # fmt: skip
            return finding.model_copy(update={"waived": f"{waiver.owner}, until {waiver.expires}: {waiver.reason}"})
    return finding


def _findings(evidence: Evidence, policy: Policy, today: date) -> Iterator[Finding]:
    measure = measuring(evidence.case, policy)
    if evidence.newest is None:
        yield Finding(requirement="record", met=False, found="no run of this case is on record", supply=measure)
        return
    record = evidence.newest.record
    yield Finding(requirement="record", met=True, found=f"run {record.run} of {record.started_at}")
    ended = record.status if record.status == "passed" else f"{record.status}: {why(record)}"
    yield Finding(requirement="outcome", met=record.status == "passed", found=ended, supply=measure)
    yield correctness.parity(record, evidence.proof, measure)
    yield correctness.faults(evidence)
    yield origin.source(record, evidence.commit_held, measure)
    yield origin.versions(record, policy, measure)
    yield origin.caches(record, policy, measure)
    yield performance.processes(record, policy, measure)
    yield performance.protocol(record, policy, measure)
    yield performance.peers(record, policy, measure)
    yield from performance.speed(record, policy, measure)
    yield performance.memory(record, policy, measure)
    yield performance.history(evidence, policy, today)
