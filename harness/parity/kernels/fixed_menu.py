"""What every kernel is judged on: its own cases, one of them drawn again, and the items that must be among them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice

import torch

from harness.spec.kernel import Kernel, OpCase

CANCELING = "canceling"
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
    CANCELING,
    "transposed",
    "sliced",
    "expanded",
    "misaligned",
    "far",
)
"""The fixed menu (docs/method.md 1.3): each item is in the name of a case of every kernel that does not declare it
inapplicable. `far` stands for offsets past 2^31 elements."""


def ordinary(case: OpCase) -> bool:
    """Whether a case is none of the items: its values are drawn, none of them special."""
    return not any(item in case.name for item in ITEMS)


def cases(kernel: Kernel, dtype: torch.dtype, device: torch.device, seed: int) -> Iterator[OpCase]:
    """What a kernel is judged on: its menu, and the first entry drawn again."""

    def draw(seed: int) -> Iterator[OpCase]:
        return kernel.cases(dtype, device, torch.Generator(device).manual_seed(seed))

    redrawn = (replace(case, name=f"{case.name}, redrawn") for case in islice(draw(seed + 1), 1))
    return chain(draw(seed), redrawn)
