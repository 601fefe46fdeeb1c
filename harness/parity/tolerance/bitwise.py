"""Bit-for-bit comparison, for results that only move bits."""

from __future__ import annotations

import torch
from torch import Tensor

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def bits(tensor: Tensor) -> Tensor:
    """The same memory read as integers of the same width: equal exactly where the bits are."""
    return tensor.view(_BITS[tensor.element_size()])


def differs(o: Tensor, want: Tensor) -> Tensor:
    """Boolean, per element: other bits, any NaN counting as any other. +0 and -0 differ."""
    unequal = bits(o) != bits(want)
    if not o.is_floating_point():
        return unequal
    return unequal & ~(_is_nan(o) & _is_nan(want))


def mismatches(o: Tensor, want: Tensor) -> tuple[int, str]:
    """How many elements of two tensors of equal shape and dtype differ; the first one's index and, for floating
    point, the largest distance in units in the last place."""
    wrong = differs(o, want)
    count = int(wrong.count_nonzero())
    if not count:
        return 0, ""
    first = torch.unravel_index(wrong.flatten().int().argmax(), wrong.shape)
    where = str(tuple(int(i) for i in first))
    if o.is_floating_point():
        where += f" ulp={int((_ordinal(o) - _ordinal(want))[wrong].abs().max())}"
    return count, where


def _is_nan(tensor: Tensor) -> Tensor:
    return torch.isnan(tensor if tensor.element_size() > 1 else tensor.float())


def _ordinal(tensor: Tensor) -> Tensor:
    """Position on the number line counted in representable values: neighbors differ by 1, +0 and -0 by 0."""
    width = tensor.element_size() * 8
    raw = bits(tensor).long()
    magnitude = raw & ((1 << (width - 1)) - 1)
    negative = raw < 0 if width > 8 else raw >= 128
    return torch.where(negative, -magnitude, magnitude)
