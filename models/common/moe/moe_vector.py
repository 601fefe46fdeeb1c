"""Experts of few tokens: each (token, slot) pair streams the rows of its own expert, nothing is sorted.

`gate_up` writes silu(gate) * up of every pair; `down` sums a token's experts in one program, in slot order, so that the
result does not depend on timing. Where tokens share an expert its rows are found in L2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.common.kernels.arithmetic import interpreted, silu
from models.common.kernels.pdl import early_start, prefetch_elements, prefetch_rows


@dataclass(frozen=True)
class ExpertShape:
    """`block_n` weight rows of a program and `block_k` of their elements per step."""

    block_n: int
    block_k: int
    num_warps: int
    unroll: int = 2


def gate_up_shape(outputs: int, k: int) -> ExpertShape:
    """The fastest of a sweep on an H200 for one token, 8 of 128 experts; so is down_shape."""
    if interpreted():
        return ExpertShape(min(2048, triton.next_power_of_2(outputs)), max(16, min(1024, k & -k)), 4, 1)
    return ExpertShape(1, min(512, max(16, k & -k)), 4)


def down_shape(outputs: int, k: int) -> ExpertShape:
    if interpreted():
        return ExpertShape(min(512, triton.next_power_of_2(outputs)), max(16, min(1024, k & -k)), 4, 1)
    return ExpertShape(2, min(128, max(16, k & -k)), 4, 3)


@triton.jit
def gate_up_kernel(
    x_ptr,
    ids_ptr,
    weight_ptr,
    out_ptr,
    I,
    K,
    stride_x,
    stride_expert,
    stride_w,
    SLOTS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    UNROLL: tl.constexpr,
    EVEN_K: tl.constexpr,
    PDL: tl.constexpr,
):
    """Grid (blocks of I, pairs): out [pairs, I] from x [N, K] and weight [E, 2 I, K], gate rows first."""
    dtype: tl.constexpr = out_ptr.dtype.element_ty
    start, pair = tl.program_id(0) * BLOCK_N, tl.program_id(1)
    if PDL:
        # In this order, so that whatever starts now finds `ids` written.
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    expert = tl.load(ids_ptr + pair).to(tl.int64)
    rows = tl.minimum(tl.arange(0, BLOCK_N), I - 1 - start)[:, None]
    weight_at = weight_ptr + expert * stride_expert + start.to(tl.int64) * stride_w
    half = tl.cast(I, tl.int64) * stride_w
    x_at = x_ptr + (pair // SLOTS).to(tl.int64) * stride_x
    gate = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
    up = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
    for chunk in tl.range(0, tl.cdiv(K, BLOCK_K), num_stages=1, loop_unroll_factor=UNROLL):
        k = chunk * BLOCK_K + tl.arange(0, BLOCK_K)[None, :]
        at = weight_at + rows * stride_w + k
        if EVEN_K:
            gate_rows = tl.load(at, eviction_policy="evict_first").to(tl.float32)
            up_rows = tl.load(at + half, eviction_policy="evict_first").to(tl.float32)
            x = tl.load(x_at + k).to(tl.float32)
        else:
            gate_rows = tl.load(at, mask=k < K, other=0.0, eviction_policy="evict_first").to(tl.float32)
            up_rows = tl.load(at + half, mask=k < K, other=0.0, eviction_policy="evict_first").to(tl.float32)
            x = tl.load(x_at + k, mask=k < K, other=0.0).to(tl.float32)
        gate += gate_rows * x
        up += up_rows * x
    n = start + tl.arange(0, BLOCK_N)
    opened = silu(tl.sum(gate, 1).to(dtype).to(tl.float32), dtype)
    out = opened * tl.sum(up, 1).to(dtype).to(tl.float32)
    tl.store(out_ptr + pair.to(tl.int64) * I + n, out.to(dtype), mask=n < I)


@triton.jit
def down_kernel(
    x_ptr,
    ids_ptr,
    weights_ptr,
    weight_ptr,
    out_ptr,
    H,
    K,
    stride_expert,
    stride_w,
    SLOTS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    UNROLL: tl.constexpr,
    EVEN_K: tl.constexpr,
    PREFETCH: tl.constexpr,
    PDL: tl.constexpr,
):
    """Grid (blocks of H, N): out [N, H], the sum over slots of weights [N, SLOTS] times x [N SLOTS, K] times weight
    [E, H, K]; each product and each weighted product is rounded as separate operations round. The rows of all slots are
    read side by side, so that one program has enough loads in flight."""
    ALL: tl.constexpr = triton.next_power_of_2(SLOTS)
    dtype: tl.constexpr = out_ptr.dtype.element_ty
    weights_dtype: tl.constexpr = weights_ptr.dtype.element_ty
    start, token = tl.program_id(0) * BLOCK_N, tl.program_id(1)
    if PDL:
        if PREFETCH > 0:
            # The kernel before this one, gate_up, waited for the router before it let this one start.
            for early in tl.static_range(SLOTS):
                chosen = tl.load(ids_ptr + token * SLOTS + early).to(tl.int64)
                rows_at = weight_ptr + chosen * stride_expert + start.to(tl.int64) * stride_w
                prefetch_rows(rows_at, stride_w, BLOCK_N, PREFETCH)
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    row = tl.arange(0, ALL * BLOCK_N)
    slot = row // BLOCK_N
    pair = token * SLOTS + tl.minimum(slot, SLOTS - 1)
    expert = tl.load(ids_ptr + pair).to(tl.int64)
    share = tl.load(weights_ptr + pair, mask=slot < SLOTS, other=0.0).to(tl.float32)
    n = tl.minimum(start + row % BLOCK_N, H - 1)
    weight_at = weight_ptr + (expert * stride_expert + n.to(tl.int64) * stride_w)[:, None]
    x_at = x_ptr + (pair.to(tl.int64) * K)[:, None]
    partial = tl.zeros((ALL * BLOCK_N, BLOCK_K), tl.float32)
    for chunk in tl.range(0, tl.cdiv(K, BLOCK_K), num_stages=1, loop_unroll_factor=UNROLL):
        k = chunk * BLOCK_K + tl.arange(0, BLOCK_K)[None, :]
        if EVEN_K:
            weight = tl.load(weight_at + k, eviction_policy="evict_first").to(tl.float32)
            x = tl.load(x_at + k).to(tl.float32)
        else:
            weight = tl.load(weight_at + k, mask=k < K, other=0.0, eviction_policy="evict_first").to(tl.float32)
            x = tl.load(x_at + k, mask=k < K, other=0.0).to(tl.float32)
        partial += weight * x
    product = tl.sum(partial, 1).to(dtype).to(tl.float32)
    weighted = (product * share).to(weights_dtype).to(tl.float32)
    # A repeated last slot has weight 0, but 0 times NaN is none.
    weighted = tl.where(slot < SLOTS, weighted, 0.0)
    total = tl.sum(tl.reshape(weighted, (ALL, BLOCK_N)), 0)
    n = start + tl.arange(0, BLOCK_N)
    tl.store(out_ptr + token.to(tl.int64) * H + n, total.to(dtype), mask=n < H)


def gate_up(x: Tensor, ids: Tensor, gate_up: Tensor, shape: ExpertShape | None = None) -> dict[str, Tensor]:
    """x [N, H], ids [N, k], gate_up [E, 2 I, H] -> {"out": silu(gate) * up [N k, I]} in pair order."""
    check(x, ids, gate_up)
    size, k = gate_up.shape[1] // 2, gate_up.shape[2]
    shape = shape or gate_up_shape(size, k)
    out = torch.empty(ids.numel(), size, dtype=x.dtype, device=x.device)
    gate_up_kernel[(triton.cdiv(size, shape.block_n), ids.numel())](
        x,
        ids,
        gate_up,
        out,
        size,
        k,
        x.stride(0),
        gate_up.stride(0),
        gate_up.stride(1),
        SLOTS=ids.shape[1],
        **constants(shape, k),
        **early_start(x),
        num_warps=shape.num_warps,
    )
    return {"out": out}


def down(x: Tensor, ids: Tensor, weights: Tensor, down: Tensor, shape: ExpertShape | None = None) -> dict[str, Tensor]:
    """x [N k, I] in pair order, ids and weights [N, k], down [E, H, I] -> {"out": the weighted sum [N, H]}."""
    check(x, ids, down)
    if not (weights.is_contiguous() and x.is_contiguous()):
        raise ValueError("x and weights must be contiguous, or those of other tokens would be taken")
    hidden, k = down.shape[1], down.shape[2]
    shape = shape or down_shape(hidden, k)
    out = torch.empty(ids.shape[0], hidden, dtype=x.dtype, device=x.device)
    down_kernel[(triton.cdiv(hidden, shape.block_n), ids.shape[0])](
        x,
        ids,
        weights,
        down,
        out,
        hidden,
        k,
        down.stride(0),
        down.stride(1),
        SLOTS=ids.shape[1],
        PREFETCH=prefetch_elements(down) if hidden % shape.block_n == 0 else 0,
        **constants(shape, k),
        **early_start(x),
        num_warps=shape.num_warps,
    )
    return {"out": out}


def constants(shape: ExpertShape, k: int) -> dict[str, object]:
    return {
        "BLOCK_N": shape.block_n,
        "BLOCK_K": shape.block_k,
        "UNROLL": shape.unroll,
        "EVEN_K": k % shape.block_k == 0,
    }


def check(x: Tensor, ids: Tensor, weight: Tensor) -> None:
    """Raises ValueError for layouts that these kernels would misread."""
    if x.stride(-1) != 1 or weight.stride(-1) != 1 or not ids.is_contiguous():
        raise ValueError("x and weight must be unit-stride in their last axis and ids contiguous, or rows are misread")
    if x.dtype != weight.dtype or x.shape[-1] != weight.shape[-1]:
        raise ValueError(f"x {tuple(x.shape)} {x.dtype} does not fit weight {tuple(weight.shape)} {weight.dtype}")
