"""The section on what each optimization contributed, in both documents."""

import re

import pytest

from harness.report import charts, render
from harness.report.view import build


@pytest.fixture(scope="module")
def found(sweep):
    view = build(*sweep, "run")
    (decode,) = view.ablations
    return view, decode


def test_a_row_tells_each_way_with_its_verdict(found):
    _, decode = found
    rows = {cells[0].text: cells for cells in decode.table.rows}
    assert list(rows) == ["none", "rotary", "attention", "linear", "cuda_graph"]
    gains = {name: float(cells[2].text.removesuffix("×")) for name, cells in rows.items() if cells[2].text != "–"}
    assert gains == {"rotary": pytest.approx(1.08, abs=0.01), "cuda_graph": pytest.approx(3.1, rel=0.01)}
    assert (rows["cuda_graph"][4].text, rows["cuda_graph"][4].tone) == ("faster", "good")
    assert rows["linear"][5].text == "0.90×"
    assert rows["linear"][6].note.endswith("slower")


def test_a_step_that_crashed_is_told_and_has_no_bar(found):
    _, decode = found
    attention = next(cells for cells in decode.table.rows if cells[0].text == "attention")
    assert [attention[place].text for place in (1, 2, 3, 4)] == ["–"] * 4
    assert attention[4].note == "not timed"
    assert attention[5].text == "1.60×"
    assert [mark.title for mark in decode.marks] == ["none", "+ rotary", "+ cuda_graph"]


def test_a_bar_starts_where_the_stack_so_far_ended(found):
    _, decode = found
    start, rotary, graph = decode.marks
    assert rotary.before == start.after
    assert graph.after / graph.before == pytest.approx(3.1, rel=0.01)
    assert re.fullmatch(r"4\.\d\d× \(\+2\d\d %, faster\)", graph.text)


def test_both_documents_hold_the_section(found):
    view, decode = found
    page, text = render.html(view)["index.html"], render.markdown(view)["report.md"]
    assert "What each optimization contributed" in page
    assert "## What each optimization contributed" in text
    assert decode.title in text
    assert f"| cuda_graph | {decode.table.rows[-1][1].text} |" in text


def test_the_drawing_holds_every_bar_in_words(found):
    _, decode = found
    drawing = charts.waterfall(decode.marks)
    for mark in decode.marks:
        assert mark.title in drawing
        assert mark.text in drawing


def test_a_run_without_a_sweep_has_no_section(alone):
    view = build(*alone("timed"), "run")
    assert view.ablations == ()
    assert "What each optimization contributed" not in render.html(view)["index.html"]
