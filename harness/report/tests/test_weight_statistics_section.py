"""What the weights of a proof were like, beside what trained ones are known for: a table on the page of the case."""

from __future__ import annotations

import pytest

from harness.records.record import Record
from harness.records.weight_statistics import Statistic
from harness.report import render, statistics_table

FOUND = (
    Statistic(weights="random", name="score range", value=3.9, low=8.0, high=100.0),
    Statistic(weights="random", name="largest channel", value=2.25, low=20.0, high=5000.0),
    Statistic(weights="trained_like", name="score range", value=12.5, low=8.0, high=100.0),
)


def test_a_row_a_measure_and_a_column_each_kind_of_weights() -> None:
    table = statistics_table.table(FOUND)
    assert [column.name for column in table.columns] == ["Measure", "Trained models", "Random", "Trained-like"]
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["score range", "8.00 to 100", "3.90", "12.5"],
        ["largest channel", "20.0 to 5,000", "2.25", "–"],
    ]
    assert [cell.tone for cell in table.rows[0]] == [None, None, "quiet", "good"]


@pytest.mark.parametrize("held", [FOUND, None])
def test_the_page_of_a_case_shows_it_where_it_was_measured(ends, tmp_path, held) -> None:
    cases, plan, records = ends
    parity = records["untimed"].parity.model_copy(update={"statistics": held})
    changed = Record.model_validate(dict(records["untimed"]) | {"parity": parity})
    render.write(tuple((records | {"untimed": changed}).values()), plan, "run", tmp_path, ["html"])
    page = (tmp_path / "run" / "cases" / f"{cases['untimed'].key}.html").read_text()
    assert ("What the weights were like" in page) == (held is not None)
