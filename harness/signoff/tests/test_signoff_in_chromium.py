"""The page of a sign-off in a real browser, from disk: signed and refused, dark, narrow and by keyboard alone."""

from __future__ import annotations

import pytest

from harness.signoff.tests.made import asked, document, faults, record, stored
from harness.tests.seen import contrast, luminance, tab_to, width


@pytest.fixture
def page_of(tmp_path, case, environment):
    """A function: policy to the page of its decision. `first` signs, `default` refuses for want of a history."""

    def made(policy):
        stored(tmp_path / "records", [record(case, environment), faults(case, environment)])
        asked(tmp_path, f"policy={policy}")
        return document(tmp_path) / "index.html"

    return made


@pytest.mark.parametrize(
    ("policy", "word", "states"), [("first", "SIGNED", {"met"}), ("default", "REFUSED", {"met", "missing"})]
)
def test_the_page_says_what_was_decided_in_words(visit, page_of, policy, word, states):
    page = visit(page_of(policy))
    assert word in page.locator("main").inner_text()
    marks = [mark.inner_text() for mark in page.locator("tbody .mark").all()]
    assert len(marks) == 14
    assert {mark.split()[-1] for mark in marks} == states, "a word beside shape and color"
    assert page.locator("text=SHA-256").count() == 1


def test_what_would_supply_the_missing_is_reached_by_keyboard(visit, page_of):
    page = visit(page_of("default"))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    tab_to(page, ".command")
    assert page.evaluate("document.activeElement.textContent").startswith("python -m harness +model=")


@pytest.mark.parametrize(("scheme", "least", "most"), [("dark", 0, 60), ("light", 200, 255)])
def test_the_page_is_dark_or_light_as_asked_legible_and_fits_a_phone(visit, page_of, scheme, least, most):
    page = visit(page_of("default"), color_scheme=scheme, viewport={"width": 390, "height": 800})
    assert least <= luminance(page) <= most
    assert contrast(page, "h1") > 4.5
    assert contrast(page, "tbody .mark") > 4.5
    assert contrast(page, "main code") > 4.5
    assert width(page) == 390
