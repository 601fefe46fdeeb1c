"""What a user calls a run: a file, a folder, a run's name or a commit, as one record per case."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.analysis.compare.attempts import standing
from harness.errors import RecordError, UserError
from harness.records.record import Record
from harness.records.run_file import NAME, read_file


@dataclass(frozen=True)
class Named:
    """What was found under a name."""

    records: Mapping[str, Record]
    """Key of a case's identity -> the record that speaks for it."""
    aside: tuple[str, ...] = ()
    """Files that cannot be trusted, each with its reason. Nothing was taken from them."""


def records(named: str, results: Path, strict: bool = False) -> Named:
    """`results` is the folder of run files in which run names and commits are looked for.

    UserError when nothing has that name. Of several files, one that cannot be trusted is set aside; RecordError where
    it was the only one, or where `strict`.
    """
    found: list[Record] = []
    aside: list[str] = []
    files = _found(named, results)
    for path, commit in files:
        try:
            found += _of(path, commit)
        except RecordError as error:
            if strict or len(files) == 1:
                raise
            aside.append(str(error))
    if len(aside) == len(files):
        raise RecordError(f"none of the {len(files)} files of {named} can be trusted: {aside[0]}")
    return Named(standing(found), tuple(aside))


def resolve(repository: Path, revision: str) -> str | None:
    """The full commit of a git revision, or None where there is none."""
    command = ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def commit_of(repository: Path, revision: str) -> str:
    """The full commit of a git revision. UserError where there is none."""
    commit = resolve(repository, revision)
    if commit is None:
        raise UserError(f"'{revision}' is no revision of {repository}")
    return commit


def _found(named: str, results: Path) -> Sequence[tuple[Path, str | None]]:
    """Run files, and the commit that their records must be of where that is what was named."""
    path = Path(named)
    if path.is_file():
        return [(path, None)]
    if path.is_dir():
        inside = sorted(path.rglob("*.jsonl"))
        if not inside:
            raise UserError(f"no run file under {path}")
        return [(file, None) for file in inside]
    every = sorted(results.rglob("*.jsonl")) if results.is_dir() else []
    if NAME.match(named) and any(file.stem == named for file in every):
        return [(file, None) for file in every if file.stem == named]
    commit = resolve(results if results.is_dir() else Path(), named)
    of_commit = [(file, commit) for file in every if commit and commit[:8] in file.stem.split("-")]
    if not of_commit:
        what = f"no run of commit {commit[:8]}" if commit else f"no file, folder, run or commit '{named}'"
        raise UserError(f"{what} under {results}: there is nothing to compare")
    return of_commit


def _of(path: Path, commit: str | None) -> list[Record]:
    return [
        record
        for record in read_file(path).records
        if commit is None or (record.environment is not None and record.environment.commit == commit)
    ]
