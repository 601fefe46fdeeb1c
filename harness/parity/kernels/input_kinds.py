"""The kinds of inputs that every kernel is judged on, whatever cases its author chose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from harness.parity.kernels.fixed_menu import CANCELING, ITEMS, cases
from harness.records.checks import Check
from harness.spec.kernel import Kernel, OpCase


def _subnormal(x: Tensor) -> bool:
    return bool(((x != 0) & (x.abs() < torch.finfo(x.dtype).tiny)).any())


CANCELED = 1 / 16
"""The most that is left of the parts of a sum that cancels."""
LARGE_ON_THE_WAY = 1 / 4
"""The least share of all parts that has been added up before they cancel; of random signs it is next to none."""
OF_ALL = 1 / 4
"""The least share of the sums along one axis that cancel: of values that are merely drawn a few do."""
FEWEST_PARTS = 8


def _cancels(x: Tensor) -> bool:
    """Whether the values along some axis add up to much on the way and to little in the end."""
    return any(_cancels_along(x.double(), axis) for axis in range(x.ndim) if x.shape[axis] >= FEWEST_PARTS)


def _cancels_along(x: Tensor, axis: int) -> bool:
    parts, upto = x.abs().sum(axis), x.cumsum(axis)
    little = upto.select(axis, -1).abs() <= CANCELED * parts
    large = upto.abs().amax(axis) >= LARGE_ON_THE_WAY * parts
    return bool((little & large & (parts > 0)).double().mean() >= OF_ALL)


SHOWS: Mapping[str, Callable[[Tensor], bool]] = {
    "subnormal": _subnormal,
    CANCELING: _cancels,
    "nan row": lambda x: bool(x.isnan().any()),
    "transposed": lambda x: x.ndim > 2 and sorted(x.stride(), reverse=True) != list(x.stride()),
    "sliced": lambda x: x.shape[0] > 1 and not x.is_contiguous(),
    "expanded": lambda x: 0 in x.stride(),
    "misaligned": lambda x: x.data_ptr() % 16 != 0,
}
"""What an item must do to one of the inputs of its case: a name alone is no item."""


def check_input_kinds(kernel: Kernel, dtype: torch.dtype, device: torch.device, seed: int) -> Check:
    """Count the items that no case of `kernel` is and that it does not declare inapplicable, and those that a case is
    named after without being one."""
    met = {"far"} if kernel.int64_offset_cases else set[str]()
    false: list[str] = []
    for case in cases(kernel, dtype, device, seed):
        named = [item for item in ITEMS if item in case.name]
        met.update(named)
        false += [f"`{case.name}` is not {item}" for item in named if not _shows(item, case)]
    missing = [f"no case is {item}" for item in ITEMS if item not in met and item not in kernel.inapplicable]
    wrong = [*missing, *false]
    return Check(
        level="op",
        subject=kernel.name,
        name="kinds of inputs",
        rule="input kinds",
        error=len(wrong),
        noise=0,
        limit=0,
        where="; ".join(wrong[:4]),
    )


def _shows(item: str, case: OpCase) -> bool:
    return item not in SHOWS or any(map(SHOWS[item], _floats(case)))


def _floats(case: OpCase) -> Iterator[Tensor]:
    return (x for x in case.inputs.values() if isinstance(x, Tensor) and x.is_floating_point() and x.itemsize > 1)
