"""Whether the case was timed as the policy asks, and what that says of speed, memory and history."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import get_args

from harness.analysis.compare.agreement import PROCESSES
from harness.analysis.compare.arms import arms
from harness.analysis.history import accepted, nightly_rules, nightly_series
from harness.analysis.history.accepted import Accepted
from harness.analysis.outcome import against_strongest
from harness.records.case_identity import CaseIdentity
from harness.records.record import CANDIDATE, REFERENCE, Phase, Record
from harness.signoff.commands import command
from harness.signoff.evidence import Evidence
from harness.signoff.finding import Finding
from harness.signoff.policy import Policy


def processes(record: Record, policy: Policy, measure: str) -> Finding:
    count = len({series.process for series in record.series})
    found = f"timed in {count} of at least {policy.processes} fresh processes"
    return Finding(requirement="processes", met=count >= policy.processes, found=found, supply=measure)


def protocol(record: Record, policy: Policy, measure: str) -> Finding:
    timing = record.case.timing
    found = f"timing={timing.name}: each process until ±{timing.half_width:.2%} or {timing.limit_s:g} s"
    departures = policy.timing.departures(timing, "cpu" if record.case.on_cpu else "cuda")
    found += f"; {'; '.join(departures)}" if departures else ""
    return Finding(requirement="protocol", met=not departures, found=found, supply=measure)


def peers(record: Record, policy: Policy, measure: str) -> Finding:
    ran = {series.arm for series in record.series}
    lacking = [arm for arm in policy.arms if arm not in ran]
    found = f"not timed against {', '.join(lacking)}" if lacking else f"timed against {', '.join(policy.arms)}"
    return Finding(requirement="peers", met=not lacking, found=found, supply=measure)


def speed(record: Record, policy: Policy, measure: str) -> Iterator[Finding]:
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


def memory(record: Record, policy: Policy, measure: str) -> Finding:
    peaks = {
        name: max((arm.peak_memory_bytes for arm in record.arms if arm.name == name), default=0)
        for name in (CANDIDATE, REFERENCE)
    }
    if not all(peaks.values()):
        return Finding(requirement="memory", met=False, found="no peak memory on record", supply=measure)
    ratio = peaks[CANDIDATE] / peaks[REFERENCE]
    found = f"peak beside the weights {ratio:.2f} of the reference's, {policy.memory_ratio:g} allowed"
    return Finding(requirement="memory", met=ratio <= policy.memory_ratio, found=found, supply=measure)


def history(evidence: Evidence, policy: Policy, today: date) -> Finding:
    """By the nightly rule and the ratchet of `harness.analysis.history`, over this case alone."""
    count, again = len(evidence.earlier), f"{command(evidence.case)} timing=signoff"
    if policy.history_points == 0:
        return Finding(requirement="history", met=True, found="none is asked: the history begins with this case")
    if count < policy.history_points or evidence.newest is None:
        found = f"insufficient history: {count} of {policy.history_points} earlier runs on equal machines"
        return Finding(requirement="history", met=False, found=found, supply=again)
    records = [source.record for source in (*evidence.earlier, evidence.newest)]
    identities = {record.key: CaseIdentity.of(record).key for record in records}
    steps = accepted.since(evidence.steps, today, identities)
    judged = nightly_rules.judge(nightly_series.of_case(records), steps)
    met = bool(judged) and all(item.standing in ("steady", "faster") for item in judged)
    found = "; ".join([*(_told(item) for item in judged), *(_step(step, today) for step in evidence.steps)])
    return Finding(requirement="history", met=met, found=found or "nothing was timed", supply="" if met else again)


def _told(item: nightly_rules.Finding) -> str:
    if item.standing == "slower" and item.first_bad:
        return f"{item.series.phase} is slower: {item.change:+.1%} since {item.first_bad.at}, by the {item.rule} rule"
    reason = f": {item.reason}" if item.reason else f" over {len(item.points)} runs"
    return f"{item.series.phase} is {item.standing}{reason}"


def _step(step: Accepted, today: date) -> str:
    state = f"until {step.expires}" if today < step.expires else f"expired on {step.expires}"
    return f"a step of {step.phase} since {step.since} was accepted by {step.owner}, {state}: {step.reason}"
