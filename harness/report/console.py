"""The terminal: progress on stderr, tables on stdout. Without a terminal it is plain lines, no control characters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from harness.analysis.compare.agreement import PROCESSES
from harness.analysis.outcome import Outcome, against_reference, against_strongest, why
from harness.records.case import Case, Plan
from harness.records.checks import named
from harness.records.proof_size import proof_size_of
from harness.records.record import Record
from harness.records.stack_name import BY_MEMBERS, StackNames
from harness.report.formats import number_of

if TYPE_CHECKING:
    from harness.analysis.compare.arms import PhaseComparison
    from harness.analysis.compare.estimate import Estimate
    from harness.planning.plan import Offer
    from harness.spec.parameter import Parameter

LISTED = 200
"""Cases that a terminal shows; of more, those that something is wrong with."""
PLAIN_WIDTH = 240


class LineProgress:
    """One line per case, part and end: for logs."""

    def __init__(self, stream: TextIO, total: int, names: StackNames) -> None:
        self._stream = stream
        self._total = total
        self._names = names
        self._index = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stream.flush()

    def begin(self, case: Case) -> None:
        self._index += 1
        self._line(f"case {self._index}/{self._total}: {self._names.label(case.label())}")

    def part(self, name: str) -> None:
        self._line(f"  {self._names.label(name)}")

    def say(self, fraction: float, text: str) -> None:
        self._line(f"  {fraction:4.0%} {self._names.label(text)}")

    def end(self, record: Record) -> None:
        self._line(f"  {' '.join(filter(None, [record.status, why(record)]))} ({record.wall_s:.1f} s)")

    def _line(self, text: str) -> None:
        print(clean(text), file=self._stream, flush=True)


class BarProgress:
    """A bar for the cases and one for the part at hand; a line stays for each case that ended."""

    def __init__(self, stream: TextIO, total: int, names: StackNames) -> None:
        self._names = names
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._bars = Bars(*columns, console=terminal(stream))
        self._cases = self._bars.add_task("cases", total=total)
        self._part = self._bars.add_task("", total=100, visible=False)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bars.stop()

    def begin(self, case: Case) -> None:
        self._bars.update(self._cases, description=clean(self._names.label(case.label())))

    def part(self, name: str) -> None:
        self._bars.reset(self._part, description=f"  {clean(self._names.label(name))}", visible=True)

    def say(self, fraction: float, text: str) -> None:
        said = clean(self._names.label(text))
        self._bars.update(self._part, completed=round(100 * fraction), description=f"  {said}")

    def end(self, record: Record) -> None:
        label = self._names.label(record.case.label())
        self._bars.console.print(clean(f"{record.status}  {label}  {record.wall_s:.1f} s  {why(record)}"))
        self._bars.update(self._part, visible=False)
        self._bars.advance(self._cases)


def progress(stream: TextIO, total: int, names: StackNames = BY_MEMBERS) -> LineProgress | BarProgress:
    return BarProgress(stream, total, names) if stream.isatty() else LineProgress(stream, total, names)


def print_plan(plan: Plan, costs_s: Mapping[str, float], stream: TextIO, names: StackNames = BY_MEMBERS) -> None:
    """`costs_s`: case key -> estimated seconds."""
    rows = [
        (case.key, names.label(case.label()), case.workload.label(), " ".join(case.arms), _duration(costs_s[case.key]))
        for case in plan.cases
    ]
    _print_table(("key", "case", "workload", "arms", "estimate"), rows, stream)
    for skip in plan.skipped:
        _say(stream, f"skipped: {names.label(skip.case.label())}: {skip.reason}")
    for note in plan.notes:
        _say(stream, f"note: {note}")
    _print_legend([case.label() for case in plan.every()], stream, names)
    if fed := dict.fromkeys(proof_size_of(case).label() for case in plan.cases):
        _say(stream, f"a proof is fed {', or '.join(fed)}")
    total = _duration(sum(costs_s.values()))
    _say(stream, f"plan {plan.hash}: {len(plan.cases)} cases, {len(plan.skipped)} skipped, about {total}")


def print_shard(
    shard: str, cases: Sequence[Case], costs_s: Mapping[str, float], stream: TextIO, names: StackNames = BY_MEMBERS
) -> None:
    for case in cases:
        _say(stream, f"shard {shard}: {case.key} {names.label(case.label())}")
    _say(stream, f"shard {shard}: {len(cases)} cases, about {_duration(sum(costs_s[case.key] for case in cases))}")


def print_models(offers: Mapping[str, Offer], stream: TextIO) -> None:
    """What each model is, and what its optimizations can be told."""
    rows = [(name, o.checkpoint, " ".join(o.sizes), " ".join(o.menu.names())) for name, o in offers.items()]
    _print_table(("model", "checkpoint", "sizes", "optimizations"), rows, stream)
    owners: dict[tuple[str, Parameter], list[str]] = {}
    for model, offer in offers.items():
        for item in offer.menu.items:
            for parameter in item.parameters:
                owners.setdefault((item.name, parameter), []).append(model)
    told = [
        (f"optimization.{name}.{p.name}", str(p.default), p.span(), p.help, "" if of == [*offers] else " ".join(of))
        for (name, p), of in owners.items()
    ]
    if told:
        _print_table(("parameter", "default", "allowed", "what it is", "only of"), sorted(told), stream)


def print_outcome(
    outcome: Outcome, run_file: Path, reports: Sequence[Path], stream: TextIO, names: StackNames = BY_MEMBERS
) -> None:
    records = outcome.records
    if len(records) > LISTED:
        records = outcome.refused()[:LISTED]
        _say(stream, f"{len(outcome.records)} cases: listed are the refused ones, {LISTED} at most")
    rows = [row for record in records for row in _rows(record, outcome.phases.get(record.key, ()), names)]
    if rows:
        _print_table(("case", "parity", "phase", "vs reference", "vs strongest", "verdict"), rows, stream)
    _print_legend([record.case.label() for record in records], stream, names)
    for note, labels in _timing_notes(records).items():
        _say(stream, f"note: {names.label(labels[0]) if len(labels) == 1 else f'{len(labels)} cases'}: {note}")
    _say(stream, outcome.coverage())
    for reason in outcome.refusals():
        _say(stream, f"refused: {names.label(reason)}")
    _say(stream, f"records: {run_file}")
    for path in reports:
        _say(stream, f"report:  {path}")


def clean(text: str) -> str:
    """Nothing that a terminal would obey, on one line."""
    return "".join(char if char.isprintable() else " " for char in text)


def _rows(record: Record, phases: Sequence[PhaseComparison], names: StackNames) -> list[tuple[str, ...]]:
    label, parity = names.label(record.case.label()), _parity(record)
    if not phases:
        untimed = "not timed" if record.status == "passed" else record.status
        return [(label, parity, "", "", "", untimed)]
    rows: list[tuple[str, ...]] = []
    for phase in phases:
        reference, strongest = against_reference(phase), against_strongest(phase)
        look = ", a first look" if phase.processes < PROCESSES else ""
        verdict = f"{reference.verdict}{look}" if reference else "no reference"
        best = f"{_ratio(strongest)} ({phase.strongest})" if strongest else ""
        rows.append((label, parity, phase.phase, _ratio(reference), best, verdict))
        label = parity = ""
    return rows


def _timing_notes(records: Sequence[Record]) -> dict[str, list[str]]:
    """What was noted while timing, and of which cases."""
    noted: dict[str, list[str]] = {}
    for record in records:
        for note in record.timing_notes:
            noted.setdefault(note, []).append(record.case.label())
    return noted


def _parity(record: Record) -> str:
    if record.parity is None:
        return "not judged"
    judged = f"{number_of(len(record.parity.checks), 'check')} on {', '.join(record.parity.levels()) or 'no level'}"
    if failures := record.parity.failures():
        return f"FAIL: {len(failures):,} of {judged} broken: {named([check.subject for check in failures])}"
    worst = max((check.usage for check in record.parity.checks), default=0.0)
    return f"{'pass' if record.parity.passed else 'FAIL'}: {judged}, worst {worst:.0%} of limit"


def _ratio(estimate: Estimate | None) -> str:
    return f"{estimate.speedup:.3f}x [{estimate.low:.3f}, {estimate.high:.3f}]" if estimate else ""


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 90 else f"{minutes} min" if minutes < 90 else f"{seconds / 3600:.1f} h"


def _print_table(heads: Sequence[str], rows: Sequence[Sequence[str]], stream: TextIO) -> None:
    table = Table(*heads, box=box.ROUNDED if stream.isatty() else box.ASCII2, header_style="bold")
    for row in rows:
        table.add_row(*(clean(cell) for cell in row))
    terminal(stream).print(table)


def _print_legend(labels: Sequence[str], stream: TextIO, names: StackNames) -> None:
    for stack in names.legend(labels):
        _say(stream, stack.sentence())


def _say(stream: TextIO, text: str) -> None:
    print(clean(text), file=stream)


def terminal(stream: TextIO) -> Console:
    """Rich on `stream`, taking no text for markup; a fixed width where it is no terminal."""
    width = None if stream.isatty() else PLAIN_WIDTH
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False)
