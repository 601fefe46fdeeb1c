"""Faults of the schemes that hold weights in fewer bits, which ordinary weights do not show: around `quantize`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harness.spec.mutant import Mutant

Quantize = Callable[[Tensor], Any]
"""A matrix [N, K] -> its Codes."""
FLOOR = 1e-3
"""Of the largest weight of a row, in a fault that gives small rows no scale of their own."""


def _quantizing(change: Callable[[Quantize, Tensor], Any], name: str, kind: str) -> Mutant:
    """`change(quantize, matrix)` gives the codes in the right ones' place."""

    def plant(scheme: Any) -> Any:
        return replace(scheme, quantize=lambda weight: change(scheme.quantize, weight))

    return Mutant(name, kind, plant)


def _by_largest_value(quantize: Quantize, weight: Tensor) -> Any:
    """What is farther below 0 than the largest value is above it has no code."""
    return quantize(weight.clamp(min=-weight.amax(1, keepdim=True)))


def _floored(quantize: Quantize, weight: Tensor) -> Any:
    held = quantize(torch.cat((weight, weight.new_full((len(weight), 1), FLOOR)), 1))
    return replace(held, codes=held.codes[:, :-1])


def _zero_by_zero(quantize: Quantize, weight: Tensor) -> Any:
    held = quantize(weight)
    empty = ~weight.any(1, keepdim=True)
    return replace(held, codes=held.codes.float().masked_fill(empty, torch.nan).to(held.codes.dtype))


def _range_without_zero(quantize: Quantize, weight: Tensor) -> Any:
    """A group whose weights have one sign has its zero past its codes, in a byte that wraps around."""
    width = 2 * (held := quantize(weight)).codes.shape[1] // held.scales.shape[1]
    filled = torch.nn.functional.pad(weight, (0, -weight.shape[1] % width)).unflatten(1, (-1, width))
    nearest = filled.amin(2).clamp(min=0) + filled.amax(2).clamp(max=0)
    held = quantize((filled - nearest[..., None]).flatten(1)[:, : weight.shape[1]])
    moved = (nearest.float() / held.scales).round().int()
    return replace(held, zeros=((held.zeros.int() - moved) & 255).to(torch.uint8))


def _last_scale_of_its_neighbor(quantize: Quantize, weight: Tensor) -> Any:
    held = quantize(weight)
    scales = held.scales.clone()
    scales[:, -1] = scales[:, -2:][:, 0]
    return replace(held, scales=scales)


INT8_MUTANTS = (
    _quantizing(_by_largest_value, "scale of the largest value, not of the largest magnitude", "range"),
    _quantizing(_floored, "small rows without a scale of their own", "underflow"),
)
FP8_MUTANTS = (*INT8_MUTANTS, _quantizing(_zero_by_zero, "row of zeros divided by a scale of zero", "division"))
INT4_MUTANTS = (
    _quantizing(_range_without_zero, "range of a group without zero", "range"),
    _quantizing(_last_scale_of_its_neighbor, "last group with the scale of the one before", "tail"),
)
