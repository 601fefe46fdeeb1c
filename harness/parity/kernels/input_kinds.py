"""The kinds of inputs that every kernel is judged on, whatever cases its author chose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from harness.parity.kernels.kernel_checks import cases
from harness.records.checks import Check
from harness.spec.kernel import Kernel, OpCase

ITEMS = (
    "small",
    "offset",
    "peaky",
    "outliers",
    "near-max",
    "subnormal",
    "nan row",
    "all masked",
    "ties",
    "constant",
    "transposed",
    "sliced",
    "expanded",
    "misaligned",
    "far",
)
"""The fixed menu (docs/method.md 1.3): each item is in the name of a case of every kernel that does not declare it
inapplicable. `far` stands for offsets past 2^31 elements."""


def _subnormal(x: Tensor) -> bool:
    return bool(((x != 0) & (x.abs() < torch.finfo(x.dtype).tiny)).any())


SHOWS: Mapping[str, Callable[[Tensor], bool]] = {
    "subnormal": _subnormal,
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
