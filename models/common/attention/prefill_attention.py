"""Causal attention of many new tokens over cached pages, softmax computed online, block by block of keys."""

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
class PrefillShape:
    """`block_m` queries against `block_n` keys per step; block_n divides the page unless every row is one page."""

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int


def default_shape(page_tokens: int, columns: int, element_size: int) -> PrefillShape:
    shape = PrefillShape(64, 32, 4, 2) if element_size > 2 else PrefillShape(128, 64, 8, 3)
    if columns > 1:
        # The largest power of two that divides the page, so that no block of keys crosses two pages.
        block_n = min(shape.block_n, page_tokens & -page_tokens)
        shape = PrefillShape(shape.block_m, block_n, shape.num_warps, shape.num_stages)
    return shape


@triton.jit
def attend_blocks(
    out,
    top,
    total,
    q,
    query,
    start,
    lowest,
    length,
    first,
    last,
    pause,
    gap,
    k_at,
    v_at,
    table_at,
    page,
    page_tokens,
    scale,
    stride_page,
    stride_token,
    D: tl.constexpr,
    BLOCK_N: tl.constexpr,
    PAGED: tl.constexpr,
    MASKED: tl.constexpr,
    STAGES: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Keys from slot `first` to `last` in steps of BLOCK_N, without the `gap` slots from `pause` on; MASKED where not
    every query sees every key."""
    d = tl.arange(0, D)[None, :]
    for step in tl.range(first, last - gap, BLOCK_N, num_stages=STAGES):
        slot = step + tl.where(step < pause, 0, gap) if MASKED else step
        key = slot + tl.arange(0, BLOCK_N)
        if PAGED:
            page = tl.load(table_at + slot // page_tokens).to(tl.int64)
        offset = (slot % page_tokens if PAGED else slot) + tl.arange(0, BLOCK_N)[:, None]
        at = page * stride_page + offset.to(tl.int64) * stride_token + d
        if MASKED:
            # What no query sees may be anything: a NaN among the values would survive its weight of zero.
            used = ((key >= lowest) & (key < length))[:, None]
            keys = tl.load(k_at + at, mask=used, other=0.0)
            values = tl.load(v_at + at, mask=used, other=0.0)
        else:
            keys = tl.load(k_at + at)
            values = tl.load(v_at + at)
        scores = product(q, tl.trans(keys), tl.zeros((q.shape[0], BLOCK_N), tl.float32), WIDEN)
        if MASKED:
            own = key[None, :] == query[:, None]
            seen = (key[None, :] <= query[:, None]) & ((key[None, :] >= start) | own) & (key < length)[None, :]
            scores = tl.where(seen, scores, -float("inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        # A row that has seen nothing yet keeps its maximum at minus infinity; its differences must not be NaN.
        base = tl.where(higher == -float("inf"), 0.0, higher)
        p = tl.exp2((scores - base[:, None]) * scale)
        rescale = tl.exp2((top - base) * scale)
        total = total * rescale + tl.sum(p, 1)
        out = product(p.to(values.dtype), values, out * rescale[:, None], WIDEN)
        top = higher
    return out, top, total


@triton.jit
def prefill_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    table_ptr,
    starts_ptr,
    lengths_ptr,
    out_ptr,
    scale,
    tokens,
    page_tokens,
    stride_q_row,
    stride_q_token,
    stride_q_head,
    stride_page,
    stride_head,
    stride_token,
    stride_block_table,
    HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    PAGED: tl.constexpr,
    STAGES: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Grid (blocks of queries, heads, rows). `scale` already holds log2(e)."""
    # The last queries see the most keys: their programs start first.
    block = tl.num_programs(0) - 1 - tl.program_id(0)
    head, row = tl.program_id(1), tl.program_id(2)
    length = tl.load(lengths_ptr + row)
    start = tl.load(starts_ptr + row)
    m = block * BLOCK_M + tl.arange(0, BLOCK_M)
    query = length - tokens + m
    earliest = length - tokens + block * BLOCK_M
    end = tl.minimum(earliest + BLOCK_M, length)
    d = tl.arange(0, D)[None, :]
    q_at = q_ptr + row.to(tl.int64) * stride_q_row + m[:, None].to(tl.int64) * stride_q_token + head * stride_q_head + d
    q = tl.load(q_at, mask=(m < tokens)[:, None], other=0.0)
    offset = (head // GROUP).to(tl.int64) * stride_head
    table_at = table_ptr + row * stride_block_table
    page = tl.load(table_at).to(tl.int64)
    top = tl.full((BLOCK_M,), -float("inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    out = tl.zeros((BLOCK_M, D), tl.float32)
    lowest = tl.minimum(start, earliest)
    first = lowest // BLOCK_N * BLOCK_N
    # Every query of the block sees every key from `clear` up to `shade`. A block that holds padding queries has no such
    # keys, because its start lies past its earliest query.
    shade = (earliest + 1) // BLOCK_N * BLOCK_N
    clear = tl.minimum((start + BLOCK_N - 1) // BLOCK_N * BLOCK_N, shade)
    out, top, total = attend_blocks(
        out, top, total, q, query, start, lowest, length, clear, shade, shade, 0, k_ptr + offset, v_ptr + offset,
        table_at, page, page_tokens, scale, stride_page, stride_token, D, BLOCK_N, PAGED, False, STAGES, WIDEN,
    )  # fmt: skip
    out, top, total = attend_blocks(
        out, top, total, q, query, start, lowest, length, first, end, clear, shade - clear, k_ptr + offset,
        v_ptr + offset, table_at, page, page_tokens, scale, stride_page, stride_token, D, BLOCK_N, PAGED, True, STAGES,
        WIDEN,
    )  # fmt: skip
    out_at = out_ptr + ((row.to(tl.int64) * tokens + m[:, None]) * HEADS + head) * D + d
    tl.store(out_at, (out / total[:, None]).to(out_ptr.dtype.element_ty), mask=(m < tokens)[:, None])


def launch(
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    block_table: Tensor,
    left_padding: Tensor,
    seq_lens: Tensor,
    scale: float,
    shape: PrefillShape | None = None,
) -> dict[str, Tensor]:
    """As models.common.attention.eager.paged_attention, for any number of query tokens."""
    batch, tokens, heads, size = q.shape
    _, kv_heads, page_tokens, _ = k_pages.shape
    if k_pages.stride() != v_pages.stride() or k_pages.stride(-1) != 1 or q.stride(-1) != 1:
        raise ValueError("keys and values must be laid out alike, channels at unit stride, or values would be misread")
    columns = block_table.shape[1]
    shape = shape or default_shape(page_tokens, columns, q.element_size())
    if columns > 1 and page_tokens % shape.block_n:
        raise ValueError(f"blocks of {shape.block_n} keys would cross pages of {page_tokens}")
    if shape.block_n < 16:
        raise ValueError(f"pages of {page_tokens} tokens: no block of 16 keys, the least a matrix product takes, fits")
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    prefill_kernel[(triton.cdiv(tokens, shape.block_m), heads, batch)](
        q,
        k_pages,
        v_pages,
        block_table,
        left_padding,
        seq_lens,
        out,
        scale * math.log2(math.e),
        tokens,
        page_tokens,
        q.stride(0),
        q.stride(1),
        q.stride(2),
        k_pages.stride(0),
        k_pages.stride(1),
        k_pages.stride(2),
        block_table.stride(0),
        **constants(shape, heads, kv_heads, size, columns),
        num_warps=shape.num_warps,
    )
    return {"out": out}


def constants(shape: PrefillShape, heads: int, kv_heads: int, size: int, columns: int) -> dict[str, Any]:
    return {
        "HEADS": heads,
        "GROUP": heads // kv_heads,
        "D": size,
        "BLOCK_M": shape.block_m,
        "BLOCK_N": shape.block_n,
        "PAGED": columns > 1,
        "STAGES": shape.num_stages,
        "WIDEN": interpreted(),
    }
