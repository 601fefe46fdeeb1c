"""What a report says of planted faults, and that it says so when none were planted."""

from __future__ import annotations

from harness.records.case import Plan
from harness.records.kill_matrix import KillMatrix, MutantOutcome
from harness.records.record import Record
from harness.report import mutants, render
from harness.report.view import build


def outcome(name, end, **fields):
    return MutantOutcome(subject="model", name=name, kind="made", end=end, **fields)


MATRIX = KillMatrix(
    outcomes=(
        outcome("seen early", "killed", level="layer", rule="rms", dtype="float32", where="layer 0"),
        outcome("raised", "crash", level="op", rule="raised", reason="RuntimeError: stride"),
        outcome("never seen", "survived"),
        outcome("the same thing", "equivalent", reason="it moves nothing"),
    )
)


def texts(table):
    return [[cell.text for cell in cells] for cells in table.rows]


def test_levels_are_counted_survivors_come_first_and_reasons_are_shown():
    view = mutants.view(MATRIX)
    assert (
        view.sentence == "2 of 3 planted faults seen (66.7%), 1 equivalent or without a place; 1 of those seen crashed."
    )
    assert texts(view.by_subject) == [["model", "–", "1", "1", "–", "–", "–", "1", "1"]]
    assert texts(view.unseen) == [
        ["model", "never seen", "survived", "no level of the gate saw it"],
        ["model", "the same thing", "equivalent", "it moves nothing"],
    ]
    assert [row[3] for row in texts(view.seen)] == ["killed", "crash"]


def test_both_documents_show_the_matrix_and_say_when_there_is_none(ends):
    _, _, records = ends
    proven = records["untimed"]
    assert proven.parity
    judged = Record.model_validate(dict(proven) | {"kill_matrix": MATRIX, "status": "passed"})
    none = "No kill matrix of its kernel sources is on record, so nothing shows that its gate can fail."
    for record, words in ((judged, "2 of 3 planted faults seen"), (proven, f"{mutants.NONE_RAN} {none}")):
        alone = Plan(cases=(record.case,), skipped=())
        made = build([record.model_copy(update={"plan": alone.hash})], alone, "run")
        pages = render.html(made) | render.markdown(made)
        assert len(pages) == 3
        assert all(words in text for text in pages.values())
