"""A folder of run files read once, in the order of time: what each record says and what it changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from harness.analysis.compare import runs
from harness.analysis.compare.ablation import ablations
from harness.analysis.compare.arms import arms
from harness.analysis.compare.attempts import standing
from harness.analysis.compare.runs import Change, NotComparable
from harness.analysis.history import accepted, nightly_rules, nightly_series
from harness.analysis.history.accepted import Accepted
from harness.analysis.history.nightly_rules import Finding
from harness.records import store
from harness.records.kill_matrix import KillMatrix
from harness.records.record import Record
from harness.records.run_file import RunFile, read_file
from harness.records.stack_name import BY_MEMBERS, StackNames
from harness.report.ablation_view import AblationView, view
from harness.report.dashboard.entry import Entry, entry

BACK = 30
"""Records of a case between the two of a drift."""


Held = dict[str, tuple[Entry, Record]]
"""Key of a case's identity -> a record of it."""


@dataclass(frozen=True)
class Difference:
    """Two records of a case, and what `harness.analysis.compare` says of them."""

    before: Entry
    after: Entry
    found: tuple[Change | NotComparable, ...]


@dataclass(frozen=True)
class Waterfall:
    run: str
    day: str
    hardware: str
    view: AblationView


@dataclass
class GatheredColumn:
    """All that the pages about many records are made of."""

    entries: list[Entry] = field(default_factory=list)
    """The oldest first; a record that a merged run holds, too, is one."""
    differences: dict[str, Difference] = field(default_factory=dict)
    """Key of a case's identity -> the record that speaks for it in the newest run against that of the run before."""
    drifts: dict[str, Difference] = field(default_factory=dict)
    """Likewise, the newest record against the one BACK before, or the first: what creeps shows here."""
    waterfalls: dict[str, Waterfall] = field(default_factory=dict)
    """Title -> the last."""
    faults: dict[tuple[str, str, str], tuple[Entry, KillMatrix]] = field(default_factory=dict)
    """Model, size, hardware -> the last."""
    findings: tuple[Finding, ...] = ()
    """Of `harness.analysis.history`, by its own rule."""
    accepted: tuple[Accepted, ...] = ()
    files: list[Path] = field(default_factory=list)
    """Run files, in the order of time."""
    names: StackNames = BY_MEMBERS
    """What stacks are called on every page."""


def gather(results: Path, today: date, names: StackNames = BY_MEMBERS) -> GatheredColumn:
    """Read every run file under `results`; RecordError names a file that cannot be trusted, UserError no folder."""
    gathered = GatheredColumn(accepted=accepted.read(results), names=names)
    latest: Held = {}
    before: Held = {}
    seen: set[str] = set()
    for file in _in_time(results):
        gathered.files.append(file.path)
        _add(gathered, file, latest, before, seen)
    gathered.differences = {key: _difference(older, latest[key]) for key, older in before.items()}
    _add_drifts(gathered, latest)
    frame = store.load(results, **nightly_series.WHERE)
    steps = accepted.since(gathered.accepted, today, nightly_series.identities(frame))
    gathered.findings = nightly_rules.judge(nightly_series.series(frame), steps)
    return gathered


def _in_time(results: Path) -> Iterator[RunFile]:
    """By the start of their first record; only one file is held at a time."""
    starts = store.load(results)[["run", "started_at"]].groupby("run")["started_at"].min().to_dict()
    paths = sorted(results.rglob("*.jsonl"), key=lambda path: (starts.get(path.stem, ""), path))
    return (read_file(path) for path in paths)


def _add(gathered: GatheredColumn, file: RunFile, latest: Held, before: Held, seen: set[str]) -> None:
    phases = {record.key: arms(record) for record in file.records}
    speaking = standing(file.records)
    for record, digest in zip(file.records, file.hashes, strict=True):
        if digest in seen:
            continue
        seen.add(digest)
        one = entry(record, file.path.stem, phases[record.key], gathered.names)
        gathered.entries.append(one)
        if record.kill_matrix:
            case = record.case
            gathered.faults[case.model, case.size, case.hardware] = one, record.kill_matrix
        if not one.says_something or speaking[one.case] is not record:
            continue
        if one.case in latest:
            before[one.case] = latest[one.case]
        slim = {"kill_matrix": None, "kernels": ()}
        latest[one.case] = one, record.model_copy(update=slim)
    for ablation in ablations(file.records, phases):
        seen_as = view(ablation, gathered.names)
        started = min(record.started_at for record in file.records)
        gathered.waterfalls[seen_as.title] = Waterfall(file.path.stem, started[:10], ablation.case.hardware, seen_as)


def _add_drifts(gathered: GatheredColumn, latest: Held) -> None:
    """Reads each file of an older record a second time, instead of holding all records."""
    held: dict[str, list[Entry]] = {}
    for one in gathered.entries:
        if one.says_something:
            held.setdefault(one.case, []).append(one)
    wanted: dict[str, list[Entry]] = {}
    for entries in held.values():
        if len(entries) > 2:
            older = entries[max(len(entries) - 1 - BACK, 0)]
            wanted.setdefault(older.run, []).append(older)
    for path in gathered.files:
        if path.stem in wanted:
            records = {record.key: record for record in read_file(path).records}
            for older in wanted[path.stem]:
                gathered.drifts[older.case] = _difference((older, records[older.key]), latest[older.case])


def _difference(before: tuple[Entry, Record], after: tuple[Entry, Record]) -> Difference:
    (older, base), (newer, head) = before, after
    found = runs.compare_runs({older.case: base}, {newer.case: head})
    return Difference(older, newer, (*found.changes, *found.apart))
