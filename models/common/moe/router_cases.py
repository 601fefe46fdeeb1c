"""What every router kernel is judged on beside its own cases, and what no router can be."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from models.common.kernels import values
from models.common.kernels.menu_items import NO_MASK, UNIT_ROWS

DRAWN: dict[str, Callable[..., Tensor]] = {
    "offset": partial(values.normal, offset=4.0),
    "outliers": partial(values.outliers, scale=0.2),
}
"""Other rows that a router may meet."""


def all_alike(x: Tensor, weight: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Rows and weights whose scores are sums of few halves, which nobody rounds, and the same for every expert."""
    few = values.ties(tuple(x.shape), x.dtype, x.device, generator)
    return {"x": few, "weight": values.constant(tuple(weight.shape), x.dtype, x.device, 0.5)}


def near_one(experts: int, hidden: int, dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Tensor:
    """A weight [experts, hidden] with which rows of signs that cancel give scores of a hundredth of their parts."""
    return values.normal((experts, hidden), dtype, device, generator, scale=0.1, offset=1.0)


NO_ORDER = "scores that differ by less than their rounding have no right order"
INAPPLICABLE = {
    **UNIT_ROWS,
    **NO_MASK,
    "small": NO_ORDER,
    "subnormal": NO_ORDER,
    "near-max": "scores that overflow have no order",
    "nan row": "scores that are no numbers have no order",
    "far": "it serves the few rows of a decode step",
}
