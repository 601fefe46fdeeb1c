"""The documents: their tables are those of the records, their links lead somewhere, their front page is short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.errors import HarnessError
from tools import docs
from tools.repository import ROOT, Repository, markdown_table

REPOSITORY = Repository()
PAGES = tuple(path for path in REPOSITORY.files("*.md") if not path.startswith("reports/"))
LINK = re.compile(r"\]\(([^)#]*)(?:#([^)]*))?\)")
NAMED = re.compile(r"`((?:harness|models|conf|tools|examples|docs|test_shards)/[\w./]+)`")
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)


def links(page: str) -> list[tuple[Path, str]]:
    """The files that the local links of a page lead to, and the heading there, if any."""
    found = LINK.findall(CODE.sub("", REPOSITORY.text(page)))
    here = ROOT / page
    return [(here.parent / target if target else here, heading) for target, heading in found if "://" not in target]


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub names them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_every_table_is_the_one_that_the_records_make() -> None:
    assert sorted(docs.stale(REPOSITORY)) == [], "python -m tools.docs"


def test_an_edited_figure_is_out_of_date() -> None:
    page = REPOSITORY.text("docs/results.md")
    figure = re.search(r"\| \d+\.\d+ ms \|", page)
    assert figure
    edited = page.replace(figure[0], "| 0.01 ms |", 1)
    assert docs.written("docs/results.md", edited, REPOSITORY) == page


def test_the_check_fails_on_a_page_that_is_out_of_date_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = REPOSITORY.text("README.md")
    monkeypatch.setattr(docs, "stale", lambda _: {"README.md": "another"})
    assert docs.main(["--check"]) == 1
    assert capsys.readouterr().out == "README.md is out of date: python -m tools.docs\n"
    assert REPOSITORY.text("README.md") == before


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
    assert [str(path) for path, _ in links(page) if not path.exists()] == []
    assert [heading for path, heading in links(page) if heading and heading not in anchors(path)] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_a_page_names_is_there(page: str) -> None:
    named = NAMED.findall(REPOSITORY.text(page))
    assert [path for path in named if not (ROOT / path).exists()] == []


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
