"""Going on with a run that left something unsaid: which of its records stand, and which cases are run again."""

from __future__ import annotations

from pathlib import Path

from harness.errors import RecordError, UserError
from harness.record import INCONCLUSIVE, Environment, Record
from harness.run_file import PARTIAL, RunFile, is_written_now, read_file

SUPERSEDED = ".superseded"
FINISHED = ".jsonl"


def find(asked: str, folder: Path, plan_hash: str, shard: str | None, environment: Environment) -> RunFile | None:
    """The run to go on with, or None to start anew.

    `auto` takes the file in `folder` that holds the most of this plan and shard, of the same commit and machine: a
    partial one that nobody is writing, or the last finished one where it left a case killed or lost. Files that cannot
    be trusted are left alone. A path names a run, finished or partial, and is refused with a UserError where it does
    not fit.
    """
    if asked == "off":
        return None
    if asked != "auto":
        return _named(Path(asked), plan_hash, shard, environment)
    of_commit = sorted(folder.glob(f"*-{environment.commit[:8]}-*"))
    fitting = [file for path in of_commit if (file := _fitting(path, plan_hash, shard, environment))]
    partial = [file for file in fitting if file.path.suffix == PARTIAL]
    finished = [file for file in fitting if file.path.suffix == FINISHED]
    last = max(finished, key=_last_start, default=None)
    unsaid = [last] if last and len(standing(last)) < len(last.records) else []
    return max((*partial, *unsaid), key=lambda file: len(standing(file)), default=None)


def standing(file: RunFile) -> tuple[Record, ...]:
    """The records that say something about their case; the cases of all others are run again."""
    return tuple(record for record in file.records if record.status not in INCONCLUSIVE)


def supersede(file: RunFile) -> None:
    """Set a partial file aside once its records stand in a finished one, and those that it went on with."""
    for run in (file.run, *file.sources):
        path = file.path.with_name(f"{run}.jsonl{PARTIAL}")
        if path.exists():
            path.rename(path.with_suffix(SUPERSEDED))


def _last_start(file: RunFile) -> str:
    return max(record.started_at for record in file.records)


def _named(path: Path, plan_hash: str, shard: str | None, environment: Environment) -> RunFile:
    try:
        file = read_file(path)
    except RecordError as error:
        raise UserError(f"cannot go on with {path}: {error}") from None
    reason = _unfit(file, plan_hash, shard, environment)
    if reason is not None:
        raise UserError(f"cannot go on with {path}: {reason}")
    return file


def _fitting(path: Path, plan_hash: str, shard: str | None, environment: Environment) -> RunFile | None:
    if path.suffix not in (PARTIAL, FINISHED):
        return None
    try:
        file = read_file(path)
    except RecordError:
        return None
    fits = standing(file) and _unfit(file, plan_hash, shard, environment) is None
    return file if fits else None


def _unfit(file: RunFile, plan_hash: str, shard: str | None, environment: Environment) -> str | None:
    if file.plan_hash != plan_hash:
        return f"it ran plan {file.plan_hash}, and this is plan {plan_hash}"
    if file.shard != shard:
        return f"it ran shard {file.shard or 'none'}, and this is shard {shard or 'none'}"
    if is_written_now(file.path):
        return "another process is writing it"
    for record in file.records:
        if record.environment is not None and _code(record.environment) != _code(environment):
            return (
                f"its records are of commit {record.environment.commit[:8]} or another machine: results would be mixed"
            )
    return None


def _code(environment: Environment) -> tuple[str, str | None, str]:
    return environment.commit, environment.diff_hash, environment.fingerprint()
