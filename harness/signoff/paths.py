"""The paths that a proof must have gone, by what the build provides."""

from __future__ import annotations

from collections.abc import Iterator

from harness.records.path_names import ExecutionPath
from harness.records.provided import provided
from harness.records.record import Record

PICTURES = "image embeddings"
"""What is judged of a model that sees."""


def missing(record: Record) -> tuple[str, ...]:
    """List the paths that the record's build has and that none of its checks went."""
    checks = record.parity.checks if record.parity else ()
    gone = {check.subject for check in checks if check.level == "path"}
    return tuple(path for path in _wanted(record) if not any(path in subject for subject in gone))


def _wanted(record: Record) -> Iterator[ExecutionPath]:
    sees = record.parity is not None and any(check.subject == PICTURES for check in record.parity.checks)
    provides = provided(record)
    for path in ExecutionPath:
        if path.since <= record.schema_version and path.needs <= provides and (sees or not path.images):
            yield path
