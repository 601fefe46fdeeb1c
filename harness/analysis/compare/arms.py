"""Arms compared inside one record: pure functions from a record to estimates and verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import get_args

from harness.analysis.compare import floors
from harness.analysis.compare.agreement import PROCESSES
from harness.analysis.compare.estimate import Estimate, across_processes, allowing
from harness.records.record import CANDIDATE, CONTROL, REFERENCE, WALL_DISAGREEMENT, Block, Phase, Record

DROPPED_LIMIT = 0.2
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
    bound: floors.Bound | None
    dropped_blocks: int
    total_blocks: int
    processes: int
    sound_processes: int
    """Those whose warm-up settled and that kept as many blocks as the timing asks for at least."""
    invalid: tuple[str, ...] = ()
    """What disturbs the whole phase, so that no verdict on it holds."""


def arms(record: Record) -> tuple[PhaseComparison, ...]:
    """Compare the candidate of each timed phase with every other arm, paired by block; () without series."""
    return tuple(_compare(record, phase) for phase in get_args(Phase) if _times(record, phase, CANDIDATE))


def log_ratios_by_process(record: Record, phase: Phase, other: str) -> dict[int, list[float]]:
    """log(other time / candidate time) of each kept block in time order, by process; {} when either was not timed."""
    ours, theirs = kept_ms(record, phase, CANDIDATE), kept_ms(record, phase, other)
    return by_process({at: math.log(theirs[at] / ours[at]) for at in ours.keys() & theirs.keys()})


def by_process(values: Times) -> dict[int, list[float]]:
    """Values of blocks in time order, by process."""
    found: dict[int, list[float]] = {}
    for at in sorted(values):
        found.setdefault(at[0], []).append(values[at])
    return found


def kept_ms(record: Record, phase: Phase, arm: str) -> Times:
    """The times of an arm without those of dropped blocks."""
    dropped = {(block.process, block.index) for block in record.blocks if block.phase == phase and block.dropped}
    return {at: ms for at, ms in _times(record, phase, arm).items() if at not in dropped}


def _compare(record: Record, phase: Phase) -> PhaseComparison:
    blocks = [block for block in record.blocks if block.phase == phase]
    dropped = {(block.process, block.index) for block in blocks if block.dropped}
    names = dict.fromkeys(series.arm for series in record.series if series.phase == phase)
    every = {name: _times(record, phase, name) for name in names}
    kept = {name: {at: ms for at, ms in times.items() if at not in dropped} for name, times in every.items()}
    margin = record.case.timing.margin

    def against(name: str) -> Estimate:
        return across_processes(log_ratios_by_process(record, phase, name), margin)

    again = against(CONTROL) if CONTROL in every else None
    medians = {name: median((kept[name] or every[name]).values()) for name in every}
    floor_ms, bound = floors.of_phase(record, phase)
    invalid = (
        *_self_difference(again),
        *_disturbances(len(dropped), len(blocks), max((block.foreign_processes for block in blocks), default=0)),
        *_two_clocks(blocks),
        *floors.below(medians[CANDIDATE], floor_ms),
        *floors.unexplained(record, phase, medians[CANDIDATE]),
    )
    kept_blocks = _kept_blocks(blocks, every[CANDIDATE])
    unsettled = {block.process for block in blocks if block.settled is False}
    short = {process for process, count in kept_blocks.items() if count < record.case.timing.min_blocks}
    doubts = _doubts(len(kept_blocks), len(unsettled), len(short), record.case.timing.min_blocks)
    others = sorted((name for name in every if name not in (CANDIDATE, CONTROL)), key=lambda name: name != REFERENCE)
    labels = {arm.name: arm.label for arm in record.arms}
    return PhaseComparison(
        phase=phase,
        candidate_ms=medians[CANDIDATE],
        against=tuple(
            ArmComparison(
                name, labels.get(name, name), medians[name], _qualified(against(name), again, invalid, doubts, margin)
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
        processes=len(kept_blocks),
        sound_processes=len(kept_blocks.keys() - unsettled - short),
        invalid=invalid,
    )


def _times(record: Record, phase: Phase, arm: str) -> Times:
    return {
        (series.process, block): sample
        for series in record.series
        if series.arm == arm and series.phase == phase
        for block, sample in zip(series.blocks, series.samples_ms, strict=True)
    }


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


def _two_clocks(blocks: Sequence[Block]) -> tuple[str, ...]:
    apart = median([block.wall_disagreement for block in blocks if not block.dropped] or [0.0])
    if apart <= WALL_DISAGREEMENT:
        return ()
    return (f"device events and the wall clock differ by {apart:.0%}: work ran outside the timed stream",)


def _kept_blocks(blocks: Sequence[Block], ours: Times) -> dict[int, int]:
    """Blocks that count, by process."""
    dropped = {(block.process, block.index) for block in blocks if block.dropped}
    return {process: sum(at[0] == process for at in ours.keys() - dropped) for process, _ in ours}


def _doubts(processes: int, unsettled: int, short: int, min_blocks: int) -> tuple[str, ...]:
    """What stands beside every verdict of the phase, and widens none: the interval is as wide as what was measured."""
    of = f"of {processes} process{'es' * (processes > 1)}"
    doubts = []
    if processes < PROCESSES:
        doubts.append(f"{processes} of the {PROCESSES} processes that a verdict needs: a first look")
    if unsettled:
        doubts.append(f"the warm-up of {unsettled} {of} had not settled")
    if short:
        doubts.append(f"{short} {of} stopped before {min_blocks} blocks")
    return tuple(doubts)


def _qualified(
    found: Estimate, again: Estimate | None, invalid: tuple[str, ...], doubts: tuple[str, ...], margin: float
) -> Estimate:
    """What disturbs the whole phase overrides what the interval says."""
    if invalid:
        return replace(found, verdict="invalid", reasons=(*found.reasons, *invalid))
    judged = allowing(found, [again], margin)
    return replace(judged, reasons=(*judged.reasons, *doubts))
