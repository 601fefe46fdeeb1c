"""The kill matrix on the terminal: a row per fault, a column per level of the gate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO, get_args

from rich import box
from rich.table import Table

from harness.records.checks import Level
from harness.records.kill_matrix import KillMatrix, MutantOutcome
from harness.records.record import Record
from harness.report.console import clean, terminal

LEVELS: tuple[str, ...] = get_args(Level)


def print_matrices(records: Sequence[Record], stream: TextIO) -> None:
    for record in records:
        if record.kill_matrix is not None:
            _print(record, record.kill_matrix, stream)


def _print(record: Record, matrix: KillMatrix, stream: TextIO) -> None:
    table = Table(
        "judged",
        "planted fault",
        *LEVELS,
        "by",
        box=box.ROUNDED if stream.isatty() else box.ASCII2,
        header_style="bold",
    )
    for item in matrix.outcomes:
        if item.end in ("killed", "crash"):
            marks = [item.end if level == item.level else "" for level in LEVELS]
            table.add_row(*map(clean, (item.subject, item.name, *marks, _by(item))))
    terminal(stream).print(table)
    for item in matrix.outcomes:
        if item.end in ("equivalent", "no place"):
            print(clean(f"{item.end}: {item.subject}: {item.name}: {item.reason}"), file=stream)
    for item in matrix.survivors:
        print(clean(f"SURVIVED: {item.subject}: {item.name} ({item.kind}): no level of the gate saw it"), file=stream)
    print(clean(f"{record.case.label()}: {matrix.summary()}, {matrix.wall_s:.0f} s"), file=stream)


def _by(item: MutantOutcome) -> str:
    return f"{item.rule}, {item.dtype}" + (f": {item.reason}" if item.reason else "")
