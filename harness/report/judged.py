"""Parity as tables: the matrix of a run, and the checks of a case, worst first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from harness.records.checks import Check, Level, NotJudged, Parity, named
from harness.report import formats
from harness.report.cells import Cell, Table, columns, row

LEVELS: tuple[str, ...] = get_args(Level)
WORST = 5
CHECK_COLUMNS = columns(
    "Judged", "Input or output", "Rule", "Error#", "Noise#", "Limit#", "Use of limit#", "Where", "Result"
)


@dataclass(frozen=True)
class LevelView:
    """The checks of one level; `rest` holds those that `worst` does not."""

    level: str
    summary: str
    worst: Table
    rest: Table | None


def matrix_cells(parity: Parity | None) -> tuple[Cell, ...]:
    """One cell per level: how many checks, how many broken, how near the worst came to its limit."""
    if parity is None:
        return tuple(Cell(formats.NONE) for _ in LEVELS)
    return tuple(_level_cell(level, parity) for level in LEVELS)


def levels(parity: Parity) -> tuple[LevelView, ...]:
    found = []
    for level in LEVELS:
        checks = sorted((check for check in parity.checks if check.level == level), key=lambda check: -check.usage)
        if checks:
            worst = _checks_table(f"Worst {level} checks", checks[:WORST])
            rest = _checks_table(f"Remaining {level} checks", checks[WORST:]) if checks[WORST:] else None
            found.append(LevelView(level, _summary(checks), worst, rest))
    return tuple(found)


def not_judged_table(not_judged: Sequence[NotJudged]) -> Table:
    rows = tuple(row(item.level, item.subject, item.reason) for item in not_judged)
    return Table("Checks that could not be judged here", columns("Level", "Asked for", "Reason"), rows)


def _level_cell(level: str, parity: Parity) -> Cell:
    checks = [check for check in parity.checks if check.level == level]
    absent = sum(item.level == level for item in parity.not_judged)
    missing = f"{absent} not judged" if absent else ""
    if not checks:
        return Cell(missing or formats.NONE)
    text = formats.number_of(len(checks), "check")
    if failed := [check.subject for check in checks if not check.passed]:
        text, said = f"{len(failed)} of {len(checks)} failed", named(failed)
    else:
        said = f"worst {formats.use(max(check.usage for check in checks))}"
    return Cell(text, f"{said}, {missing}" if missing else said, "bad" if failed else "good")


def _summary(checks: Sequence[Check]) -> str:
    """`checks` are worst first."""
    count = formats.number_of(len(checks), "check")
    if failed := [check.subject for check in checks if not check.passed]:
        return f"{count}, {len(failed)} failed: {named(failed)}"
    return f"{count}, none failed, worst {formats.use(checks[0].usage)}"


def _checks_table(label: str, checks: Sequence[Check]) -> Table:
    return Table(label, CHECK_COLUMNS, tuple(_check_row(check) for check in checks))


def _check_row(check: Check) -> tuple[Cell, ...]:
    return row(
        check.subject,
        check.name,
        check.rule,
        _error(check),
        formats.significant(check.noise),
        formats.significant(check.limit),
        formats.use(check.usage),
        check.where or formats.NONE,
        Cell("pass", tone="good") if check.passed else Cell("fail", tone="bad"),
    )


def _error(check: Check) -> Cell:
    error = formats.significant(check.error)
    return Cell(error) if check.passed else Cell(error, note=check.describe())
