"""What is compared between two runs: on a GPU the candidate's own time, on a CPU its ratio to the reference. Pure.

In the signed records of an H200 (benchmark_results/h200/20261128-*) the decode steps of a reference that the host
launches differ by 7 to 15 % between processes (standard deviation), the candidate's captured ones by 0.1 to 0.2 %: a
ratio of the two would carry the noise of the one that nobody asks about. On a CPU the whole machine varies, and the
reference of the same process varies with it.

Where both records timed a sentinel in the same blocks, the candidate's time is taken in units of it, so that a device
that is slower today is no slower candidate. A unit has to be steadier than what it measures: a sentinel whose own
centers differ between the processes of a record by more than `STEADY` is left out. The sentinel of the records so far
is launched by the host, and differs by 0.4 to 8 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, stdev

from harness.analysis.compare.agreement import PROCESSES
from harness.analysis.compare.arms import by_process, kept_ms, log_ratios_by_process
from harness.records.record import CANDIDATE, REFERENCE, Phase, Record

STEADY = 0.001
"""Standard deviation of the log of a sentinel's centers. Five processes a side then leave 0.2 % to chance."""
Speeds = Mapping[int, Sequence[float]]
"""Logs of a speed by process, one for each block that was kept, in time order; larger is faster."""


@dataclass(frozen=True)
class Anchored:
    """One phase of two records in one unit."""

    base: Speeds
    head: Speeds
    own: bool
    """Whether it is the candidate's own time, and not its ratio to the reference."""


def speeds(record: Record, phase: Phase) -> Speeds:
    """The measure of one record: log of calls per second on a GPU, log of the speed-up over the reference on a CPU."""
    if record.case.on_cpu:
        return log_ratios_by_process(record, phase, REFERENCE)
    return by_process({at: math.log(1e3 / ms) for at, ms in kept_ms(record, phase, CANDIDATE).items()})


def anchored(base: Record, head: Record, phase: Phase) -> Anchored:
    """Both in the unit that they share."""
    if base.case.on_cpu:
        return Anchored(speeds(base, phase), speeds(head, phase), own=False)
    if all(_steady(sentinel(record, phase)) for record in (base, head)):
        return Anchored(_in_sentinels(base, phase), _in_sentinels(head, phase), own=True)
    return Anchored(speeds(base, phase), speeds(head, phase), own=True)


def sentinel(record: Record, phase: Phase) -> Speeds:
    """Logs of the sentinel's speed in the blocks in which the candidate was timed; {} where any lacks it."""
    times = {(block.process, block.index): block.sentinel_ms for block in record.blocks if block.phase == phase}
    found = {at: times.get(at) for at in kept_ms(record, phase, CANDIDATE)}
    return by_process({at: math.log(1e3 / ms) for at, ms in found.items() if ms}) if all(found.values()) else {}


def _steady(found: Speeds) -> bool:
    return len(found) >= PROCESSES and stdev(median(blocks) for blocks in found.values()) <= STEADY


def _in_sentinels(record: Record, phase: Phase) -> Speeds:
    ours, unit = speeds(record, phase), sentinel(record, phase)
    return {process: [mine - its for mine, its in zip(ours[process], unit[process], strict=True)] for process in ours}
