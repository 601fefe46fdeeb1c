"""Every kernel that a model offers is judged on the fixed menu, item by item, or says why it cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from harness.build import registry
from harness.parity.kernels.fixed_menu import ITEMS, cases
from harness.parity.kernels.input_kinds import check_input_kinds
from harness.parity.kernels.kernel_checks import check_far, check_kernel
from harness.spec.kernel import Kernel, OpCase
from models.common.kernels import values

CPU = torch.device("cpu")
OFFERED = {
    kernel.name: kernel
    for model in registry.names()
    for item in registry.load(model).menu.items
    for kernel in item.kernels
}


def computed(kernel: Kernel) -> torch.dtype:
    return next(filter(kernel.computes, (torch.float32, torch.float16)))


@pytest.mark.parametrize("name", OFFERED)
def test_every_item_is_met_or_inapplicable_for_a_reason(name: str) -> None:
    kernel = OFFERED[name]
    check = check_input_kinds(kernel, computed(kernel), CPU, seed=1)
    assert check.passed, check.where
    met = {item for item in ITEMS for case in cases(kernel, computed(kernel), CPU, seed=1) if item in case.name}
    assert kernel.inapplicable.keys().isdisjoint(met), "declared inapplicable, and met"
    assert all(kernel.inapplicable.values())


def test_a_kind_that_no_case_is_or_that_is_one_by_name_alone_is_refused() -> None:
    kernel = OFFERED["rms_norm"]

    def named(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
        for case in kernel.cases(dtype, device, generator):
            if "peaky" not in case.name and "outliers" not in case.name:
                inputs = case.inputs.items()
                yield OpCase(case.name, {n: x.contiguous() if isinstance(x, Tensor) else x for n, x in inputs})

    check = check_input_kinds(replace(kernel, cases=named), torch.float32, CPU, seed=1)
    assert not check.passed
    assert "no case is outliers" in check.where
    assert "is not sliced" in check.where


@pytest.mark.parametrize("name", OFFERED)
def test_the_twin_itself_passes_its_menu(name: str) -> None:
    """Else nobody could: what no right answer meets is no item. In bfloat16, which the interpreter does not compute."""
    twin = replace(OFFERED[name], launch=OFFERED[name].eager)
    assert [check for check in check_kernel(twin, torch.bfloat16, CPU, seed=3) if not check.passed] == []


@pytest.mark.parametrize("name", [name for name, kernel in OFFERED.items() if kernel.int64_offset_cases])
def test_far_cases_are_judged_where_they_are_not_far(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "FAR", 1 << 17)
    kernel = OFFERED[name]
    right = check_far(replace(kernel, launch=kernel.eager), torch.bfloat16, CPU, seed=3)
    assert right != []
    assert [check for check in right if not check.passed] == []
