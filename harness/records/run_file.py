"""Run files: JSON lines, append only, each line with the hash of its content, linked into place when complete.

A run is written to `NAME.jsonl.partial`, every line forced to disk, so that a killed parent loses nothing recorded.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import ValidationError

from harness.errors import RecordError, UserError
from harness.records import run_line
from harness.records.case import Plan
from harness.records.record import READABLE, SCHEMA_VERSION, Record

PARTIAL = ".partial"
MOST_BYTES = 64 << 20
"""Of a line; neither written nor read beyond it, so that one file cannot take a machine's memory."""
CLOSED_SINCE = 4
"""The schema version since which a finished file ends with a line that counts its records."""
NAME = re.compile(r"^[0-9A-Za-z][0-9A-Za-z._-]{0,63}$")


def run_path(out: Path, hardware: str, run: str) -> Path:
    """`out/hardware/run.jsonl`, both names checked, so that nothing is written outside `out`."""
    for kind, name in (("hardware", hardware), ("run", run)):
        if not NAME.match(name):
            raise UserError(f"{kind} name '{name}' is not letters, digits, dot, dash: it could leave {out}")
    folder = out.resolve() / hardware
    if folder.is_symlink():
        raise UserError(f"{folder} is a symlink: records would be written somewhere else")
    return folder / f"{run}.jsonl"


class RunWriter:
    """Appends the records of one run. A second writer of the same name is refused.

    As a context manager it links the finished file into place on a clean exit and leaves the partial one otherwise.
    `shard` is `2/8` when the run is one part of the plan; `sources` are other runs of which it holds records.
    """

    def __init__(
        self, path: Path, run: str, plan: Plan, shard: str | None = None, sources: tuple[str, ...] = ()
    ) -> None:
        self.path = path
        self.partial = path.with_name(f"{path.name}{PARTIAL}")
        self.interrupted = False
        """Set to leave the partial file, so that the run can be gone on with."""
        self._records = 0
        self._file = self._open()
        header: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "run": run, "plan": plan.model_dump(mode="json")}
        header |= ({"shard": shard} if shard else {}) | ({"sources": list(sources)} if sources else {})
        self._write(run_line.written("header", header))
        self._to_disk()

    def append(self, record: Record) -> None:
        """The record is on disk when this returns."""
        self._write(run_line.written("record", record.model_dump(mode="json")))
        self._records += 1
        self._to_disk()

    def copy(self, lines: Iterable[str]) -> None:
        """Records as another run file holds them; all of them are on disk when this returns."""
        for line in lines:
            self._write(line)
            self._records += 1
        self._to_disk()

    def finish(self) -> Path:
        """Write how many records there are and link the file into place; an existing one is never replaced."""
        try:
            self._write(run_line.written("end", {"schema_version": SCHEMA_VERSION, "records": self._records}))
            self._to_disk()
        finally:
            os.close(self._file)
        try:
            os.link(self.partial, self.path)
        except FileExistsError:
            raise UserError(f"{self.path} appeared meanwhile; the records of this run are in {self.partial}") from None
        self.partial.unlink()
        return self.path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None and not self.interrupted:
            self.finish()
        else:
            os.close(self._file)

    def _open(self) -> int:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists():
                raise FileExistsError(self.path)
            file = os.open(self.partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
            fcntl.flock(file, fcntl.LOCK_EX)
            return file
        except FileExistsError as error:
            raise UserError(f"{error.filename or self.path} exists: another run has written or is writing it") from None
        except OSError as error:
            raise UserError(f"cannot write records under {self.path.parent}: {error.strerror}") from None

    def _write(self, line: str) -> None:
        data = line.encode()
        if len(data) > MOST_BYTES:
            raise RecordError(f"a line of {len(data) >> 20} MiB: {MOST_BYTES >> 20} MiB is the most that is read again")
        with self._told_where():
            while data:
                data = data[os.write(self._file, data) :]

    def _to_disk(self) -> None:
        with self._told_where():
            os.fsync(self._file)

    @contextmanager
    def _told_where(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kept = f"what was recorded is in {self.partial}"
            raise UserError(f"cannot go on writing: {error.strerror}; {kept}") from None


@dataclass(frozen=True)
class RunFile:
    """A run file as it was read, every hash verified."""

    path: Path
    run: str
    plan: Plan
    plan_hash: str
    shard: str | None
    sources: tuple[str, ...]
    """Other runs of which it holds records: what it went on with, or what was merged."""
    records: tuple[Record, ...]
    hashes: tuple[str, ...]
    """Of the records, in their order."""


def read_run(path: Path) -> tuple[Plan, tuple[Record, ...]]:
    """The plan and the records of a run file; RecordError as `read_file` raises it."""
    found = read_file(path)
    return found.plan, found.records


def read_file(path: Path) -> RunFile:
    """A run file, every hash verified.

    RecordError names the line that is truncated, edited, too large, not finite, of an unknown schema or of another run,
    and the file that lacks lines. A partial file may lack its last line, or the end of it: its writer was killed.
    """
    if path.is_symlink():
        raise RecordError(f"{path} is a symlink: what it points to may change between readings")
    lines = _lines(path)
    if not lines:
        raise RecordError(f"{path.name}: empty, it has no header")
    header = run_line.content(lines[0], "header", f"{path.name} line 1")[1]
    try:
        plan, plan_hash = _plan(json.dumps(header["plan"]))
    except ValidationError as error:
        raise RecordError(f"{path.name} line 1: not a valid plan: {error}") from None
    run, sources = header["run"], tuple(header.get("sources", ()))
    if not NAME.match(run):
        raise RecordError(f"{path.name} line 1: run name {run!r} is not letters, digits, dot, dash")
    records, hashes = [], []
    for number, line in enumerate(lines[1 : len(lines) - run_line.is_end(lines[-1])], start=2):
        where = f"{path.name} line {number}"
        digest, record = _record(line, where)
        if record.run not in (run, *sources) or record.plan != plan_hash:
            raise RecordError(f"{where}: a record of another run or plan")
        records.append(record)
        hashes.append(digest)
    _refuse_cut(path, lines, header["schema_version"], len(records))
    return RunFile(path, run, plan, plan_hash, header.get("shard"), sources, tuple(records), tuple(hashes))


def _refuse_cut(path: Path, lines: Sequence[str], version: int, records: int) -> None:
    """RecordError where the last line says of another number of records, or is missing."""
    where = f"{path.name} line {len(lines)}"
    if run_line.is_end(lines[-1]):
        counted = run_line.content(lines[-1], "end", where)[1].get("records")
        if counted != records:
            raise RecordError(f"{where}: {counted} records were written and {records} are here: it was cut or added to")
    elif version >= CLOSED_SINCE and path.suffix != PARTIAL:
        raise RecordError(f"{where}: truncated after it, the line that counts the records is missing")


def record_lines(path: Path) -> dict[str, str]:
    """Hash -> line of the records of a file, those that stand as they were written; for `RunWriter.copy`."""
    proven = ((run_line.as_written(line, "record"), line) for line in _lines(path))
    return {found[0]: f"{line}\n" for found, line in proven if found}


@lru_cache(maxsize=1)
def _plan(text: str) -> tuple[Plan, str]:
    """A plan and its hash; the shards of a sweep, read one after another, have the same."""
    plan = Plan.model_validate_json(text)
    return plan, plan.hash


def _lines(path: Path) -> list[str]:
    """Those that have an end; only a partial file may have a last one without."""
    lines: list[str] = []
    try:
        with path.open("rb") as file:
            while line := file.readline(MOST_BYTES + 1):
                where = f"{path.name} line {len(lines) + 1}"
                if len(line) > MOST_BYTES:
                    raise RecordError(f"{where}: larger than {MOST_BYTES >> 20} MiB, which no record is")
                if line.endswith(b"\n"):
                    lines.append(line[:-1].decode())
                elif path.suffix != PARTIAL:
                    raise RecordError(f"{where}: truncated, it has no end of line")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path.name} cannot be read: {error}") from None
    return lines


def is_written_now(path: Path) -> bool:
    """Whether a process of this machine holds the file open as its writer."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _record(line: str, where: str) -> tuple[str, Record]:
    """The hash and the record of a line. The short way reads what is right; the long one says what is wrong."""
    as_written = run_line.as_written(line, "record")
    record = _readable(as_written[1]) if as_written else None
    if as_written and record:
        return as_written[0], record
    digest, content = run_line.content(line, "record", where)
    try:
        return digest, Record.model_validate(content)
    except (ValidationError, RecordError) as error:
        raise RecordError(f"{where}: not a valid record: {error}") from None


def _readable(text: str) -> Record | None:
    try:
        record = Record.model_validate_json(text)
    except (ValidationError, RecordError):
        return None
    return record if record.schema_version in READABLE else None
