"""What a stack is called: by what it lacks and adds to the full stack, where that is shorter than its members."""

from __future__ import annotations

import pytest

from harness.build import registry
from harness.records.stack_name import BY_MEMBERS, StackNames

FULL = ("kv_cache", "linear", "rotary", "attention", "cuda_kernels")
NAMES = StackNames({"toy": FULL})


@pytest.mark.parametrize(
    ("members", "name"),
    [
        ((), "none"),
        (FULL, "full"),
        (FULL[:-1], "full - cuda_kernels"),
        (("kv_cache", "linear_int4", *FULL[1:4]), "full - cuda_kernels + linear_int4"),
        (("kv_cache", "linear_int4", *FULL[2:4]), "kv_cache+linear_int4+rotary+attention"),
        (("kv_cache",), "kv_cache"),
        (("kv_cache", "linear"), "kv_cache+linear"),
    ],
)
def test_a_stack_has_the_shorter_of_two_names(members, name):
    assert NAMES.of("toy", members) == name


def test_a_model_without_a_menu_keeps_the_members(make_case):
    label = make_case(model="gone", optimizations=FULL).label()
    assert BY_MEMBERS.label(label) == NAMES.label(label) == label
    assert NAMES.legend([label]) == ()


def test_a_label_names_the_stack_and_the_legend_its_members(make_case):
    label = make_case(optimizations=FULL).label()
    assert NAMES.label(f"{label}: it broke") == "toy/tiny full on cpu smoke: it broke"
    (stack,) = NAMES.legend([label, label])
    assert stack.sentence() == f"`full` of toy is {'+'.join(FULL)}"


def test_no_two_stacks_of_a_model_share_a_name():
    (model, *_) = registry.names()
    names = registry.stack_names([model])
    menu = registry.load(model).menu.names()
    stacks = [tuple(name for at, name in enumerate(menu) if bits >> at & 1) for bits in range(2 ** len(menu))]
    assert len({names.of(model, stack) for stack in stacks}) == len(stacks)


def test_a_model_that_is_gone_is_no_mistake():
    assert registry.stack_names(["a_model_of_last_year"]) == StackNames({})
