"""The kill matrix as tables: how many faults each level saw, who survived, and every fault by name."""

from __future__ import annotations

from dataclasses import dataclass

from harness.records.kill_matrix import KillMatrix, MutantOutcome
from harness.report import formats
from harness.report.cells import Cell, Table, Tone, columns, row
from harness.report.judged import LEVELS

NONE_RAN = "No faults were planted in this run."
TONES: dict[str, Tone] = {
    "killed": "good",
    "crash": "good",
    "survived": "bad",
    "equivalent": "quiet",
    "no place": "quiet",
}


@dataclass(frozen=True)
class MutantsView:
    sentence: str
    by_subject: Table
    """One row per kernel and for the model: faults seen at each level."""
    unseen: Table | None
    """Survivors first, then what cannot be seen, with the reason."""
    seen: Table


def view(matrix: KillMatrix) -> MutantsView:
    unseen = [item for item in matrix.outcomes if item not in matrix.killed]
    unseen.sort(key=lambda item: item.end != "survived")
    return MutantsView(
        sentence=f"{matrix.summary()}.",
        by_subject=_by_subject(matrix),
        unseen=_unseen(unseen) if unseen else None,
        seen=_seen(matrix),
    )


def _by_subject(matrix: KillMatrix) -> Table:
    names = columns("Planted in", *(f"{level.capitalize()}#" for level in LEVELS), "Survived#", "Not counted#")
    rows = []
    for subject in dict.fromkeys(item.subject for item in matrix.outcomes):
        mine = [item for item in matrix.outcomes if item.subject == subject]
        seen = [sum(item.level == level and item in matrix.killed for item in mine) for level in LEVELS]
        survived = sum(item.end == "survived" for item in mine)
        cells = [str(count) if count else formats.NONE for count in seen]
        lost = Cell(str(survived), tone="bad" if survived else "good")
        rows.append(row(subject, *cells, lost, str(sum(item.end in ("equivalent", "no place") for item in mine))))
    return Table("Planted faults by the first level that saw them", names, tuple(rows))


def _unseen(items: list[MutantOutcome]) -> Table:
    rows = tuple(
        row(item.subject, item.name, _end(item), item.reason or "no level of the gate saw it") for item in items
    )
    return Table("Faults that were not seen", columns("Planted in", "Fault", "End", "Why"), rows)


def _seen(matrix: KillMatrix) -> Table:
    names = columns("Planted in", "Fault", "Kind", "End", "Level", "Rule", "Type", "Where")
    rows = tuple(
        row(
            item.subject,
            item.name,
            item.kind,
            _end(item),
            item.level or formats.NONE,
            item.rule,
            item.dtype,
            item.reason or item.where,
        )
        for item in matrix.killed
    )
    return Table("Faults that were seen", names, rows)


def _end(item: MutantOutcome) -> Cell:
    return Cell(item.end, tone=TONES[item.end])
