"""The first page: a matrix of optimization by model for every machine, alarms, newest runs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.analysis.history.nightly_rules import Finding
from harness.records.case import gpus_first
from harness.records.stack_name import StackNames
from harness.report import formats
from harness.report.cells import Tone
from harness.report.dashboard.entry import Entry
from harness.report.dashboard.gather import GatheredColumn
from harness.report.dashboard.trend_chart import STANDINGS, change
from harness.report.verdicts import WORST_FIRST

LINES = 6
"""Of a cell, the worst first; the others are on the page of all cases."""
NEWEST_RUNS = 10
ALARMS = ("slower", "rerun", "faster")


@dataclass(frozen=True)
class Line:
    """What is known of one case: the verdict on its newest record, the speed of the newest that was timed."""

    newest: Entry
    timed: Entry | None

    @property
    def word(self) -> str:
        """A record that was not timed takes no speed away from one that was, but its refusal counts."""
        return self.timed.word if self.timed and self.newest.word == "PARITY ONLY" else self.newest.word

    @property
    def shown(self) -> Entry:
        return self.timed if self.timed and self.newest.word == "PARITY ONLY" else self.newest

    @property
    def speeds(self) -> str:
        said = ", ".join(f"{s.phase} {formats.ratio(s.ratio)}" for s in reversed(self.shown.speeds) if s.strongest)
        return said or self.word.lower()


@dataclass(frozen=True)
class Cell:
    lines: tuple[Line, ...]
    more: int
    search: str
    """What finds all of it on the page of cases."""


@dataclass(frozen=True)
class Matrix:
    hardware: str
    models: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell | None, ...]], ...]
    """Stack, and a cell for each model."""


@dataclass(frozen=True)
class Alarm:
    finding: Finding
    label: str
    tone: Tone
    text: str


@dataclass(frozen=True)
class RunLine:
    run: str
    day: str
    hardware: str
    commit: str
    ends: str
    tone: Tone


@dataclass(frozen=True)
class Overview:
    words: tuple[tuple[str, Tone, int], ...]
    """Latest verdicts by word, the worst first."""
    matrices: tuple[Matrix, ...]
    alarms: tuple[Alarm, ...]
    standings: str
    runs: tuple[RunLine, ...]
    records: int
    run_count: int


def build(gathered: GatheredColumn) -> Overview:
    lines = latest(gathered.entries)
    counts = Counter(line.word for line in lines)
    tones = {line.word: line.shown.tone for line in lines}
    every_run = run_lines(gathered.entries)
    machines = sorted({line.newest.identity.hardware for line in lines}, key=gpus_first)
    standings: Counter[str] = Counter(finding.standing for finding in gathered.findings)
    return Overview(
        words=tuple((word, tones[word], counts[word]) for word in WORST_FIRST if counts[word]),
        matrices=tuple(_matrix(hardware, lines) for hardware in machines),
        alarms=tuple(
            _alarm(finding, gathered.names)
            for word in ALARMS
            for finding in gathered.findings
            if finding.standing == word
        ),
        standings=", ".join(f"{standings[word]} {word}" for word in STANDINGS if standings[word]),
        runs=gpu_runs_first(every_run[:NEWEST_RUNS]),
        records=len(gathered.entries),
        run_count=len(every_run),
    )


def latest(entries: Iterable[Entry]) -> tuple[Line, ...]:
    """One for each case with a record that says something about it; `entries` are the oldest first."""
    newest: dict[str, Entry] = {}
    timed: dict[str, Entry] = {}
    for one in entries:
        if one.says_something:
            newest[one.case] = one
            if one.speeds:
                timed[one.case] = one
    return tuple(Line(one, timed.get(case)) for case, one in newest.items())


def run_lines(entries: Iterable[Entry]) -> tuple[RunLine, ...]:
    """The newest first."""
    held: dict[str, list[Entry]] = {}
    for one in entries:
        held.setdefault(one.run, []).append(one)
    return tuple(_run_line(run, held[run]) for run in sorted(held, key=lambda run: held[run][0].started_at)[::-1])


def gpu_runs_first(runs: Iterable[RunLine]) -> tuple[RunLine, ...]:
    """Those on GPUs, then those on a CPU, otherwise in the order given."""
    return tuple(sorted(runs, key=lambda run: gpus_first(run.hardware)[0]))


def _run_line(run: str, entries: Sequence[Entry]) -> RunLine:
    words = Counter(one.word for one in entries)
    tones = {one.word: one.tone for one in entries}
    order = [word for word in (*WORST_FIRST, "SKIPPED") if words[word]]
    ends = ", ".join(f"{words[word]} {word.lower()}" for word in order)
    first = entries[0]
    return RunLine(run, first.day, first.identity.hardware, first.commit[:8], ends, tones[order[0]])


def _matrix(hardware: str, lines: Sequence[Line]) -> Matrix:
    mine: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        if line.newest.identity.hardware == hardware:
            mine.setdefault((line.newest.stack, line.newest.identity.name), []).append(line)
    models = tuple(sorted({model for _, model in mine}))
    stacks = sorted({stack for stack, _ in mine}, key=_by_size)
    rows = tuple((stack, tuple(_cell(hardware, stack, model, mine) for model in models)) for stack in stacks)
    return Matrix(hardware, models, rows)


def _by_size(stack: str) -> tuple[int, int, str]:
    """None, then lists of members, then what is named by a full stack."""
    kind = 0 if stack == "none" else 2 if stack.split(" ")[0] == "full" else 1
    return kind, len(re.findall("[+-]", stack)), stack


def _cell(hardware: str, stack: str, model: str, mine: Mapping[tuple[str, str], Sequence[Line]]) -> Cell | None:
    lines = sorted(mine.get((stack, model), ()), key=lambda line: (WORST_FIRST.index(line.word), line.newest.workload))
    if not lines:
        return None
    return Cell(tuple(lines[:LINES]), len(lines) - LINES, f"{model} {stack} {hardware}")


def _alarm(finding: Finding, names: StackNames) -> Alarm:
    text = finding.reason
    if finding.first_bad and finding.last_good:
        text = (
            f"{change(finding.change)} since {finding.first_bad.at[:10]}, commits "
            f"{finding.last_good.commit[:8]} to {finding.first_bad.commit[:8]}"
        )
    return Alarm(finding, names.label(finding.series.label), STANDINGS[finding.standing], text)
