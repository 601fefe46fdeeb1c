"""Whether the case was proven on every level and path, by a gate that is shown to see faults in what it judged."""

from __future__ import annotations

from typing import get_args

from harness.records.checks import KERNELS_IN_PLACE, SINCE, Level
from harness.records.gate_evidence import Source
from harness.records.kill_matrix import MODEL, RANKS
from harness.records.provided import provided
from harness.records.record import Record
from harness.signoff import paths
from harness.signoff.commands import planting
from harness.signoff.evidence import Evidence
from harness.signoff.finding import Finding

LEVELS: tuple[str, ...] = tuple(level for level in get_args(Level))


def parity(record: Record, proof: Source | None, measure: str) -> Finding:
    """A stack without kernels has no op level; the path level tells whether there are any in place."""
    if record.parity is None:
        return Finding(requirement="parity", met=False, found="0 checks on no level", supply=measure)
    levels = record.parity.levels()
    kernels = any(check.subject == KERNELS_IN_PLACE for check in record.parity.checks)
    lacking = {
        "nothing was judged on": [
            level
            for level in LEVELS
            if level not in levels and (kernels or level != "op") and SINCE.get(level, 0) <= record.schema_version
        ],
        "no path was": paths.missing(record) if "path" in levels else (),
        "not judged:": sorted({item.subject for item in record.parity.not_judged}),
    }
    doubts = [f"{said} {', '.join(names)}" for said, names in lacking.items() if names]
    doubts += _unproven(record, proof)
    if record.parity.standing:
        elsewhere = sorted({verdict.kernel for verdict in record.parity.standing})
        doubts.append(f"{', '.join(elsewhere)} judged by another run: prove with verdicts=anew")
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


def faults(evidence: Evidence) -> Finding:
    """A whole matrix with faults planted in the model, in every kernel that was judged, and in its ranks where several
    hold it."""
    case = evidence.case
    plant = planting(case)
    if evidence.matrix is None or evidence.matrix.record.kill_matrix is None:
        found = f"no kill matrix of these sources on {case.hardware} is on record: nothing shows that the gate can fail"
        return Finding(requirement="faults", met=False, found=found, supply=plant)
    matrix, where = evidence.matrix.record.kill_matrix, evidence.matrix.record.case
    found = f"{matrix.sentence()}, at size {where.size} on {where.hardware}"
    ranks = {RANKS} if evidence.newest and "ranks" in provided(evidence.newest.record) else set()
    unplanted = {MODEL, *ranks, *_kernels(evidence)} - {item.subject for item in (*matrix.killed, *matrix.survivors)}
    if unplanted:
        found += f"; none was planted in {', '.join(sorted(unplanted))}"
        plant = planting(case, in_stack=True)
    return Finding(requirement="faults", met=matrix.complete and not unplanted, found=found, supply=plant)


def _kernels(evidence: Evidence) -> set[str]:
    """Every kernel that the record judged."""
    parity = evidence.newest.record.parity if evidence.newest else None
    return {check.subject for check in parity.checks if check.level == "op"} if parity else set()
