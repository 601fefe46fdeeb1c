"""Every kernel that a model offers is judged on the fixed menu, item by item, or says why it cannot be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from harness.build import registry
from harness.parity.kernels.kernel_checks import ITEMS, cases, check_far, check_kernel
from harness.spec.kernel import Kernel, OpCase
from models.common.kernels import values

CPU = torch.device("cpu")
OFFERED = {
    kernel.name: kernel
    for model in registry.names()
    for item in registry.load(model).menu.items
    for kernel in item.kernels
}


def floats(case: OpCase) -> Iterator[Tensor]:
    return (x for x in case.inputs.values() if isinstance(x, Tensor) and x.is_floating_point() and x.itemsize > 1)


def subnormal(x: Tensor) -> bool:
    return bool(((x != 0) & (x.abs() < torch.finfo(x.dtype).tiny)).any())


SHOWS: Mapping[str, Callable[[Tensor], bool]] = {
    "subnormal": subnormal,
    "nan row": lambda x: bool(x.isnan().any()),
    "transposed": lambda x: x.ndim > 2 and sorted(x.stride(), reverse=True) != list(x.stride()),
    "sliced": lambda x: x.shape[0] > 1 and not x.is_contiguous(),
    "expanded": lambda x: 0 in x.stride(),
    "misaligned": lambda x: x.data_ptr() % 16 != 0,
}
"""What an item must do to one of the inputs."""


def computed(kernel: Kernel) -> torch.dtype:
    return next(filter(kernel.computes, (torch.float32, torch.float16)))


@pytest.mark.parametrize("name", OFFERED)
def test_every_item_is_met_or_inapplicable_for_a_reason(name: str) -> None:
    kernel = OFFERED[name]
    menu = list(cases(kernel, computed(kernel), CPU, seed=1))
    found = {item for item in ITEMS for case in menu if item in case.name} | (
        {"far"} if kernel.int64_offset_cases else set()
    )
    assert found ^ kernel.inapplicable.keys() == set(ITEMS)
    assert all(kernel.inapplicable.values())
    for case in menu:
        for item, shows in SHOWS.items():
            assert item not in case.name or any(map(shows, floats(case))), case.name


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
