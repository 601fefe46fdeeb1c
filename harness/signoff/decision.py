"""Evidence and policy to one decision. Pure: the same records at the same time give the same words."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import Literal, Self, get_args

from pydantic import model_validator

from harness.case import Case, Frozen
from harness.checks import KERNELS_IN_PLACE, Level
from harness.compare.agreement import PROCESSES
from harness.compare.arms import arms
from harness.errors import RecordError
from harness.gate_records import Source
from harness.history import accepted, nights, rules
from harness.history.accepted import Accepted
from harness.kill_matrix import MODEL, RANKS, SignOffEvidence
from harness.outcome import against_strongest, why
from harness.record import CANDIDATE, REFERENCE, Phase, Record
from harness.signoff import paths
from harness.signoff.evidence import Evidence
from harness.signoff.policy import Policy, Waiver

Requirement = Literal[
    "record", "outcome", "parity", "faults", "source", "versions",
    "caches", "processes", "protocol", "peers", "prefill", "decode", "memory", "history",
]  # fmt: skip
TENSOR_PARALLEL = "tensor_parallel"
"""The optimization that makes ranks of a stack."""
LEVELS: tuple[str, ...] = tuple(level for level in get_args(Level))


class Finding(Frozen):
    """One requirement against the evidence."""

    requirement: Requirement
    met: bool
    found: str
    supply: str = ""
    """The command that would supply what is missing."""
    waived: str = ""
    """Who answers for it, and why, where it is not met."""


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
    measure = f"{command(evidence.case)} timing=signoff 'arm=[{','.join(policy.arms)}]'"
    if evidence.newest is None:
        yield Finding(requirement="record", met=False, found="no run of this case is on record", supply=measure)
        return
    record = evidence.newest.record
    yield Finding(requirement="record", met=True, found=f"run {record.run} of {record.started_at}")
    ended = record.status if record.status == "passed" else f"{record.status}: {why(record)}"
    yield Finding(requirement="outcome", met=record.status == "passed", found=ended, supply=measure)
    yield _parity(record, evidence.proof, measure)
    yield _faults(evidence)
    yield _source(record, evidence.commit_held, measure)
    yield _versions(record, policy, measure)
    yield _caches(record, policy, measure)
    yield _processes(record, policy, measure)
    yield _protocol(record, policy, measure)
    yield _peers(record, policy, measure)
    yield from _speed(record, policy, measure)
    yield _memory(record, policy, measure)
    yield _history(evidence, policy, today)


def _parity(record: Record, proof: Source | None, measure: str) -> Finding:
    """A stack without kernels has no op level; the path level tells whether there are any in place."""
    if record.parity is None:
        return Finding(requirement="parity", met=False, found="0 checks on no level", supply=measure)
    levels = record.parity.levels()
    kernels = any(check.subject == KERNELS_IN_PLACE for check in record.parity.checks)
    lacking = {
        "nothing was judged on": [level for level in LEVELS if level not in levels and (kernels or level != "op")],
        "no path was": paths.missing(record.case, record.parity) if "path" in levels else (),
        "not judged:": sorted({item.subject for item in record.parity.not_judged}),
    }
    doubts = [f"{said} {', '.join(names)}" for said, names in lacking.items() if names]
    doubts += _unproven(record, proof)
    found = [f"{len(record.parity.checks)} checks on {', '.join(levels) or 'no level'}", *doubts]
    found += [f"proven by run {record.proof.run}"] if record.proof and proof else []
    met = record.parity.passed and not doubts
    return Finding(requirement="parity", met=met, found="; ".join(found), supply=measure)


def _unproven(record: Record, proof: Source | None) -> list[str]:
    """Why the checks are not those of the other run that they are said to be from."""
    if record.proof is None:
        return []
    if proof is None or proof.record.parity is None:
        return [f"run {record.proof.run}, which proved it, is not on record"]
    theirs = proof.record.parity.checks
    if record.parity is None or record.parity.checks[: len(theirs)] != theirs:
        return [f"run {record.proof.run} holds other checks than it is said to have proven"]
    return []


def _faults(evidence: Evidence) -> Finding:
    """A whole matrix with faults planted in the model, in every kernel that was judged, and in its ranks where several
    hold it."""
    case = evidence.case
    asked = ["python", "-m", "harness.mutants", f"+model={case.model}", f"hardware={case.hardware}"]
    plant = shlex.join(asked)
    if evidence.matrix is None or evidence.matrix.record.kill_matrix is None:
        found = f"no kill matrix of these sources on {case.hardware} is on record: nothing shows that the gate can fail"
        return Finding(requirement="faults", met=False, found=found, supply=plant)
    matrix, where = evidence.matrix.record.kill_matrix, evidence.matrix.record.case
    found = f"{matrix.sentence()}, at size {where.size} on {where.hardware}"
    ranks = {RANKS} if TENSOR_PARALLEL in case.optimizations else set()
    unplanted = {MODEL, *ranks, *_kernels(evidence)} - {item.subject for item in (*matrix.killed, *matrix.survivors)}
    if unplanted:
        found += f"; none was planted in {', '.join(sorted(unplanted))}"
        plant = shlex.join((*asked, f"optimization=[{','.join(case.optimizations)}]"))
    return Finding(requirement="faults", met=matrix.complete and not unplanted, found=found, supply=plant)


def _kernels(evidence: Evidence) -> set[str]:
    """Every kernel that the record judged."""
    parity = evidence.newest.record.parity if evidence.newest else None
    return {check.subject for check in parity.checks if check.level == "op"} if parity else set()


def _source(record: Record, held: bool | None, measure: str) -> Finding:
    environment = record.environment
    if environment is None or environment.commit == "unknown":
        found = "the record does not say what was run"
    else:
        state = "with changes that are in no commit: it cannot be run again" if record.provisional else "clean"
        found = f"commit {environment.commit[:12]}, {state}"
        found += ", which no branch or tag of this repository has" if held is False else ""
    met = not record.provisional and environment is not None and environment.commit != "unknown" and held is not False
    return Finding(requirement="source", met=met, found=found, supply=measure)


def _versions(record: Record, policy: Policy, measure: str) -> Finding:
    packages = record.environment.packages if record.environment else {}
    lacking = [name for name in policy.versions if name not in packages]
    named = ", ".join(f"{name} {packages[name]}" for name in policy.versions if name in packages)
    lock = record.provenance.lock if record.provenance else ""
    found = f"no version of {', '.join(lacking)}" if lacking else named
    found += f"; constraints.txt {lock}" if lock else "; which constraints.txt is not on record"
    return Finding(requirement="versions", met=bool(lock) and not lacking, found=found, supply=measure)


def _caches(record: Record, policy: Policy, measure: str) -> Finding:
    """Of the proof, which may be another run's, and of the timing."""
    proven = record.provenance is not None and record.provenance.fresh_caches
    fresh = proven and record.case.timing.fresh_caches
    found = "kernels were compiled anew" if fresh else "kernels may be from a cache that another build filled"
    return Finding(requirement="caches", met=fresh or not policy.fresh_caches, found=found, supply=measure)


def _processes(record: Record, policy: Policy, measure: str) -> Finding:
    count = len({series.process for series in record.series})
    found = f"timed in {count} of at least {policy.processes} fresh processes"
    return Finding(requirement="processes", met=count >= policy.processes, found=found, supply=measure)


def _protocol(record: Record, policy: Policy, measure: str) -> Finding:
    timing = record.case.timing
    found = f"timing={timing.name}: each process until ±{timing.half_width:.2%} or {timing.limit_s:g} s"
    departures = policy.timing.departures(timing, "cpu" if record.case.hardware == "cpu" else "cuda")
    found += f"; {'; '.join(departures)}" if departures else ""
    return Finding(requirement="protocol", met=not departures, found=found, supply=measure)


def _peers(record: Record, policy: Policy, measure: str) -> Finding:
    ran = {series.arm for series in record.series}
    lacking = [arm for arm in policy.arms if arm not in ran]
    found = f"not timed against {', '.join(lacking)}" if lacking else f"timed against {', '.join(policy.arms)}"
    return Finding(requirement="peers", met=not lacking, found=found, supply=measure)


def _speed(record: Record, policy: Policy, measure: str) -> Iterator[Finding]:
    phases = {phase.phase: phase for phase in arms(record)}
    for name in (name for name in get_args(Phase) if name in policy.phases):
        phase, least = phases.get(name), policy.phases[name]
        estimate = against_strongest(phase) if phase else None
        if phase is None or estimate is None:
            yield Finding(requirement=name, met=False, found="not timed", supply=measure)
            continue
        enough = {"faster": ("faster",), "same": ("faster", "same")}[least]
        doubts = f" ({'; '.join(estimate.reasons)})" if estimate.reasons else ""
        found = (
            f"{estimate.verdict}: {estimate.speedup:.3f}x [{estimate.low:.3f}, {estimate.high:.3f}] against "
            f"{phase.strongest}, {estimate.n} pairs{doubts}"
        )
        asked = min(policy.processes, PROCESSES)
        sound = phase.sound_processes >= asked
        found += "" if sound else f"; {phase.sound_processes} of the {asked} sound processes that a verdict needs"
        yield Finding(requirement=name, met=estimate.verdict in enough and sound, found=found, supply=measure)


def _memory(record: Record, policy: Policy, measure: str) -> Finding:
    peaks = {
        name: max((arm.peak_memory_bytes for arm in record.arms if arm.name == name), default=0)
        for name in (CANDIDATE, REFERENCE)
    }
    if not all(peaks.values()):
        return Finding(requirement="memory", met=False, found="no peak memory on record", supply=measure)
    ratio = peaks[CANDIDATE] / peaks[REFERENCE]
    found = f"peak beside the weights {ratio:.2f} of the reference's, {policy.memory_ratio:g} allowed"
    return Finding(requirement="memory", met=ratio <= policy.memory_ratio, found=found, supply=measure)


def _history(evidence: Evidence, policy: Policy, today: date) -> Finding:
    """By the nightly rule and the ratchet of `harness.history`, over this case alone."""
    count, again = len(evidence.earlier), f"{command(evidence.case)} timing=signoff"
    if policy.history_points == 0:
        return Finding(requirement="history", met=True, found="none is asked: the history begins with this case")
    if count < policy.history_points or evidence.newest is None:
        found = f"insufficient history: {count} of {policy.history_points} earlier runs on equal machines"
        return Finding(requirement="history", met=False, found=found, supply=again)
    records = [source.record for source in (*evidence.earlier, evidence.newest)]
    judged = rules.judge(nights.of_case(records), accepted.since(evidence.steps, today))
    met = bool(judged) and all(item.standing in ("steady", "faster") for item in judged)
    found = "; ".join([*(_told(item) for item in judged), *(_step(step, today) for step in evidence.steps)])
    return Finding(requirement="history", met=met, found=found or "nothing was timed", supply="" if met else again)


def _told(item: rules.Finding) -> str:
    if item.standing == "slower" and item.first_bad:
        return f"{item.series.phase} is slower: {item.change:+.1%} since {item.first_bad.at}, by the {item.rule} rule"
    reason = f": {item.reason}" if item.reason else f" over {len(item.points)} runs"
    return f"{item.series.phase} is {item.standing}{reason}"


def _step(step: Accepted, today: date) -> str:
    state = f"until {step.expires}" if today < step.expires else f"expired on {step.expires}"
    return f"a step of {step.phase} since {step.since} was accepted by {step.owner}, {state}: {step.reason}"


def command(case: Case) -> str:
    """The command that runs the case."""
    parts = [f"+model={case.model}", f"size={case.size}", f"optimization=[{','.join(case.optimizations)}]"]
    parts += [f"hardware={case.hardware}", f"workload={case.workload.name}"]
    parts += [f"weights={case.weights}"] if case.weights else []
    return shlex.join(("python", "-m", "harness", *parts))
