"""Arms compared inside one record: pure functions from a record to estimates and verdicts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal, get_args

from harness.compare.estimate import Estimate, across_processes, allowing
from harness.record import AGAIN, CANDIDATE, REFERENCE, Phase, Record

DROPPED_LIMIT = 0.2
FLOOR_LIMIT = 0.95
RESIDENT_BYTES = 256 * 2**20
"""Less traffic than this may be served by a cache, which the measured memory ceiling says nothing about: no memory
floor is claimed for it."""
SHORT_FLOPS = 10**9
"""Fewer operations than this last well under a second anywhere; the matmul ceiling of a CPU, which other work shares,
moves by more than that from one moment to the next: no compute floor is claimed for them."""

Bound = Literal["memory", "compute"]
Times = dict[tuple[int, int], float]
"""Milliseconds per call by (process, block)."""


@dataclass(frozen=True)
class ArmComparison:
    arm: str
    label: str
    median_ms: float
    estimate: Estimate
    """The candidate against this arm."""


@dataclass(frozen=True)
class PhaseComparison:
    phase: Phase
    candidate_ms: float
    """Median per call, milliseconds."""
    against: tuple[ArmComparison, ...]
    """Every other arm that ran, the reference first."""
    again: Estimate | None
    """A/A: the candidate against itself. Told apart, all is invalid; undecided, verdicts allow for its interval."""
    strongest: str | None
    """The arm with the lowest time among all but the candidate."""
    floor_ms: float | None
    """Bytes or flops of the phase over the ceiling measured in the run, whichever is longer."""
    roofline_fraction: float | None
    """floor_ms over candidate_ms."""
    bound: Bound | None
    dropped_blocks: int
    total_blocks: int


def arms(record: Record) -> tuple[PhaseComparison, ...]:
    """Compare the candidate of each timed phase with every other arm, paired by block; () without series."""
    return tuple(_compare(record, phase) for phase in get_args(Phase) if _times(record, phase, CANDIDATE))


def log_ratios_by_process(record: Record, phase: Phase, other: str) -> dict[int, list[float]]:
    """log(other time / candidate time) of each kept block in time order, by process; {} when either was not timed."""
    dropped = {(block.process, block.index) for block in record.blocks if block.phase == phase and block.dropped}
    ours, theirs = _times(record, phase, CANDIDATE), _times(record, phase, other)
    ratios: dict[int, list[float]] = {}
    for at in sorted(ours.keys() & theirs.keys() - dropped):
        ratios.setdefault(at[0], []).append(math.log(theirs[at] / ours[at]))
    return ratios


def _compare(record: Record, phase: Phase) -> PhaseComparison:
    blocks = [block for block in record.blocks if block.phase == phase]
    dropped = {(block.process, block.index) for block in blocks if block.dropped}
    names = dict.fromkeys(series.arm for series in record.series if series.phase == phase)
    every = {name: _times(record, phase, name) for name in names}
    kept = {name: {at: ms for at, ms in times.items() if at not in dropped} for name, times in every.items()}
    margin = record.case.timing.margin

    def against(name: str) -> Estimate:
        return across_processes(log_ratios_by_process(record, phase, name), margin)

    again = against(AGAIN) if AGAIN in every else None
    medians = {name: median((kept[name] or every[name]).values()) for name in every}
    floor_ms, bound = _floor(record, phase)
    invalid = (
        *_self_difference(again),
        *_disturbances(len(dropped), len(blocks), max((block.foreign_processes for block in blocks), default=0)),
        *_below_floor(medians[CANDIDATE], floor_ms),
    )
    others = sorted((name for name in every if name not in (CANDIDATE, AGAIN)), key=lambda name: name != REFERENCE)
    labels = {arm.name: arm.label for arm in record.arms}
    return PhaseComparison(
        phase=phase,
        candidate_ms=medians[CANDIDATE],
        against=tuple(
            ArmComparison(
                name, labels.get(name, name), medians[name], _qualified(against(name), again, invalid, margin)
            )
            for name in others
        ),
        again=again,
        strongest=min(others, key=lambda name: medians[name], default=None),
        floor_ms=floor_ms,
        roofline_fraction=floor_ms / medians[CANDIDATE] if floor_ms is not None else None,
        bound=bound,
        dropped_blocks=len(dropped),
        total_blocks=len(blocks),
    )


def _times(record: Record, phase: Phase, arm: str) -> Times:
    return {
        (series.process, block): sample
        for series in record.series
        if series.arm == arm and series.phase == phase
        for block, sample in zip(series.blocks, series.samples_ms, strict=True)
    }


def _floor(record: Record, phase: Phase) -> tuple[float | None, Bound | None]:
    """The least time of one call at the ceilings measured in this run, and which of them sets it.

    A matmul ceiling counts only in the workload's own dtype: one in another dtype is no limit.
    """
    work = next((work for work in record.work if work.phase == phase), None)
    ceilings = record.ceilings
    if work is None or ceilings is None:
        return None, None
    floors: list[tuple[float, Bound]] = []
    if ceilings.read_bytes_per_s and work.bytes >= RESIDENT_BYTES:
        floors.append((work.bytes / ceilings.read_bytes_per_s * 1e3, "memory"))
    comparable = ceilings.matmul_dtype == record.case.workload.dtype and work.flops >= SHORT_FLOPS
    if ceilings.matmul_flops_per_s and comparable:
        floors.append((work.flops / ceilings.matmul_flops_per_s * 1e3, "compute"))
    return max(floors) if floors else (None, None)


def _self_difference(again: Estimate | None) -> tuple[str, ...]:
    if again is None or again.verdict in ("same", "inconclusive"):
        return ()
    return (f"the candidate differs from itself: the second copy reads {again.speedup:.3f}x",)


def _disturbances(dropped: int, total: int, foreign: int) -> tuple[str, ...]:
    reasons = []
    if total and dropped > DROPPED_LIMIT * total:
        reasons.append(f"{dropped} of {total} blocks were throttled: more than {DROPPED_LIMIT:.0%}")
    if foreign:
        reasons.append(f"{foreign} foreign process{'es' * (foreign > 1)} on the GPU")
    return tuple(reasons)


def _below_floor(candidate_ms: float, floor_ms: float | None) -> tuple[str, ...]:
    if floor_ms is None or candidate_ms >= FLOOR_LIMIT * floor_ms:
        return ()
    return (f"{candidate_ms:.4g} ms is under {FLOOR_LIMIT} of the physical floor {floor_ms:.4g} ms: work was left out",)


def _qualified(found: Estimate, again: Estimate | None, invalid: tuple[str, ...], margin: float) -> Estimate:
    """What disturbs the whole phase overrides what the interval says."""
    if invalid:
        return replace(found, verdict="invalid", reasons=(*found.reasons, *invalid))
    return allowing(found, [again], margin)
