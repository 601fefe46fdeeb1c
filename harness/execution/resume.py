"""Going on with a run that left something unsaid: which of its records stand, and which cases are run again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from harness.errors import RecordError, UserError
from harness.execution import slurm_queue
from harness.records.record import INCONCLUSIVE, Environment, Record
from harness.records.run_file import PARTIAL, RunFile, is_written_now, read_file

SUPERSEDED = ".superseded"
FINISHED = ".jsonl"
JOBS = ".jobs"
"""Ends the name of the folder in which the Slurm jobs of a run leave their records."""


@dataclass(frozen=True)
class Wanted:
    """What a run must be of to be gone on with."""

    plan_hash: str
    shard: str | None
    environment: Environment
    on_nodes: bool = False
    """Of a cluster, where each record is of the node that made it: the code must be the same, the machine is not the
    one at hand."""

    def is_of(self, found: Environment) -> bool:
        same_code = (found.commit, found.diff_hash) == (self.environment.commit, self.environment.diff_hash)
        return same_code and (self.on_nodes or found.fingerprint() == self.environment.fingerprint())


def find(asked: str, folder: Path, wanted: Wanted) -> RunFile | None:
    """The run to go on with, or None to start anew.

    `auto` takes the file in `folder` that holds the most of this plan and shard, of the same commit and machine: a
    partial one that nobody is writing, or the last finished one where it left a case killed or lost. Files that cannot
    be trusted are left alone. A path names a run, finished or partial, and is refused with a UserError where it does
    not fit.
    """
    if asked == "off":
        return None
    if asked != "auto":
        return _named(Path(asked), wanted)
    of_commit = sorted(folder.glob(f"*-{wanted.environment.commit[:8]}-*"))
    fitting = [file for path in of_commit if (file := _fitting(path, wanted))]
    partial = [file for file in fitting if file.path.suffix == PARTIAL]
    finished = [file for file in fitting if file.path.suffix == FINISHED]
    last = max(finished, key=_last_start, default=None)
    unsaid = [last] if last and len(standing(last)) < len(last.records) else []
    return max((*partial, *unsaid), key=lambda file: (len(standing(file)), len(file.sources)), default=None)


def adopt(file: RunFile, wanted: Wanted) -> tuple[Record, ...]:
    """What Slurm jobs of the run, and of those that it went on with, recorded after its parent was gone. Its jobs that
    wait or run are canceled first, so that none of its cases runs twice at a time."""
    if _may_have_jobs(file):
        slurm_queue.end(slurm_queue.jobs_name(file.run))
    held = {record.key for record in standing(file)}
    found: dict[str, Record] = {}
    for run in (file.run, *file.sources):
        for path in sorted(_jobs(file, run).glob("*.json")):
            record = _left(path)
            if record and record.key not in held and _belongs(record, path, run, wanted):
                found.setdefault(record.key, record)
    return tuple(found.values())


def standing(file: RunFile) -> tuple[Record, ...]:
    """The records that say something about their case; the cases of all others are run again."""
    return tuple(record for record in file.records if record.status not in INCONCLUSIVE)


def supersede(file: RunFile) -> None:
    """Set a partial file aside once its records stand in a finished one, and those that it went on with."""
    for run in (file.run, *file.sources):
        path = file.path.with_name(f"{run}.jsonl{PARTIAL}")
        if path.exists():
            path.rename(path.with_suffix(SUPERSEDED))


def _may_have_jobs(file: RunFile) -> bool:
    """Whether its parent submitted jobs and did not see them all end."""
    return file.path.suffix == PARTIAL and _jobs(file, file.run).is_dir()


def _jobs(file: RunFile, run: str) -> Path:
    return file.path.with_name(f"{run}{JOBS}")


def _left(path: Path) -> Record | None:
    """A job's record; None where it cannot be trusted, and its case is run again."""
    try:
        return None if path.is_symlink() else Record.model_validate_json(path.read_bytes())
    except (OSError, ValidationError, RecordError):
        return None


def _belongs(record: Record, path: Path, run: str, wanted: Wanted) -> bool:
    named = (record.run, record.plan, record.shard, record.key) == (run, wanted.plan_hash, wanted.shard, path.stem)
    of_same = record.environment is not None and wanted.is_of(record.environment)
    return named and of_same and record.status not in INCONCLUSIVE


def _last_start(file: RunFile) -> str:
    return max(record.started_at for record in file.records)


def _named(path: Path, wanted: Wanted) -> RunFile:
    try:
        file = read_file(path)
    except RecordError as error:
        raise UserError(f"cannot go on with {path}: {error}") from None
    reason = _unfit(file, wanted)
    if reason is not None:
        raise UserError(f"cannot go on with {path}: {reason}")
    return file


def _fitting(path: Path, wanted: Wanted) -> RunFile | None:
    if path.suffix not in (PARTIAL, FINISHED):
        return None
    try:
        file = read_file(path)
    except RecordError:
        return None
    says_something = standing(file) or _may_have_jobs(file)
    return file if says_something and _unfit(file, wanted) is None else None


def _unfit(file: RunFile, wanted: Wanted) -> str | None:
    if file.plan_hash != wanted.plan_hash:
        return f"it ran plan {file.plan_hash}, and this is plan {wanted.plan_hash}"
    if file.shard != wanted.shard:
        return f"it ran shard {file.shard or 'none'}, and this is shard {wanted.shard or 'none'}"
    if is_written_now(file.path):
        return "another process is writing it"
    for record in file.records:
        if record.environment is not None and not wanted.is_of(record.environment):
            return (
                f"its records are of commit {record.environment.commit[:8]} or another machine: results would be mixed"
            )
    return None
