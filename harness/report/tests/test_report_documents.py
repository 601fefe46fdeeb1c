"""The documents: same numbers in both, nothing active in either, and readable in a browser."""

import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from itertools import groupby

import pytest
from jinja2 import UndefinedError

from harness.errors import HarnessError, UserError
from harness.records.case import Plan
from harness.records.record import ArmReport, Failure, Record
from harness.records.stack_name import StackNames
from harness.report import charts, render
from harness.report.view import build

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> javascript:alert(3) `|\n# [a](b) {{ 7*7 }}"


class Page(HTMLParser):
    """Counts elements and collects attributes, ids and the text of table cells."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.attributes, self.cells, self.links = Counter(), [], [], []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements[tag] += 1
        self.attributes += attributes
        self.links += [value for name, value in attributes if name == "href"]
        if tag in ("td", "th"):
            self.inside = True
            self.cells.append("")

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.cells[-1] += f"{data} "


def numbers(texts):
    return Counter(number for text in texts for number in re.findall(r"\d[\d.,]*", text))


@pytest.fixture(scope="module")
def written(ends, tmp_path_factory):
    _, plan, records = ends
    out = tmp_path_factory.mktemp("reports")
    return render.write(tuple(records.values()), plan, "run-1", out, ["html", "markdown"])


def test_a_stack_is_named_by_its_full_one_and_its_members_are_a_click_away(ends, tmp_path):
    cases, plan, records = ends
    case = cases["timed"]
    names = StackNames({case.model: (*case.optimizations, "more")})
    render.write(tuple(records.values()), plan, "run", tmp_path, ["html", "markdown"], names=names)
    members = "+".join(case.optimizations)
    index, page = tmp_path / "run" / "index.html", tmp_path / "run" / "cases" / f"{case.key}.html"
    assert "<small>full - more on h200, standard</small>" in index.read_text()
    assert f'title="{members}"' in index.read_text()
    assert "<summary>What the short names of stacks stand for</summary>" in index.read_text()
    assert '<p class="sub">full - more on h200, standard</p>' in page.read_text()
    assert str(render.breakable(members)) in page.read_text(), "whole among the facts of its case"
    assert f"| full - more | {case.model} | {members} |" in (tmp_path / "run" / "report.md").read_text()


@pytest.fixture
def hostile(ends):
    """A timed and a crashed case whose every free text is an attack."""
    cases, _, records = ends
    bad = {name: cases[name].model_copy(update={"model": HOSTILE, "optimizations": (HOSTILE,)}) for name in cases}
    plan = Plan(cases=(bad["timed"], bad["crashed"]), skipped=(), notes=(HOSTILE,))
    arms = tuple(arm.model_copy(update={"label": f"{arm.name} {HOSTILE}"}) for arm in records["timed"].arms)
    error = Failure(kind=HOSTILE, message=HOSTILE, traceback=f"```\n{HOSTILE}\n````\n</pre>")
    swaps = {
        "timed": {"arms": (*arms, ArmReport(name="x", label=HOSTILE, process=0, absent=HOSTILE))},
        "crashed": {"error": error},
    }
    made = tuple(
        Record.model_validate(dict(records[name]) | swap | {"case": bad[name], "key": bad[name].key, "plan": plan.hash})
        for name, swap in swaps.items()
    )
    return build(made, plan, "run")


def test_layout(written, ends):
    cases, _, _ = ends
    root = written[0].parent
    pages = {f"cases/{cases[name].key}.html" for name in ("timed", "untimed", "failed", "crashed", "lost")}
    assert {path.relative_to(root).as_posix() for path in written} == {"index.html", "report.md"} | pages


def test_html_and_markdown_hold_the_same_numbers(written):
    root = written[0].parent
    lines = (root / "report.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("|") and not line.startswith("| ---")]
    in_html = numbers(Page((root / "index.html").read_text()).cells)
    assert in_html["2.18"] >= 1
    assert in_html == numbers(rows)


def test_every_link_of_the_index_leads_to_a_page(written):
    root = written[0].parent
    links = [link for link in Page((root / "index.html").read_text()).links if not link.startswith("#")]
    assert len(links) >= 5
    assert all((root / link).is_file() for link in links)


def test_pages_are_inert(written):
    for path in written:
        if path.suffix == ".html":
            page = Page(path.read_text())
            assert page.elements["script"] == 0
            assert ("content", "default-src 'none'; style-src 'unsafe-inline'; img-src data:") in page.attributes
            assert ("lang", "en") in page.attributes


def test_hostile_text_stays_text_in_html(hostile):
    pages = render.html(hostile)
    assert any("&lt;script&gt;" in text for text in pages.values())
    for text in pages.values():
        page = Page(text)
        assert page.elements["script"] == page.elements["img"] == page.elements["iframe"] == 0
        assert not [name for name, _ in page.attributes if name.startswith("on")]
        assert not [link for link in page.links if "javascript" in link.lower()]
        assert "{{ 7*7 }}" in text


def test_hostile_text_stays_in_its_cell_in_markdown(hostile):
    text = render.markdown(hostile)["report.md"]
    outside = re.sub(r"(?ms)^(`{3,})text\n.*?^\1$", "", text)
    assert "alert(1)" in outside
    assert "<" not in outside
    assert not re.search(r"(?<!\\)\]\(", outside)
    lines = outside.splitlines()
    assert not [line for line in lines if line.startswith("# [a]")]
    tables = [list(rows) for is_table, rows in groupby(lines, lambda line: line.startswith("|")) if is_table]
    widths = [{len(re.findall(r"(?<!\\)\|", line)) for line in rows} for rows in tables]
    assert len(widths) >= 3
    assert all(len(width) == 1 for width in widths), "an unescaped pipe made a cell of its own"


def test_a_code_block_cannot_be_left():
    block = str(render.fenced("a\n````\nb"))
    assert block.splitlines()[0] == "`````text"


def test_a_field_that_the_view_does_not_have_is_an_error():
    with pytest.raises(UndefinedError):
        render.environment_for_html().from_string("{{ run.speling }}").render(run=object())


@pytest.mark.parametrize("inner", ["<script/>", '<a href="x"/>', '<path onload="x"/>', "<foreignObject/>", "<image/>"])
def test_a_drawing_with_anything_active_is_refused(inner):
    with pytest.raises(HarnessError):
        charts.inert(f'<svg xmlns="http://www.w3.org/2000/svg"><g>{inner}</g></svg>')


def test_the_chart_tells_verdicts_in_words_and_shapes(alone):
    marks = build(*alone("timed"), "run").cases[0].phases[1].marks
    drawing = str(charts.speedups(marks))
    assert all(mark.text in drawing for mark in marks)


@pytest.mark.parametrize("run", ["../up", "a/b", "", ".hidden"])
def test_a_run_name_cannot_leave_the_folder(ends, tmp_path, run):
    _, plan, _ = ends
    with pytest.raises(UserError, match="outside"):
        render.write((), plan, run, tmp_path / "out", ["markdown"])
    assert not list(tmp_path.iterdir())


def test_an_unknown_format_is_named(ends, tmp_path):
    with pytest.raises(UserError, match="did you mean 'html'"):
        render.write((), ends[1], "run", tmp_path, ["htm"])


def test_a_symlink_is_not_followed(ends, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="symlink"):
        render.write((), ends[1], "run", tmp_path, ["markdown"])
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_the_index_opens_in_a_browser(written, tmp_path):
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    more = f"--disable-component-update --disable-sync --user-data-dir={tmp_path} --dump-dom {written[0].as_uri()}"
    done = subprocess.run(["chromium", *flags.split(), *more.split()], capture_output=True, text=True, timeout=60)
    shown = Page(done.stdout)
    assert "REFUSED" in done.stdout
    assert shown.elements["svg"] == 1
    assert shown.elements["table"] == 5


@pytest.mark.parametrize("name", ["timed", "untimed"])
def test_both_documents_say_what_was_noted_while_timing(alone, name):
    note = "timed without rotary: it has no speed here"
    run = build(*alone(name, timing_notes=(note,)), "run")
    assert note in render.markdown(run)["report.md"]
    assert note in render.html(run)["index.html"]


def test_a_kernel_time_says_where_the_host_is_in_it(alone):
    pages = "".join(render.html(build(*alone("timed"), "run")).values())
    assert pages.count("its time</td>") == 2
    assert pages.count("its time, the host&#39;s included</td>") == 1
