"""A sweep taken apart, as a table and as the marks of a waterfall."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.records.stack_name import BY_MEMBERS, StackNames
from harness.report import formats
from harness.report.cells import Cell, Table, columns, row
from harness.report.speed import VERDICT_TONES

if TYPE_CHECKING:
    from harness.analysis.compare.ablation import Ablation, Contribution, Step
    from harness.records.case import Case

COLUMNS = columns(
    "Optimization", "Stack so far#", "On top of it#", "99 % interval#", "Verdict", "Alone", "Full less it"
)
UNTIMED = Cell(formats.NONE, "not timed")


@dataclass(frozen=True)
class StepMark:
    """One bar of the waterfall: the speed-up over the reference before and after an optimization joined."""

    title: str
    before: float
    after: float
    verdict: str
    text: str


@dataclass(frozen=True)
class AblationView:
    title: str
    table: Table
    marks: tuple[StepMark, ...]
    """Bars of the steps that were timed at both ends; the first is the eager build without any optimization."""


def view(found: Ablation, names: StackNames = BY_MEMBERS) -> AblationView:
    case = found.case
    title = f"{case.model}/{case.size} on {case.hardware}, {case.workload.name}, {found.phase}"
    rows = (_start(found), *(_row(one, case, names) for one in found.contributions))
    return AblationView(title, Table(f"{title}: what each optimization contributed", COLUMNS, rows), _marks(found))


def _start(found: Ablation) -> tuple[Cell, ...]:
    reached = formats.NONE if found.start is None else formats.ratio(found.start)
    return row("none", reached, *[formats.NONE] * 5)


def _row(one: Contribution, case: Case, names: StackNames) -> tuple[Cell, ...]:
    step, alone = one.cumulative, one.alone
    below = f"on {names.of(case.model, alone.base)}" if alone and alone.base else ""
    return row(
        one.optimization,
        formats.NONE if one.reached is None else formats.ratio(one.reached),
        formats.NONE if step is None else formats.ratio(step.estimate.speedup),
        formats.NONE if step is None else formats.interval(step.estimate.low, step.estimate.high),
        UNTIMED if step is None else _verdict(step),
        UNTIMED if alone is None else _gain(alone, below),
        UNTIMED
        if one.leave_one_out is None
        else _gain(one.leave_one_out, _lost(one.leave_one_out, one.optimization, case.stacked())),
    )


def _verdict(step: Step) -> Cell:
    return Cell(step.estimate.verdict, "; ".join(step.estimate.reasons), VERDICT_TONES[step.estimate.verdict])


def _gain(step: Step, note: str) -> Cell:
    found = step.estimate
    told = f"{formats.interval(found.low, found.high)}, {found.verdict}"
    return Cell(formats.ratio(found.speedup), "; ".join(filter(None, (told, note))))


def _lost(step: Step, name: str, full: tuple[str, ...]) -> str:
    """What left the full stack together with the optimization, because it requires it."""
    others = [other for other in full if other != name and other not in step.base]
    return f"and less {'+'.join(others)}" if others else ""


def _marks(found: Ablation) -> tuple[StepMark, ...]:
    marks = [] if found.start is None else [StepMark("none", 1.0, found.start, "", formats.ratio(found.start))]
    reached = found.start
    for one in found.contributions:
        if one.cumulative is not None and reached is not None and one.reached is not None:
            gain = one.cumulative.estimate
            text = f"{formats.ratio(one.reached)} ({_signed(gain.speedup)}, {gain.verdict})"
            marks.append(StepMark(f"+ {one.optimization}", reached, one.reached, gain.verdict, text))
        reached = one.reached
    return tuple(mark for mark in marks if math.isfinite(mark.before) and math.isfinite(mark.after))


def _signed(speedup: float) -> str:
    return f"{'+' if speedup >= 1 else '−'}{formats.percent(abs(speedup - 1))}"
