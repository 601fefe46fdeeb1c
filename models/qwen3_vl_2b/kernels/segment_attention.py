"""Attention of packed sequences, each token over its own segment: one launch for all segments, softmax online."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.common.kernels.arithmetic import interpreted, product


@dataclass(frozen=True)
class SegmentShape:
    """`block_m` queries against `block_n` keys per step."""

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int


def default_shape(element_size: int) -> SegmentShape:
    return SegmentShape(64, 32, 4, 2) if element_size > 2 else SegmentShape(128, 64, 8, 3)


@triton.jit
def attend_keys(
    out,
    top,
    total,
    q,
    k_at,
    v_at,
    first,
    last,
    end,
    scale,
    stride_k,
    stride_v,
    D: tl.constexpr,
    BLOCK_N: tl.constexpr,
    MASKED: tl.constexpr,
    STAGES: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Keys `first` to `last` in steps of BLOCK_N; MASKED where they may lie at or past `end`."""
    d = tl.arange(0, D)[None, :]
    for step in tl.range(first, last, BLOCK_N, num_stages=STAGES):
        key = (step + tl.arange(0, BLOCK_N))[:, None].to(tl.int64)
        if MASKED:
            keys = tl.load(k_at + key * stride_k + d, mask=key < end, other=0.0)
            values = tl.load(v_at + key * stride_v + d, mask=key < end, other=0.0)
        else:
            keys = tl.load(k_at + key * stride_k + d)
            values = tl.load(v_at + key * stride_v + d)
        scores = product(q, tl.trans(keys), tl.zeros((q.shape[0], BLOCK_N), tl.float32), WIDEN)
        if MASKED:
            scores = tl.where((step + tl.arange(0, BLOCK_N))[None, :] < end, scores, -float("inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        p = tl.exp2((scores - higher[:, None]) * scale)
        rescale = tl.exp2((top - higher) * scale)
        total = total * rescale + tl.sum(p, 1)
        out = product(p.to(values.dtype), values, out * rescale[:, None], WIDEN)
        top = higher
    return out, top, total


@triton.jit
def segment_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    bounds_ptr,
    out_ptr,
    scale,
    stride_q,
    stride_q_head,
    stride_k,
    stride_k_head,
    stride_v,
    stride_v_head,
    HEADS: tl.constexpr,
    D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    STAGES: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Grid (blocks of queries of the longest segment, heads, segments). `scale` already holds log2(e)."""
    head, segment = tl.program_id(1), tl.program_id(2)
    start = tl.load(bounds_ptr + segment)
    end = tl.load(bounds_ptr + segment + 1)
    earliest = start + tl.program_id(0) * BLOCK_M
    if earliest < end:
        m = (earliest + tl.arange(0, BLOCK_M))[:, None].to(tl.int64)
        d = tl.arange(0, D)[None, :]
        q = tl.load(q_ptr + m * stride_q + head * stride_q_head + d, mask=m < end, other=0.0)
        k_at = k_ptr + head * stride_k_head
        v_at = v_ptr + head * stride_v_head
        top = tl.full((BLOCK_M,), -float("inf"), tl.float32)
        total = tl.zeros((BLOCK_M,), tl.float32)
        out = tl.zeros((BLOCK_M, D), tl.float32)
        whole = start + (end - start) // BLOCK_N * BLOCK_N
        out, top, total = attend_keys(
            out, top, total, q, k_at, v_at, start, whole, end, scale, stride_k, stride_v, D, BLOCK_N, False, STAGES,
            WIDEN,
        )  # fmt: skip
        out, top, total = attend_keys(
            out, top, total, q, k_at, v_at, whole, end, end, scale, stride_k, stride_v, D, BLOCK_N, True, 1, WIDEN,
        )  # fmt: skip
        out_at = out_ptr + (m * HEADS + head) * D + d
        tl.store(out_at, (out / total[:, None]).to(out_ptr.dtype.element_ty), mask=m < end)


def launch(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bounds: Tensor,
    scale: float,
    longest: int | None = None,
    shape: SegmentShape | None = None,
) -> dict[str, Tensor]:
    """As models.qwen3_vl_2b.segments.attend_segments. `longest` is the longest segment; without it, it is read from the
    device."""
    _, heads, size = q.shape
    if any(x.stride(2) != 1 for x in (q, k, v)):
        raise ValueError("channels must be at unit stride, or values would be misread")
    if size & (size - 1) or size < 16:
        raise ValueError(f"heads of {size} channels: a matrix product takes powers of two from 16 on")
    shape = shape or default_shape(q.element_size())
    longest = int(bounds.diff().max()) if longest is None else longest
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    segment_kernel[(triton.cdiv(longest, shape.block_m), heads, len(bounds) - 1)](
        q,
        k,
        v,
        bounds,
        out,
        scale * math.log2(math.e),
        q.stride(0),
        q.stride(1),
        k.stride(0),
        k.stride(1),
        v.stride(0),
        v.stride(1),
        **constants(shape, heads, size),
        num_warps=shape.num_warps,
    )
    return {"out": out}


def constants(shape: SegmentShape, heads: int, size: int) -> dict[str, Any]:
    return {
        "HEADS": heads,
        "D": size,
        "BLOCK_M": shape.block_m,
        "BLOCK_N": shape.block_n,
        "STAGES": shape.num_stages,
        "WIDEN": interpreted(),
    }
