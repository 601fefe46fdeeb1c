"""HEAD's speed over BASE's in one phase, and by how much it may differ by chance. Pure.

Times of different processes are not paired. The change is the difference of two locations of a log speed, and its
interval the wider of two: that of the blocks (the two Hodges-Lehmann intervals combined by MOVER, Zou and Donner 2008)
and that of the processes (Student's t on their centers), because blocks of one process share what differs between
processes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, median

from scipy import stats as distributions

from harness.analysis import stats
from harness.analysis.compare import estimate
from harness.analysis.compare.agreement import PROCESSES
from harness.analysis.compare.anchor import Anchored, Speeds, anchored
from harness.analysis.compare.arms import PhaseComparison
from harness.analysis.compare.estimate import Estimate
from harness.records import phase_machine
from harness.records.record import REFERENCE, Phase, Record
from harness.records.timing_protocol import rewritten


def unlike(base: Record, head: Record, phase: Phase) -> str | None:
    """Why a phase of two records has no common scale; None where it has."""
    if base.environment is None or head.environment is None:
        return "a record without its environment"
    fields = phase_machine.differences(base, head, phase)
    if fields:
        return f"different machines or versions: {', '.join(fields)}"
    if rewritten(base) != rewritten(head):
        return "the timed inputs of one were new before every sample, those of the other stayed the same"
    timed = [{series.arm for series in record.series if series.phase == phase} for record in (base, head)]
    if head.case.on_cpu and not all(REFERENCE in arms for arms in timed):
        return "the reference was not timed in both: their machines' states have nothing in common"
    return None


def change(
    base: Record, head: Record, theirs: PhaseComparison, ours: PhaseComparison, names: tuple[str, str]
) -> Estimate:
    """HEAD's candidate over BASE's in one phase. `theirs` and `ours` are the judged phase of each record, `names` what
    its reasons call the two."""
    margin, found = head.case.timing.margin, anchored(base, head, ours.phase)
    return _qualified(difference(found.base, found.head, margin), found, (theirs, ours), names, margin)


def difference(base: Speeds, head: Speeds, margin: float) -> Estimate:
    """HEAD's log speed, by process, less BASE's."""
    if not base or not head:
        return Estimate(math.nan, 0.0, math.inf, 0, math.inf, "inconclusive", ("no pair of samples was kept",))
    before, after = (stats.location([speed for blocks in side.values() for speed in blocks]) for side in (base, head))
    across = _across_processes(base, head)
    center = after.center - before.center
    low = center - max(math.hypot(after.center - after.low, before.high - before.center), across)
    high = center + max(math.hypot(after.high - after.center, before.center - before.low), across)
    return estimate.of_interval(stats.Interval(center, low, high, min(before.n, after.n)), margin)


def _across_processes(base: Speeds, head: Speeds) -> float:
    """Half-width of the 99 % interval of the difference, from the pooled spread of the processes' centers."""
    centers = [[median(blocks) for blocks in side.values()] for side in (base, head)]
    freedom = sum(len(side) - 1 for side in centers)
    if freedom == 0:
        return math.inf
    pooled = sum((value - fmean(side)) ** 2 for side in centers for value in side) / freedom
    quantile = float(distributions.t.ppf(0.5 + stats.CONFIDENCE / 2, freedom))
    return quantile * math.sqrt(pooled * sum(1 / len(side) for side in centers))


def _qualified(
    found: Estimate, measured: Anchored, phases: Sequence[PhaseComparison], names: Sequence[str], margin: float
) -> Estimate:
    """What disturbs a side overrides what the interval says. The candidate's own time carries what a control would
    show in the spread of its processes; a ratio is held to the control."""
    invalid: list[str] = []
    doubts: list[str] = []
    for name, speeds, phase in zip(names, (measured.base, measured.head), phases, strict=True):
        invalid += [f"{name}: {reason}" for reason in phase.invalid]
        if phase.again is None:
            doubts.append(f"{name}: its A/A pair is missing")
        if len(speeds) < PROCESSES:
            doubts.append(f"{name}: {len(speeds)} of the {PROCESSES} processes that a verdict needs")
    if invalid:
        return replace(found, verdict="invalid", reasons=(*found.reasons, *invalid))
    if doubts:
        return replace(found, verdict="inconclusive", reasons=(*found.reasons, *doubts))
    return found if measured.own else estimate.allowing(found, [phase.again for phase in phases], margin)
