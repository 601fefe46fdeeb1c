"""What the weights of a proof were like, beside what trained ones are known for, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from harness.records.weight_statistics import JudgedWeights, Statistic
from harness.report import formats
from harness.report.cells import Cell, Table, columns, row

NAMES: dict[JudgedWeights, str] = {"random": "random", "trained_like": "trained-like", "checkpoint": "checkpoint"}


def table(statistics: Sequence[Statistic]) -> Table:
    """A row a measure, a column each kind of weights that was judged."""
    kinds = list(dict.fromkeys(item.weights for item in statistics))
    found = {(item.name, item.weights): item for item in statistics}
    rows = tuple(
        row(
            item.name,
            f"{formats.significant(item.low)} to {formats.significant(item.high)}",
            *(_cell(found.get((item.name, kind))) for kind in kinds),
        )
        for item in {item.name: item for item in statistics}.values()
    )
    headings = columns("Measure", "Trained models#", *(f"{NAMES[kind].capitalize()}#" for kind in kinds))
    return Table("What the weights were like", headings, rows)


def _cell(statistic: Statistic | None) -> Cell:
    if statistic is None:
        return Cell(formats.NONE)
    return Cell(formats.significant(statistic.value), tone="good" if statistic.like_trained else "quiet")
