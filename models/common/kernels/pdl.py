"""Programmatic dependent launch: a kernel is scheduled while the one before it drains, and waits on the device before
it touches what that one wrote. Each kernel launched so also lets the next one start, and every reader of its outputs
must wait in turn; a kernel launched without it waits by itself."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.common.kernels.arithmetic import interpreted

HOPPER = (9, 0)


@cache
def offers(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= HOPPER


def early_start(x: Tensor) -> dict[str, Any]:
    """The launch arguments of a Triton kernel with a constexpr `PDL`: an early start where x's device has it."""
    if interpreted() or not offers(x.device):
        return {"PDL": False}
    return {"PDL": True, "launch_pdl": True}


def prefetch_elements(weight: Tensor) -> int:
    """Bytes of one row [..., K] of `weight` that `prefetch_rows` may ask for: all of them, or 0 where rows do not begin
    and end at multiples of 16 bytes."""
    size = weight.element_size()
    begins = [weight.data_ptr(), *(stride * size for stride in weight.stride()[:-1])]
    row = weight.shape[-1] * size
    return 0 if any(place % 16 for place in (*begins, row)) else row


@triton.jit
def prefetch_rows(at, stride, ROWS: tl.constexpr, BYTES: tl.constexpr):
    """Ask the L2 cache for the first BYTES of ROWS rows; no thread waits for them."""
    for row in tl.static_range(ROWS):
        tl.inline_asm_elementwise(
            "{ .reg .pred p; .reg .u32 t; mov.u32 t, %tid.x; setp.eq.u32 p, t, 0;"
            " @p cp.async.bulk.prefetch.L2.global [$1], $2; mov.u32 $0, 0; }",
            "=r,l,r",
            [(at + row * stride).to(tl.int64), BYTES],
            dtype=tl.int32,
            is_pure=False,
            pack=1,
        )
