"""Experts of a few dozen tokens: a program per expert and block of its rows finds the expert's pairs by itself, so that
each weight is read once however many tokens share it, and nothing is sorted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.common.kernels.arithmetic import interpreted, silu
from models.common.kernels.pdl import early_start
from models.common.moe.moe_vector import check

MAX_PAIRS = 1024
"""Every program looks at all pairs."""


@dataclass(frozen=True)
class TileShape:
    """`block_m` pairs times `block_n` weight rows per program, `block_k` of their elements per step."""

    block_m: int
    block_n: int
    block_k: int
    num_warps: int
    num_stages: int


def default_shape(outputs: int, k: int, element_size: int) -> TileShape:
    """Half types: the fastest of a sweep on an H200 at 8 to 32 tokens, 8 of 128 experts."""
    if interpreted():
        # One product of numpy adds up its whole length in turn: in float32 short ones keep the error of a blocked sum.
        longest = 64 if element_size > 2 else 1024
        return TileShape(16, min(2048, triton.next_power_of_2(outputs)), max(16, min(longest, k & -k)), 4, 1)
    if element_size > 2:
        return TileShape(16, 16, 32, 4, 1)
    return TileShape(16, 64, 128, 4, 5) if k > outputs else TileShape(16, 128, 128, 4, 3)


@triton.jit
def tiles_kernel(
    x_ptr,
    ids_ptr,
    weight_ptr,
    out_ptr,
    pairs,
    N,
    K,
    stride_x,
    stride_expert,
    stride_w,
    SHARE: tl.constexpr,
    SWIGLU: tl.constexpr,
    PAIRS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STAGES: tl.constexpr,
    EVEN_K: tl.constexpr,
    PDL: tl.constexpr,
    WIDEN: tl.constexpr,
    TREE: tl.constexpr,
):
    """Grid (blocks of N, E): out [pairs, N] = x [pair // SHARE] times the rows of each pair's expert, weight [E, N, K],
    or with SWIGLU [E, 2 N, K] and silu(gate) * up. With TREE, for float32, products are summed as a tree: the
    chain that a matrix unit adds them in errs more than separate operations do."""
    dtype: tl.constexpr = out_ptr.dtype.element_ty
    start, expert = tl.program_id(0) * BLOCK_N, tl.program_id(1)
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    every = tl.arange(0, PAIRS)
    mine = (tl.load(ids_ptr + every, mask=every < pairs, other=-1) == expert).to(tl.int32)
    rank = tl.cumsum(mine, 0) - 1
    count = tl.sum(mine, 0)
    cols = tl.minimum(tl.arange(0, BLOCK_N), N - 1 - start)[:, None]
    weight_at = weight_ptr + expert.to(tl.int64) * stride_expert + start.to(tl.int64) * stride_w
    half = tl.cast(N, tl.int64) * stride_w
    for first in tl.range(0, count, BLOCK_M):
        row = first + tl.arange(0, BLOCK_M)
        picked = (rank[None, :] == row[:, None]) & (mine[None, :] > 0)
        pair = tl.sum(tl.where(picked, every[None, :], 0), 1)
        x_at = x_ptr + (pair // SHARE).to(tl.int64)[:, None] * stride_x
        gate = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        up = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for chunk in tl.range(0, tl.cdiv(K, BLOCK_K), num_stages=STAGES):
            k = chunk * BLOCK_K + tl.arange(0, BLOCK_K)[None, :]
            at = weight_at + cols * stride_w + k
            if EVEN_K:
                x = tl.load(x_at + k)
                rows = tl.load(at)
            else:
                x = tl.load(x_at + k, mask=k < K, other=0.0)
                rows = tl.load(at, mask=k < K, other=0.0)
            if WIDEN:
                x = x.to(tl.float32)
                rows = rows.to(tl.float32)
            if TREE:
                gate += tl.sum(x[:, None, :] * rows[None, :, :], 2)
            else:
                gate = tl.dot(x, tl.trans(rows), gate, input_precision="ieee")
            if SWIGLU:
                rows = tl.load(at + half) if EVEN_K else tl.load(at + half, mask=k < K, other=0.0)
                if WIDEN:
                    rows = rows.to(tl.float32)
                if TREE:
                    up += tl.sum(x[:, None, :] * rows[None, :, :], 2)
                else:
                    up = tl.dot(x, tl.trans(rows), up, input_precision="ieee")
        out = gate.to(dtype)
        if SWIGLU:
            out = (silu(out.to(tl.float32), dtype) * up.to(dtype).to(tl.float32)).to(dtype)
        col = start + tl.arange(0, BLOCK_N)[None, :]
        tl.store(out_ptr + pair.to(tl.int64)[:, None] * N + col, out, mask=(row < count)[:, None] & (col < N))


def gate_up(x: Tensor, ids: Tensor, gate_up: Tensor, shape: TileShape | None = None) -> dict[str, Tensor]:
    """x [N, H], ids [N, k], gate_up [E, 2 I, H] -> {"out": silu(gate) * up [N k, I]} in pair order."""
    return {"out": _launch(x, ids, gate_up, gate_up.shape[1] // 2, ids.shape[1], True, shape)}


def project(x: Tensor, ids: Tensor, down: Tensor, shape: TileShape | None = None) -> dict[str, Tensor]:
    """x [N k, I] in pair order, ids [N, k], down [E, H, I] -> {"out": [N k, H]}, not yet weighted."""
    return {"out": _launch(x, ids, down, down.shape[1], 1, False, shape)}


def _launch(
    x: Tensor, ids: Tensor, weight: Tensor, outputs: int, share: int, swiglu: bool, shape: TileShape | None
) -> Tensor:
    check(x, ids, weight)
    if ids.numel() > MAX_PAIRS:
        raise ValueError(f"{ids.numel()} pairs: a program that looks at all of them serves {MAX_PAIRS} at most")
    experts, _, k = weight.shape
    shape = shape or default_shape(outputs, k, x.element_size())
    out = torch.empty(ids.numel(), outputs, dtype=x.dtype, device=x.device)
    tiles_kernel[(triton.cdiv(outputs, shape.block_n), experts)](
        x,
        ids,
        weight,
        out,
        ids.numel(),
        outputs,
        k,
        x.stride(0),
        weight.stride(0),
        weight.stride(1),
        SHARE=share,
        SWIGLU=swiglu,
        **constants(shape, k, ids.numel()),
        **early_start(x),
        WIDEN=interpreted(),
        TREE=x.dtype == torch.float32 and not interpreted(),
        num_warps=shape.num_warps,
    )
    return out


def constants(shape: TileShape, k: int, pairs: int) -> dict[str, object]:
    return {
        "PAIRS": max(16, triton.next_power_of_2(pairs)),
        "BLOCK_M": shape.block_m,
        "BLOCK_N": shape.block_n,
        "BLOCK_K": shape.block_k,
        "STAGES": shape.num_stages,
        "EVEN_K": k % shape.block_k == 0,
    }
