"""Timed phases of committed records, as cells of a table: what was measured, and against what."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from harness.analysis.compare.arms import ArmComparison, PhaseComparison, arms
from harness.analysis.compare.estimate import Estimate
from harness.build import registry
from harness.records.case import Case
from harness.records.stack_name import StackNames
from harness.report.formats import milliseconds, percent
from tools.repository import Evidence

CEILING = {"memory": "read", "compute": "matmul"}


@dataclass(frozen=True)
class Timing:
    """A passed record whose arms were timed, and the comparison of each phase."""

    evidence: Evidence
    phases: tuple[PhaseComparison, ...]

    @property
    def case(self) -> Case:
        return self.evidence.record.case

    @property
    def checks(self) -> str:
        parity = self.evidence.record.parity
        return f"{len(parity.checks):,}" if parity else "none"

    def phase(self, name: str) -> PhaseComparison:
        return next(phase for phase in self.phases if phase.phase == name)


def timings(evidence: Iterable[Evidence], hardware: str) -> tuple[Timing, ...]:
    """Return the timed ones among passed records of a hardware group, oldest first."""
    mine = (e for e in evidence if e.record.status == "passed" and e.record.case.hardware == hardware)
    found = (Timing(e, arms(e.record)) for e in sorted(mine, key=lambda e: e.record.started_at))
    return tuple(timing for timing in found if timing.phases)


def model(case: Case) -> str:
    return f"`{case.model}`" + (f", {case.size}" if case.size != "full" else "")


@cache
def stack_names() -> StackNames:
    """Return the short names of stacks, by what is `full` today."""
    return StackNames.of_menus({name: registry.load(name).menu for name in registry.names()})


def stack(case: Case) -> str:
    """Return the short name of a stack."""
    return f"`{stack_names().of(case.model, case.optimizations)}`"


def workload(case: Case) -> str:
    asked = case.workload
    shape = f"{asked.batch} x {asked.prompt_tokens:,} + {asked.new_tokens}"
    return f"`{asked.name}` ({shape})"


def speedup(estimate: Estimate) -> str:
    """Return the speed-up with its 99 % interval, and its verdict where that is not `faster`."""
    places = 2 if estimate.high - estimate.low >= 0.05 else 3
    interval = f"{estimate.low:.{places}f} to {estimate.high:.{places}f}"
    told = f"{estimate.speedup:.2f}x ({interval if math.isfinite(estimate.high) else 'no interval'})"
    return told if estimate.verdict == "faster" else f"{told}, {estimate.verdict}"


def against(phase: PhaseComparison) -> ArmComparison:
    """Return the comparison with the strongest other arm that ran."""
    return next(arm for arm in phase.against if arm.arm == phase.strongest)


def of_ceiling(phase: PhaseComparison) -> str:
    if phase.roofline_fraction is None or phase.bound is None:
        return "not known"
    return f"{percent(phase.roofline_fraction)} of {CEILING[phase.bound]}"


def rows(timing: Timing) -> list[list[str]]:
    """Return a row a phase: model, stack, workload, phase, candidate, every other arm, ceiling, processes, record."""
    case, found = timing.case, []
    heads = [model(case), stack(case), workload(case)]
    for phase in timing.phases:
        found.append(
            [
                *heads,
                phase.phase,
                milliseconds(phase.candidate_ms),
                _others(phase.against, phase.strongest),
                of_ceiling(phase),
                str(phase.processes),
                timing.evidence.link(),
            ]
        )
        heads = ["", "", ""]
    return found


HEADS = (
    "model",
    "stack",
    "workload",
    "phase",
    "candidate",
    "speed-up over each other arm",
    "of the ceiling",
    "processes",
    "",
)
"""Of `rows`."""


def _others(others: Sequence[ArmComparison], strongest: str | None) -> str:
    cells = (f"`{arm.arm}` {speedup(arm.estimate)}" for arm in sorted(others, key=lambda arm: arm.arm != strongest))
    return "<br>".join(cells)
