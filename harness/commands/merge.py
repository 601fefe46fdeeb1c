"""`python -m harness merge RUN...`: the shards of a plan as one run, with proof that nothing is missing or twice."""

from __future__ import annotations

import gc
import hashlib
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from harness.analysis.outcome import Outcome
from harness.commands.options import RECORDS, Option, Usage
from harness.errors import RecordError, UserError
from harness.records import run_line
from harness.records.case import Case, Plan
from harness.records.record import INCONCLUSIVE, Record
from harness.records.run_file import RunFile, RunWriter, read_file, record_lines, run_path

MERGED = "merged-"


@dataclass(frozen=True)
class Merged:
    """One record for each case and each skip of the plan, in the plan's order."""

    run: str
    plan: Plan
    sources: tuple[str, ...]
    records: tuple[Record, ...]
    hashes: tuple[str | None, ...]
    """Of the records, as the files have them; None of one that was made here."""
    files: tuple[Path, ...] = field(compare=False)


def merge(files: Sequence[RunFile]) -> Merged:
    """Unite the runs of one plan, in whatever order they come; merging a merged run again gives the same.

    What no file says of a case is `lost`. RecordError names the files of different plans or commits, the one that holds
    a case twice, and the case of which two files each hold a conclusive record; a record that two files share is one.
    """
    if not files:
        raise UserError("no run was named: nothing would be merged")
    first = files[0]
    for file in files[1:]:
        if file.plan_hash != first.plan_hash:
            raise RecordError(
                f"{file.path.name} ran plan {file.plan_hash} and {first.path.name} plan {first.plan_hash}: they are "
                "not shards of one plan"
            )
    _of_one_commit(files)
    kept = _kept(files, first.plan)
    digests = sorted(digest for digest, _, _ in kept.values())
    run = f"{MERGED}{first.plan_hash[:8]}-{hashlib.sha256(' '.join(digests).encode()).hexdigest()[:12]}"
    last = max((record.started_at for _, record, _ in kept.values()), default="")

    def stated(case: Case, status: str, reason: str) -> Record:
        fields = {"run": run, "plan": first.plan_hash, "key": case.key, "started_at": last, "wall_s": 0.0}
        return Record.model_validate(fields | {"case": case, "status": status, "reason": reason})

    def standing(case: Case, status: str, reason: str) -> Record:
        held = kept.get(case.key)
        return held[1] if held else stated(case, status, reason)

    records = [standing(case, "lost", "no shard recorded it") for case in first.plan.cases]
    records += [standing(skip.case, "skipped", skip.reason) for skip in first.plan.skipped]
    hashes = tuple(kept[record.key][0] if record.key in kept else None for record in records)
    sources = tuple(sorted({record.run for _, record, _ in kept.values()}))
    return Merged(run, first.plan, sources, tuple(records), hashes, tuple(file.path for file in files))


def write(merged: Merged, out: Path) -> Path:
    """The merged run as a run file. One that is there already holds the same, by its name."""
    path = run_path(out, "-".join(sorted({case.hardware for case in merged.plan.cases})), merged.run)
    if path.exists():
        return path
    lines = {digest: line for file in merged.files for digest, line in record_lines(file).items()}
    with RunWriter(path, merged.run, merged.plan, sources=merged.sources) as writer:
        writer.copy(
            lines.get(digest or "") or run_line.written("record", record.model_dump(mode="json"))
            for digest, record in zip(merged.hashes, merged.records, strict=True)
        )
    return path


def _of_one_commit(files: Sequence[RunFile]) -> None:
    made: dict[tuple[str, str | None], str] = {}
    for file in files:
        for environment in (record.environment for record in file.records if record.environment):
            made.setdefault((environment.commit, environment.diff_hash), file.path.name)
    if len(made) > 1:
        said = ", ".join(f"{name} of commit {commit[:8]} ({diff or 'clean'})" for (commit, diff), name in made.items())
        raise RecordError(f"records of different code are no one run: {said}")


_Kept = tuple[str, Record, str]


def _kept(files: Sequence[RunFile], plan: Plan) -> dict[str, _Kept]:
    """Case key -> hash, record and file name of the one record that stands. What an earlier merge stated is dropped:
    it is stated again where it still holds."""
    planned = {case.key for case in plan.cases} | {skip.case.key for skip in plan.skipped}
    kept: dict[str, _Kept] = {}
    for file in files:
        for key, times in Counter(record.key for record in file.records).items():
            if times > 1:
                raise RecordError(f"{file.path.name}: case {key} is in it {times} times, and would be counted as often")
        for digest, record in zip(file.hashes, file.records, strict=True):
            if record.run.startswith(MERGED):
                continue
            if record.key not in planned:
                raise RecordError(f"{file.path.name}: case {record.key} ({record.case.label()}) is not in the plan")
            here = (digest, record, file.path.name)
            kept[record.key] = _one(kept[record.key], here) if record.key in kept else here
    return kept


def _one(old: _Kept, new: _Kept) -> _Kept:
    both_conclude = not {old[1].status, new[1].status} & INCONCLUSIVE
    same = old[0] == new[0] or old[1].status == new[1].status == "skipped"
    if both_conclude and not same:
        raise RecordError(
            f"case {new[1].key} ({new[1].case.label()}) has a record in {old[2]} and another in {new[2]}: counted "
            "twice, or chosen between, the result would be neither's"
        )
    return min(old, new, key=lambda held: (_rank(held[1]), held[0]))


def _rank(record: Record) -> int:
    """Conclusive before killed, killed before lost."""
    return {"lost": 2, "killed": 1}.get(record.status, 0)


USAGE = Usage(
    "merge",
    """python -m harness merge RUN ... [out=FOLDER]

The shards of a plan as one run, with proof that nothing is missing or twice. RUN is a run file or a folder that holds
some. Exit code 0: complete, right and not slower. 1: refused, or a case is lost. 2: files that cannot be united.""",
    (Option("out", "folder of the merged run", RECORDS, Path),),
    words=range(1, 100_000),
)
help_text = USAGE.help


def main(arguments: Sequence[str], out: TextIO = sys.stdout, err: TextIO = sys.stderr) -> int:
    asked = USAGE.read(arguments)
    gc.disable()  # records have no cycles, and looking for some among thousands takes longer than reading them
    try:
        return _merged([Path(word) for word in asked.words], asked["out"], out)
    finally:
        gc.enable()


def _merged(runs: Sequence[Path], folder: Path, out: TextIO) -> int:
    """The exit code of the merged run, which is written and printed."""
    from harness.analysis.compare.arms import arms
    from harness.build import registry
    from harness.report import console

    merged = merge([read_file(path) for path in run_files(runs)])
    path = write(merged, folder)
    outcome = Outcome(merged.records, {record.key: arms(record) for record in merged.records if record.series})
    names = registry.stack_names({record.case.model for record in merged.records})
    console.print_outcome(outcome, path, (), out, names)
    return outcome.exit_code


def run_files(paths: Sequence[Path]) -> list[Path]:
    """Files as named; a folder stands for the finished and partial runs under it."""
    found: list[Path] = []
    for path in paths:
        inside = [file for pattern in ("*.jsonl", "*.jsonl.partial") for file in sorted(path.rglob(pattern))]
        found += inside if path.is_dir() else [path]
    return found
