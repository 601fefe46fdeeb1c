"""The values and layouts that every kernel meets, each as one small case (docs/method.md 1.3), and why some meet fewer.

An item changes the named inputs of a case and nothing else. New values lie in memory as the old ones did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.spec.kernel import OpCase
from models.common.kernels import values

Change = Callable[[Tensor, torch.Generator], Tensor]

VALUES: Mapping[str, Change] = {
    "small": lambda x, g: values.normal(*_like(x, g), scale=1e-3),
    "offset": lambda x, g: values.normal(*_like(x, g), offset=4.0),
    "outliers": lambda x, g: values.outliers(*_like(x, g)),
    "subnormal": lambda x, g: values.subnormal(*_like(x, g)),
    "nan row": lambda x, g: values.with_nan_row(x, x.shape[0] - 1),
    "ties": lambda x, g: values.ties(*_like(x, g)),
    "constant": lambda x, g: values.constant(tuple(x.shape), x.dtype, x.device, 0.5),
}
LAYOUTS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda x: values.swapped(x, 0, 1),
    "sliced": values.sliced,
    "expanded": lambda x: x[:1].expand_as(x),
    "misaligned": values.misaligned,
}

NOTHING_SUMMED = {"canceling": "no sum has more than two terms"}
SQUARES = {"canceling": "squares have one sign"}
NO_SOFTMAX = {"peaky": "there is no softmax to be peaked"}
NO_MASK = {"all masked": "there is no mask"}
NO_ATTENTION = {**NO_SOFTMAX, **NO_MASK}
UNIT_ROWS = {"transposed": "the launch refuses rows whose elements do not lie side by side"}
PLAIN_ROWS = {**NO_ATTENTION, **UNIT_ROWS}
"""Of a kernel that takes rows."""
SQUARED = {torch.float16: 0.9, torch.bfloat16: 1e-21, torch.float32: 1e-21}
"""The share of the largest value whose squares float32 still adds up: a norm's contract ends there."""


def items(
    case: Mapping[str, Any], names: Sequence[str], generator: torch.Generator, *chosen: str, most: float = 0.9
) -> Iterator[OpCase]:
    """The `chosen` items of the inputs `names`. `most` is the share of the largest value that near-max goes up to."""
    return (together(case, generator, {item: names}, most) for item in chosen)


def together(
    case: Mapping[str, Any], generator: torch.Generator, chosen: Mapping[str, Sequence[str]], most: float = 0.9
) -> OpCase:
    """One case of several items, each of inputs of its own: {item: names}."""
    changed = {name: _changed(item, case[name], generator, most) for item, names in chosen.items() for name in names}
    return OpCase(", ".join(chosen), {**case, **changed})


def _changed(item: str, x: Tensor, generator: torch.Generator, most: float) -> Tensor:
    if item in LAYOUTS:
        return LAYOUTS[item](x)
    if item == "near-max":
        return _laid_out(x, values.near_max(*_like(x, generator), share=most))
    return _laid_out(x, VALUES[item](x, generator))


def _like(x: Tensor, generator: torch.Generator) -> tuple[tuple[int, ...], torch.dtype, torch.device, torch.Generator]:
    return tuple(x.shape), x.dtype, x.device, generator


def _laid_out(like: Tensor, made: Tensor) -> Tensor:
    return torch.empty_strided(like.shape, like.stride(), dtype=like.dtype, device=like.device).copy_(made)
