"""Arms compared inside one record: pure functions from a record to estimates and verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.record import Phase

Verdict = Literal["faster", "slower", "same", "inconclusive", "invalid"]


@dataclass(frozen=True)
class Estimate:
    """Speed-up of the candidate over another arm: other time over candidate time, paired by block."""

    speedup: float
    low: float
    high: float
    """99 % interval."""
    n: int
    minimum_detectable_effect: float
    """The smallest relative change that this n and spread would have called, e.g. 0.012."""
    verdict: Verdict
    reasons: tuple[str, ...] = ()


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
    """A/A: the candidate against itself; anything but `same` makes the phase invalid."""
    strongest: str | None
    """The arm with the lowest time among all but the candidate."""
    floor_ms: float | None
    """Bytes or flops of the phase over the ceiling measured in the run, whichever is longer."""
    roofline_fraction: float | None
    """floor_ms over candidate_ms."""
    bound: Literal["memory", "compute"] | None
    dropped_blocks: int
    total_blocks: int
