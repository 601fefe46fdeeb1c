"""A folder of run files read once, in the order of time: what each record says and what it changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from harness import compare, store
from harness.compare import runs
from harness.compare.ablation import ablations
from harness.compare.runs import Apart, Change
from harness.history import accepted, nights, rules
from harness.history.accepted import Accepted
from harness.history.rules import Finding
from harness.record import INCONCLUSIVE, KillMatrix, Record
from harness.report.ablation import AblationView, view
from harness.report.dashboard.entry import Entry, entry
from harness.store import RunFile


@dataclass(frozen=True)
class Difference:
    """A record against the one before of the same case; both by run."""

    before: Entry
    after: Entry
    found: tuple[Change | Apart, ...]


@dataclass(frozen=True)
class Waterfall:
    run: str
    day: str
    view: AblationView


@dataclass
class Gathered:
    """All that the pages about many records are made of."""

    entries: list[Entry] = field(default_factory=list)
    """The oldest first; a record that a merged run holds, too, is one."""
    differences: dict[str, Difference] = field(default_factory=dict)
    """Case key -> the last."""
    waterfalls: dict[str, Waterfall] = field(default_factory=dict)
    """Title -> the last."""
    faults: dict[tuple[str, str, str], tuple[Entry, KillMatrix]] = field(default_factory=dict)
    """Model, size, hardware -> the last."""
    findings: tuple[Finding, ...] = ()
    """Of `harness.history`, by its own rule."""
    accepted: tuple[Accepted, ...] = ()
    files: list[Path] = field(default_factory=list)
    """Run files, in the order of time."""


def gather(results: Path, today: date) -> Gathered:
    """Read every run file under `results`; RecordError names a file that cannot be trusted, UserError no folder."""
    gathered = Gathered(accepted=accepted.read(results))
    latest: dict[str, tuple[Entry, Record]] = {}
    seen: set[str] = set()
    for file in _in_time(results):
        gathered.files.append(file.path)
        _add(gathered, file, latest, seen)
    frame = store.load(results, **nights.WHERE)
    gathered.findings = rules.judge(nights.series(frame), accepted.since(gathered.accepted, today))
    return gathered


def _in_time(results: Path) -> Iterator[RunFile]:
    """By the start of their first record; only one file is held at a time."""
    starts = store.load(results)[["run", "started_at"]].groupby("run")["started_at"].min().to_dict()
    paths = sorted(results.rglob("*.jsonl"), key=lambda path: (starts.get(path.stem, ""), path))
    return (store.read_file(path) for path in paths)


def _add(gathered: Gathered, file: RunFile, latest: dict[str, tuple[Entry, Record]], seen: set[str]) -> None:
    phases = {record.key: compare.arms(record) for record in file.records}
    for record, digest in zip(file.records, file.hashes, strict=True):
        if digest in seen:
            continue
        seen.add(digest)
        one = entry(record, file.path.stem, phases[record.key])
        gathered.entries.append(one)
        if record.kill_matrix:
            case = record.case
            gathered.faults[case.model, case.size, case.hardware] = one, record.kill_matrix
        if record.status in INCONCLUSIVE or record.status == "skipped":
            continue
        if record.key in latest:
            before, held = latest[record.key]
            found = runs.compare_runs({record.key: held}, {record.key: record})
            gathered.differences[record.key] = Difference(before, one, (*found.changes, *found.apart))
        slim = {"kill_matrix": None, "kernels": (), "receipts": ()}
        latest[record.key] = one, record.model_copy(update=slim)
    for ablation in ablations(file.records, phases):
        seen_as = view(ablation)
        started = min(record.started_at for record in file.records)
        gathered.waterfalls[seen_as.title] = Waterfall(file.path.stem, started[:10], seen_as)
