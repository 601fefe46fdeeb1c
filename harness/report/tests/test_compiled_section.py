"""What was compiled ahead of time: a folded table of as many rows as there are kinds, in HTML and in Markdown."""

from __future__ import annotations

import re

import pytest
import torch

from harness.parity.kernels.compile_ahead import Compiled
from harness.records.record import Provenance, Record
from harness.report import compiled, render

LINES = (
    *[Compiled("gemv", "vector_kernel", torch.bfloat16, 90, 15360, wgmma=False).label()] * 3,
    Compiled("gemv", "matrix_kernel", torch.bfloat16, 90, 98304, wgmma=True).label(),
    "something | of an older form",
)


@pytest.fixture
def written(ends, tmp_path):
    """The folder of the report of a run, two cases of which compiled the same."""
    cases, plan, records = ends
    ahead = Provenance(hf_config="c", kernel_sources="s", aot_compiled=LINES)
    changed = {
        name: Record.model_validate(dict(records[name]) | {"provenance": ahead}) for name in ("timed", "untimed")
    }
    render.write(tuple((records | changed).values()), plan, "run", tmp_path, ["html", "markdown"])
    return tmp_path / "run", cases["timed"].key


def test_what_is_alike_is_one_row_with_its_number():
    table = compiled.table(LINES)
    texts = [[cell.text for cell in row] for row in table.rows]
    assert table.label == "5 compilations ahead of time"
    assert texts[0] == ["gemv/vector_kernel", "bfloat16", "sm_90", "15,360 B", "–", "3"]
    assert texts[1] == ["gemv/matrix_kernel", "bfloat16", "sm_90", "98,304 B", "warp-group (wgmma)", "1"]
    assert texts[2][0] == LINES[-1]


def test_a_case_page_folds_the_table_and_its_facts_do_not_repeat_it(written):
    folder, key = written
    page = (folder / "cases" / f"{key}.html").read_text()
    facts, _, rest = page.partition("</dl>")
    assert "vector_kernel" not in facts
    (folded,) = re.findall(r"<details><summary>5 compilations ahead of time</summary>(.*?)</details>", rest, re.S)
    assert folded.count("<tr>") == 4


def test_markdown_folds_it_once_for_all_cases_that_compiled_alike(written):
    folder, _ = written
    text = (folder / "report.md").read_text()
    assert text.count("<details><summary>5 compilations ahead of time, in 2 cases</summary>\n\n| Kernel |") == 1
    assert "| something \\| of an older form |" in text
    assert text.count("vector_kernel") == 1
