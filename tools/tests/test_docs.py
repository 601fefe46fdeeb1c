"""The documents: their tables are those of the records, their links lead somewhere, their front page is short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.errors import HarnessError
from tools import docs
from tools.repository import ROOT, Repository, markdown_table

REPOSITORY = Repository()
PAGES = tuple(path for pattern in ("*.md", "docs/*.md", "benchmark_results/*.md", "test_shards/*.md")
              for path in REPOSITORY.files(f":(glob){pattern}"))  # fmt: skip
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")


def test_every_table_is_the_one_that_the_records_make() -> None:
    assert sorted(docs.stale(REPOSITORY)) == [], "python -m tools.docs"


def test_an_edited_figure_is_out_of_date() -> None:
    page = REPOSITORY.text("docs/results.md")
    figure = re.search(r"\| \d+\.\d+ ms \|", page)
    assert figure
    edited = page.replace(figure[0], "| 0.01 ms |", 1)
    assert docs.written("docs/results.md", edited, REPOSITORY) == page


def test_a_mark_of_no_table_is_refused() -> None:
    with pytest.raises(HarnessError, match=r"README\.md marks the place of a table 'speeds'"):
        docs.written("README.md", "<!-- table: speeds -->\n<!-- end of table -->", REPOSITORY)


def test_a_table_without_a_place_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docs, "TABLES", {**docs.TABLES, "unplaced": lambda _: ""})
    with pytest.raises(HarnessError, match="no document has a place for the table 'unplaced'"):
        docs.stale(REPOSITORY)


def test_a_row_of_another_width_is_refused() -> None:
    with pytest.raises(HarnessError, match="another number of cells"):
        markdown_table(("one", "two"), [["1"]])


@pytest.mark.parametrize("page", PAGES)
def test_every_local_link_leads_to_what_is_there(page: str) -> None:
    folder = (ROOT / page).parent
    targets = [target for target in LINK.findall(REPOSITORY.text(page)) if "://" not in target]
    assert [target for target in targets if not (folder / target).exists()] == []


def test_the_front_page_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 8192


def test_the_front_page_begins_with_the_two_commands_that_set_up_and_test() -> None:
    readme = REPOSITORY.text("README.md")
    for command in (
        "python3 -m venv .venv && .venv/bin/pip install -q -c constraints.txt -e '.[test]' && "
        ".venv/bin/python -m harness +model=qwen3_coder_30b\n",
        ".venv/bin/python -m pytest -n auto --dist loadfile\n",
    ):
        assert command in readme


def test_outside_a_checkout_nothing_counts_as_committed(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="which files are committed cannot be told"):
        Repository(tmp_path).files("*")
