from __future__ import annotations

import dataclasses
import re

import pytest

from harness.build import registry
from harness.errors import HarnessError, UnknownName
from harness.spec.optimization import Menu
from harness.spec.parameter import Parameter

ROWS = Parameter("rows", 8, range(1, 65), "Rows.")
WIDE = Parameter("page_tokens", 64, (16, 32), "Tokens.")


def test_models_are_directories_with_an_init_but_common_and_private_ones(tmp_path):
    for name in ("b_model", "a_model", "common", "_draft"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('listing must not import')")
    (tmp_path / "empty").mkdir()
    assert registry.names(tmp_path) == ("a_model", "b_model")


def test_an_unknown_model_is_refused_by_name():
    with pytest.raises(UnknownName, match="unknown model 'no_such_model'"):
        registry.load("no_such_model")


@pytest.mark.parametrize("name", registry.names())
def test_a_model_is_a_commit_of_the_hub_and_no_branch(name):
    assert re.fullmatch(r"[0-9a-f]{40}", registry.load(name).revision)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda items: (*items, items[0]), "on the menu twice"),
        (lambda items: items[1:], "'full' names 'rotary', which is not on the menu"),
        (lambda items: items[::-1], "would be applied before"),
        (lambda items: (*items, dataclasses.replace(items[0], name="x", conflicts=("y",))), "'x' names 'y'"),
        (
            lambda items: (dataclasses.replace(items[0], parameters=(ROWS,)), *items[1:]),
            "'rows' of 'rotary' is no",
        ),
        (
            lambda items: (dataclasses.replace(items[0], parameters=(WIDE,)), *items[1:]),
            "is 64 by default, which",
        ),
        (lambda items: (dataclasses.replace(items[0], numerics="four_bit"), *items[1:]), "judged by another's rules"),
    ],
)
def test_a_menu_that_contradicts_itself_is_refused(model, change, message):
    registry.check_menu("toy", model.menu)
    with pytest.raises(HarnessError, match=message):
        registry.check_menu("toy", Menu(change(model.menu.items), model.menu.full))
