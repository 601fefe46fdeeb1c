"""The weighted sum over a token's experts, read from wherever its pairs were computed."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.common.kernels.arithmetic import interpreted
from models.common.kernels.pdl import early_start

BLOCK, WARPS = 1024, 4


@triton.jit
def combine_kernel(
    x_ptr,
    places_ptr,
    weights_ptr,
    out_ptr,
    H,
    SLOTS: tl.constexpr,
    BLOCK: tl.constexpr,
    PDL: tl.constexpr,
):
    """Grid (blocks of H, N): out [N, H] = sum over slots of weights [N, SLOTS] times x at places [N SLOTS]."""
    dtype: tl.constexpr = out_ptr.dtype.element_ty
    weights_dtype: tl.constexpr = weights_ptr.dtype.element_ty
    token = tl.program_id(1)
    h = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    total = tl.zeros((BLOCK,), tl.float32)
    for slot in tl.static_range(SLOTS):
        place = tl.load(places_ptr + token * SLOTS + slot).to(tl.int64)
        share = tl.load(weights_ptr + token * SLOTS + slot).to(tl.float32)
        x = tl.load(x_ptr + place * H + h, mask=h < H, other=0.0).to(tl.float32)
        total += (x * share).to(weights_dtype).to(tl.float32)
    tl.store(out_ptr + token.to(tl.int64) * H + h, total.to(dtype), mask=h < H)


def combine(projected: Tensor, places: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """projected [P, H] contiguous, places [N k] into its rows, weights [N, k] -> {"out": [N, H]}."""
    if not (projected.is_contiguous() and places.is_contiguous() and weights.is_contiguous()):
        raise ValueError("projected, places and weights must be contiguous, or other rows would be summed")
    tokens, slots = weights.shape
    hidden = projected.shape[1]
    block = triton.next_power_of_2(hidden) if interpreted() else BLOCK
    out = torch.empty(tokens, hidden, dtype=projected.dtype, device=projected.device)
    combine_kernel[(triton.cdiv(hidden, block), tokens)](
        projected, places, weights, out, hidden, SLOTS=slots, BLOCK=block, **early_start(projected), num_warps=WARPS
    )
    return {"out": out}
