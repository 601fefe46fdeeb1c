"""The site in a real browser, from disk: filter, sort, open, keyboard, dark, narrow; its first page at scale."""

import random
from dataclasses import replace
from datetime import timedelta

import pytest

from harness.records.case import WorkloadShape
from harness.records.case_identity import CaseIdentity
from harness.records.stack_name import StackNames
from harness.report import render
from harness.report.dashboard import overview, site
from harness.report.dashboard.entry import Entry, Speed
from harness.report.dashboard.gather import GatheredColumn
from harness.report.dashboard.tests.conftest import START, timed, write_run
from harness.tests.seen import contrast, luminance, tab_to, width

RECORDS, CASES = 100_000, 500
FIRST_PAGE_BYTES, INTERACTIVE_MS = 2 * 10**6, 1000


@pytest.fixture
def opened(visit, pages):
    """A function: page of the site, and settings of the browser, to the page opened from disk."""
    return lambda path, root=pages, **settings: visit(root / path, **settings)


def shown(page, selector):
    return [each.inner_text() for each in page.locator(selector).all() if each.is_visible()]


def test_the_matrix_is_filtered_and_the_address_keeps_it(opened):
    page = opened("index.html")
    assert page.locator("output").inner_text() == "8 of 8 workloads"
    page.get_by_label("Find").fill("ALPHA attention")
    assert page.locator("output").inner_text() == "1 of 8 workloads"
    assert len(shown(page, ".matrix .line")) == 1
    assert shown(page, ".matrix tbody th") == ["rotary+attention"]
    page.reload()
    assert page.get_by_label("Find").input_value() == "ALPHA attention"
    assert len(shown(page, ".matrix .line")) == 1
    page.get_by_label("Find").fill("")
    page.get_by_role("combobox", name="Verdict").select_option("REFUSED")
    assert page.locator("output").inner_text() == "1 of 8 workloads"


def test_a_table_is_sorted_both_ways_by_number(opened):
    page = opened("cases.html")
    head = page.locator("th", has_text="Decode")
    column = [cell.text_content().strip() for cell in page.locator("thead th").all()].index("Decode")
    cells = f"tbody tr > :nth-child({column + 1})"
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    rising = [float(text.strip("×–") or 0) for text in shown(page, cells)]
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    falling = [float(text.strip("×–") or 0) for text in shown(page, cells)]
    assert rising == sorted(rising) == falling[::-1]
    assert rising[0] < rising[-1]


def test_from_the_alarm_to_the_raw_samples_by_keyboard_alone(opened, pages, cases):
    page = opened("index.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    tab_to(page, ".alarm")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/cases/{CaseIdentity.of_case(cases['stepped']).key}.html")
    tab_to(page, "a[href*='runs/night-39/']")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/runs/night-39/cases/{cases['stepped'].key}.html")
    assert page.locator("#speed ~ .scroll svg, section:has(#speed) svg").count() >= 1


def test_a_slash_goes_to_the_filter(opened):
    page = opened("cases.html")
    page.keyboard.press("/")
    page.keyboard.type("beta")
    assert page.locator("output").inner_text() == "2 of 8 cases"


def test_a_stack_that_goes_by_its_short_name_is_found_by_its_members(opened, results, today, tmp_path):
    gathered = site.gather(results, today, StackNames({"alpha": ("rotary", "attention")}))
    for path, text in site.pages(gathered, today):
        render.save(tmp_path, path, text)
    for page, what in (("index.html", "3 of 8 workloads"), ("cases.html", "3 of 8 cases")):
        found = opened(page, tmp_path)
        found.get_by_label("Find").fill("attention")
        assert found.locator("output").inner_text() == what


def test_what_says_nothing_is_hidden_until_asked_for(opened):
    page = opened("compare.html")
    assert len(shown(page, "tbody tr")) == 5
    assert page.locator("output").inner_text() == "5 of 10 changes"
    page.get_by_label("Show what says nothing").check()
    assert len(shown(page, "tbody tr")) == 10
    assert page.locator("output").inner_text() == "10 of 10 changes"


def test_a_table_of_which_nothing_is_shown_is_not_shown_either(opened, cases, machine, today, tmp_path):
    for number in range(2):
        fields = {"stepped": timed(random.Random(number), 2.0) | {"environment": machine}}
        write_run(tmp_path, f"n-{number}", {"stepped": cases["stepped"]}, START + timedelta(days=number), fields)
    for path, text in site.pages(site.gather(tmp_path, today), today):
        render.save(tmp_path / "site", path, text)
    page = opened("compare.html", tmp_path / "site")
    assert page.locator("table").count() == 1
    assert not page.locator("table").is_visible()
    page.get_by_label("Show what says nothing").check()
    assert page.locator("table").is_visible()


def everything(pages):
    """One page of each kind, and all that differ by their content."""
    return (*pages.glob("*.html"), *pages.glob("cases/*.html"), *pages.glob("runs/*/index.html"))


@pytest.mark.parametrize(("scheme", "least", "most"), [("dark", 0, 60), ("light", 200, 255)])
def test_every_page_is_dark_or_light_as_asked_and_legible(opened, pages, scheme, least, most):
    page = opened("index.html", color_scheme=scheme)
    for path in (*everything(pages), *pages.glob("runs/sweep/cases/*.html")):
        page.goto(path.as_uri())
        assert least <= luminance(page) <= most, path.name
        assert contrast(page, "h1") > 4.5, path.name
        assert contrast(page, "main p, main td, main li") > 4.5, path.name


def test_no_page_is_wider_than_a_phone(opened, pages):
    page = opened("index.html", viewport={"width": 390, "height": 800})
    for path in (*everything(pages), *pages.glob("runs/sweep/cases/*.html")):
        page.goto(path.as_uri())
        assert width(page) == 390, path.name


def test_a_table_is_sorted_by_keyboard(opened):
    page = opened("cases.html")
    tab_to(page, "th button")
    head = page.locator("th", has=page.locator("button:focus"))
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    rising = shown(page, "tbody th, tbody td:first-child")
    page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "descending"
    assert shown(page, "tbody th, tbody td:first-child") == rising[::-1]


def test_without_scripts_everything_is_there(opened):
    page = opened("index.html", java_script_enabled=False)
    assert page.locator(".line").count() == 8
    assert page.locator(".alarm").count() == 1


def test_the_first_page_of_a_hundred_thousand_records_is_small_and_quick(opened, tmp_path):
    gathered = GatheredColumn(entries=list(many(RECORDS, CASES)))
    page = site.templates().get_template("overview.html.j2")
    text = page.render(view=overview.build(gathered), **site.shared("index"))
    path = render.save(tmp_path, "index.html", text)
    assert path.stat().st_size < FIRST_PAGE_BYTES
    page = opened("index.html", tmp_path)
    assert "100,000 records of 200 runs" in page.inner_text("header")
    assert int(page.evaluate("document.documentElement.dataset.ready")) < INTERACTIVE_MS
    begin = page.evaluate("performance.now()")
    page.get_by_label("Find").fill("model_3 s1")
    assert "of 500 workloads" in page.locator("output").inner_text()
    assert page.evaluate("performance.now()") - begin < INTERACTIVE_MS


def many(records, cases):
    """Nights of cases: 4 models x 5 stacks x 5 machines x 5 workloads."""
    over = (1.5, 1.49, 1.51)
    speed = Speed("decode", 2.0, "Hugging Face default", "faster", *over, over, over, "f", 10**9, 10**9, 0.5, "memory")
    shape = WorkloadShape(name="w", batch=1, prompt_tokens=8, new_tokens=4, dtype="float16")
    plain = CaseIdentity(model="m", weights="size full", stack=(), hardware="h", workload=shape)
    first = Entry(
        run="r", key="0" * 16, case="0" * 16, identity=plain, protocol="quick, new inputs", stack="none",
        members="", label="l", workload="w", status="passed",
        word="PASSED", tone="good", sentence="", started_at="2026-01-01T00:00:00+00:00", commit="c" * 40,
        provisional=False, checks=100, worst=0.5, speeds=(speed,), ceilings=None, faults="",
    )  # fmt: skip

    def kind(number):
        stack, workload = tuple(f"s{i}" for i in range(number // 4 % 5)), f"w{number // 100}"
        asked = {"model": f"model_{number % 4}", "stack": stack, "hardware": f"h{number // 20 % 5}"}
        identity = plain.model_copy(update=asked | {"workload": shape.model_copy(update={"name": workload})})
        named = {"stack": "+".join(stack) or "none", "workload": workload, "identity": identity}
        return replace(first, key=f"{number:016x}", case=identity.key, **named)

    kinds = [kind(number) for number in range(cases)]
    for night in range(records // cases):
        for one in kinds:
            yield replace(one, run=f"night-{night}", started_at=f"2026-01-01T00:00:00+00:{night:03d}")
