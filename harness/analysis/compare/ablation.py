"""What each optimization of a stack contributed, from the records of one sweep: growing, alone, and the stack less it.

Every contribution is a ratio of two candidates, each judged by the reference of its own process. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import get_args

from harness.analysis.compare.arms import PhaseComparison
from harness.analysis.compare.difference import change, unlike
from harness.analysis.compare.estimate import Estimate
from harness.records.case import Case
from harness.records.record import REFERENCE, Phase, Record

Stack = tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """What one optimization multiplies the speed by, on top of `base`."""

    base: Stack
    estimate: Estimate


@dataclass(frozen=True)
class Contribution:
    """One optimization three ways; None where a record that it takes is missing or holds no speed."""

    optimization: str
    reached: float | None
    """Speed-up over the reference of the growing stack with this optimization on top."""
    cumulative: Step | None
    alone: Step | None
    """On the smallest stack that was timed without and with it: nothing, or what it requires."""
    leave_one_out: Step | None
    """The full stack over itself less this one, and less what is never timed without it."""


@dataclass(frozen=True)
class Ablation:
    """The full stack of one sweep in one phase, taken apart."""

    case: Case
    """That of the full stack."""
    phase: Phase
    start: float | None
    """Speed-up over the reference of no optimization at all."""
    contributions: tuple[Contribution, ...]
    """In the order in which the stack grows."""


def ablations(records: Sequence[Record], phases: Mapping[str, Sequence[PhaseComparison]]) -> tuple[Ablation, ...]:
    """Every sweep among the records: cases that differ in their stack alone, with one that grows from `none` by single
    steps to two optimizations or more. `phases` is the judged speed by case key."""
    groups: dict[str, dict[Stack, Record]] = {}
    for record in records:
        group = record.case.model_copy(update={"optimizations": (), "parameters": {}}).digest()
        groups.setdefault(group, {})[record.case.stacked()] = record
    return tuple(found for group in groups.values() for found in _of_group(group, phases))


def _of_group(group: Mapping[Stack, Record], phases: Mapping[str, Sequence[PhaseComparison]]) -> Iterator[Ablation]:
    for full, phase in product(_full(group), get_args(Phase)):
        timed = _Timed(group, phases, phase)
        if full in timed.found:
            contributions = tuple(timed.contribution(full, place) for place in range(len(full)))
            yield Ablation(group[full].case, phase, timed.speedup(()), contributions)


def _full(group: Mapping[Stack, Record]) -> list[Stack]:
    """The longest stack that every one of its beginnings was asked for beside, where it has two optimizations or more;
    the same stack once for each value where a parameter was swept."""
    grown = [stack for stack in group if all(stack[:length] in group for length in range(len(stack)))]
    longest = max(grown, key=len, default=())
    same = [stack for stack in grown if group[stack].case.optimizations == group[longest].case.optimizations]
    return same if len(longest) > 1 else []


class _Timed:
    """The records of one sweep that were timed in one phase."""

    def __init__(
        self, group: Mapping[Stack, Record], phases: Mapping[str, Sequence[PhaseComparison]], phase: Phase
    ) -> None:
        self.group, self.phase = group, phase
        self.found = {
            stack: judged
            for stack, record in group.items()
            for judged in phases.get(record.key, ())
            if judged.phase == phase and any(arm.arm == REFERENCE for arm in judged.against)
        }

    def speedup(self, stack: Stack) -> float | None:
        judged = self.found.get(stack)
        if judged is None:
            return None
        return next(arm.estimate.speedup for arm in judged.against if arm.arm == REFERENCE)

    def contribution(self, full: Stack, place: int) -> Contribution:
        name = full[place]
        return Contribution(
            optimization=name,
            reached=self.speedup(full[: place + 1]),
            cumulative=self._step(full[:place], full[: place + 1]),
            alone=self._alone(name, full),
            leave_one_out=self._less_one(name, full),
        )

    def _alone(self, name: str, full: Stack) -> Step | None:
        steps = (
            (_without(stack, {name}), stack)
            for stack in sorted(self.found, key=len)
            if name in stack and stack != full and _without(stack, {name}) in self.found
        )
        return next((self._step(*step) for step in steps), None)

    def _less_one(self, name: str, full: Stack) -> Step | None:
        """A name that no case of the sweep holds without this one requires it, and goes with it."""
        bound = {other for other in full if all(name in stack for stack in self.group if other in stack)}
        return self._step(_without(full, {name} | bound), full)

    def _step(self, base: Stack, stack: Stack) -> Step | None:
        if base not in self.found or stack not in self.found:
            return None
        before, after = self.group[base], self.group[stack]
        if unlike(before, after, self.phase):
            return None
        names = ("+".join(base) or "none", "+".join(stack))
        return Step(base, change(before, after, self.found[base], self.found[stack], names))


def _without(stack: Stack, names: set[str]) -> Stack:
    return tuple(name for name in stack if name not in names)
