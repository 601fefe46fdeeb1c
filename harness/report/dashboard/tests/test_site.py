"""The site of a synthetic history: what its pages say, that they link to each other, and that data stays data."""

import io
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harness.commands.main import main
from harness.errors import RecordError, UserError
from harness.records.case_identity import CaseIdentity
from harness.records.stack_name import StackNames
from harness.report.dashboard import site

RESULTS = Path(__file__).resolve().parents[4] / "benchmark_results"
POLICY = re.compile(
    r"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-[0-9A-Za-z+/=]{44}'"
)
"""No script but the one whose hash the page states."""


class Page(HTMLParser):
    """Counts elements and collects attributes, links and text."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.attributes, self.links, self.words = Counter(), [], [], []
        self.feed(path.read_text())
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.elements[tag] += 1
        self.attributes += attributes
        self.links += [value for name, value in attributes if name == "href"]

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="session")
def about_many(pages):
    return sorted([*pages.glob("*.html"), *pages.glob("cases/*.html")])


def identity(case):
    return CaseIdentity.of_case(case).key


def case_page(pages, cases, name):
    return Page(pages / "cases" / f"{identity(cases[name])}.html")


def test_the_first_page_tells_verdicts_and_the_alarm(pages):
    text = Page(pages / "index.html").text
    assert "203 records of 41 runs" in text
    assert "1 refused 1 slower 5 passed 1 parity only" in text
    assert re.search(r"✕ slower alpha/ ?tiny rotary\+ ?attention cpu standard, decode −8\.0 % since 2026-02-17", text)


def test_a_step_down_is_dated_and_comes_with_the_command_that_bisects(pages, cases):
    page = case_page(pages, cases, "stepped")
    assert "commits 00000020 to 00000021" in page.text
    assert f"python -m harness history bisect={identity(cases['stepped'])}:decode" in page.text
    assert page.attributes.count(("class", "change")) == 1
    assert page.attributes.count(("class", "interval")) == 40


def test_an_accepted_step_is_no_alarm_and_says_who_and_why(pages, cases):
    page = case_page(pages, cases, "accepted")
    assert "From 2026-01-30: accepted by kernels, until 2027-01-01: fp32 accumulation is right" in page.text
    assert "steady 25 points" in page.text


def test_another_driver_is_marked_and_not_compared(pages, cases):
    page = case_page(pages, cases, "driver")
    assert page.attributes.count(("class", "machine")) == 1
    assert page.attributes.count(("class", "change")) == 0
    assert "steady 20 points" in page.text


def test_changes_hide_what_says_nothing_and_show_what_crept(pages):
    page = Page(pages / "compare.html")
    latest, drift = page.text.split("Over the last 30 records")
    assert page.attributes.count(("class", "insignificant")) == 5
    assert latest.count("✕ introduced") == drift.count("✕ introduced") == 1
    assert "✕ slower" not in latest
    assert drift.count("✕ slower decode") == 2
    assert re.search(r"attention cpu standard ✕ slower decode 0\.92× 0\.91\d–0\.92\d×", drift)
    assert "not comparable decode: different machines or versions: driver" in drift
    assert ("type", "checkbox") in page.attributes
    assert ("checked", None) not in page.attributes


def test_ablation_roofline_and_faults_are_drawn_and_told(pages):
    assert "gamma/ tiny on cpu, standard, decode" in Page(pages / "ablations.html").text
    assert "1.50× (+50 %, faster)" in Page(pages / "ablations.html").text
    roof = Page(pages / "roofline.html")
    assert roof.attributes.count(("class", "roof")) == 2
    assert "54 % of the memory floor" in roof.text
    assert "1 of 1 planted faults seen (100.0%), 1 equivalent" in Page(pages / "faults.html").text
    assert "addition commutes here" in Page(pages / "faults.html").text


def test_every_link_leads_to_a_page_or_to_the_report_of_a_run_that_was_not_made_here(pages, about_many):
    made = {"night-39", "sweep"}
    for path in about_many:
        for link in Page(path).links:
            target = (path.parent / link.split("#")[0]).resolve() if not link.startswith("#") else path
            run = re.search(r"/runs/([^/]+)/", str(target))
            assert target.is_file() or (run and run[1] not in made), f"{path.name} leads to {link}"


def test_a_record_page_holds_its_raw_samples_and_leads_back(pages, cases):
    page = Page(pages / "runs" / "night-39" / "cases" / f"{cases['stepped'].key}.html")
    assert "every sample in milliseconds" in page.text
    assert "../../../index.html" in page.links
    assert (pages / "runs" / "night-39" / "cases" / "../../../index.html").resolve() == pages / "index.html"


def test_nothing_of_the_data_is_active(about_many):
    for path in about_many:
        page = Page(path)
        assert page.elements["script"] == 1
        assert page.elements["img"] == page.elements["iframe"] == page.elements["link"] == 0
        assert not [name for name, _ in page.attributes if name.startswith("on")]
        assert not [link for link in page.links if ":" in link]
        assert [value for name, value in page.attributes if name == "content" and POLICY.fullmatch(value or "")]
        addresses = set(re.findall(r"https?://[^\"' <]*", path.read_text()))
        assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_a_run_that_has_its_report_is_not_written_again(results, tmp_path):
    file = results / "cpu" / "sweep.jsonl"
    first = site.run_pages(file, tmp_path)
    assert len(first) == 4
    assert site.run_pages(file, tmp_path) == []
    first[-1].unlink()
    assert len(site.run_pages(file, tmp_path)) == 4


def test_a_stack_goes_by_its_short_name_and_its_members_are_a_click_away(results, tmp_path, today, cases):
    gathered = site.gather(results, today, StackNames({"alpha": ("rotary", "attention")}))
    made = dict(site.pages(gathered, today))
    key = identity(cases["stepped"])
    assert '<th scope="row">full</th>' in made["index.html"]
    assert f'title="rotary+attention" href="cases/{key}.html"' in made["index.html"]
    assert "alpha/<wbr>tiny full on cpu standard, decode" in made["index.html"], "an alarm, too"
    assert '<td title="rotary+attention">full</td>' in made["cases.html"]
    assert '<p class="sub">rotary+<wbr>attention</p>' in made[f"cases/{key}.html"]


def test_a_history_of_one_record_draws_no_line(pages):
    rows = (pages / "cases.html").read_text().split("<tr ")[1:]
    once = [row for row in rows if '<td class="n">1</td>' in row]
    assert len(once) == 3
    assert not any("<svg" in row for row in once)
    assert sum("<svg" in row for row in rows) == 4


def test_a_run_is_written_again_where_its_stacks_are_named_otherwise(results, tmp_path):
    file = results / "cpu" / "sweep.jsonl"
    site.run_pages(file, tmp_path)
    names = StackNames({"gamma": ("rotary", "attention")})
    assert len(site.run_pages(file, tmp_path, names=names)) == 4
    assert site.run_pages(file, tmp_path, names=names) == []
    assert "full on cpu" in (tmp_path / "runs" / "sweep" / "index.html").read_text()


def test_the_command_writes_the_site_and_names_its_first_page(results, tmp_path):
    asked, out = ["report", "dashboard=true", f"reports={tmp_path / 'site'}"], io.StringIO()
    folder = tmp_path / "results" / "cpu"
    folder.mkdir(parents=True)
    shutil.copy(results / "cpu" / "sweep.jsonl", folder)
    assert main([*asked, f"out={folder.parent}"], out) == 0
    assert out.getvalue().strip() == str(tmp_path / "site" / "index.html")
    assert (tmp_path / "site" / "runs" / "sweep" / "index.html").is_file()
    assert main([*asked, f"out={tmp_path / 'absent'}"], out, io.StringIO()) == 2


def test_a_file_that_was_edited_makes_no_site(results, tmp_path, today):
    (tmp_path / "cpu").mkdir()
    text = (results / "cpu" / "sweep.jsonl").read_text()
    (tmp_path / "cpu" / "sweep.jsonl").write_text(text.replace('"wall_s":9.0', '"wall_s":8.0'))
    with pytest.raises(RecordError, match="edited"):
        site.write(tmp_path, tmp_path / "site", today)
    assert not (tmp_path / "site").exists()


def test_a_symlink_in_the_site_is_not_followed(results, tmp_path, today):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "cases").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="symlink"):
        site.write(results, tmp_path / "site", today)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_the_results_of_this_repository_make_a_site(tmp_path, today):
    shutil.copytree(RESULTS, tmp_path / "results", ignore=shutil.ignore_patterns(".index"))
    gathered = site.gather(tmp_path / "results", today)
    assert len(gathered.files) == len(list(RESULTS.rglob("*.jsonl")))
    made = dict(site.pages(gathered, today))
    assert all(f"cases/{one.case}.html" in made for one in gathered.entries)
    assert "h200" in made["index.html"]
