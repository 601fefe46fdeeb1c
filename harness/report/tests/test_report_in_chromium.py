"""A report in a real browser, from disk: every page dark and light, narrow, and reached by keyboard alone."""

import pytest

from harness.report import render
from harness.tests.seen import contrast, luminance, tab_to, width


@pytest.fixture(scope="module")
def pages(ends, tmp_path_factory):
    _, plan, records = ends
    out = tmp_path_factory.mktemp("reports")
    return render.write(tuple(records.values()), plan, "run-1", out, ["html"])


@pytest.mark.parametrize(("scheme", "least", "most"), [("dark", 0, 60), ("light", 200, 255)])
def test_every_page_is_dark_or_light_as_asked_and_legible(visit, pages, scheme, least, most):
    page = visit(pages[0], color_scheme=scheme)
    for path in pages:
        page.goto(path.as_uri())
        assert least <= luminance(page) <= most, path.name
        assert contrast(page, "h1") > 4.5, path.name
        assert contrast(page, "main p, main td, main li") > 4.5, path.name


def test_no_page_is_wider_than_a_phone(visit, pages):
    page = visit(pages[0], viewport={"width": 390, "height": 800})
    for path in pages:
        page.goto(path.as_uri())
        assert width(page) == 390, path.name


def test_from_the_verdict_to_a_case_by_keyboard_alone(visit, pages):
    page = visit(pages[0])
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    tab_to(page, "a[href^='cases/']")
    page.keyboard.press("Enter")
    page.wait_for_url("**/cases/*.html")
    assert page.locator("h1").inner_text()


def test_no_verdict_is_told_by_color_alone(visit, pages):
    page = visit(pages[0])
    for mark in page.locator(".mark").all():
        glyph = mark.locator(".glyph").inner_text()
        assert len(mark.inner_text().replace(glyph, "").strip()) > 2, "a word beside shape and color"
