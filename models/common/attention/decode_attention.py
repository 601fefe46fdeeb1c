"""Attention of one new token per row over cached pages: keys and values are read once for all heads that share them.

A program takes one share of one row's keys for one key-value head. Shares are cut from the row's length on the device,
so that a launch captured in a graph serves every later length. A second launch combines the shares, one program a head:
the last program of the first would have to read what all others left, by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.common.kernels.arithmetic import interpreted, product
from models.common.kernels.pdl import early_start
from models.common.kernels.workspace import Workspace

PROGRAMS = 132
"""One per multiprocessor of an H200: measured there when the last program combined, more splits cost more in that than
they gained in reading. Not measured since."""
INTERPRETED_PROGRAMS = 8
"""Enough that rows are shared; the interpreter runs them one after the other."""
MAX_SPLITS = 64
COMBINE_WARPS = 4


@dataclass(frozen=True)
class AttentionShape:
    """How one launch is cut. `block_n` keys per step, dividing the page unless every row is a single page."""

    block_n: int
    num_warps: int
    num_stages: int
    splits: int
    """Programs that share one row's keys for one key-value head."""


def default_shape(
    batch: int, kv_heads: int, page_tokens: int, capacity: int, element_size: int, max_splits: int = MAX_SPLITS
) -> AttentionShape:
    """`capacity` is the largest length that the block table can hold; the length itself is known to the device only."""
    programs = INTERPRETED_PROGRAMS if interpreted() else PROGRAMS
    block_n = 32 if element_size > 2 else 128 if batch * kv_heads < PROGRAMS else 64
    if capacity != page_tokens:
        block_n = min(block_n, page_tokens & -page_tokens)
    blocks = triton.cdiv(capacity, block_n)
    splits = max(1, min(blocks, max_splits, round(programs / (batch * kv_heads))))
    # A short capacity gives few blocks: one each, rather than a last program with none.
    return AttentionShape(block_n, 4, 3, triton.cdiv(blocks, triton.cdiv(blocks, splits)))


@triton.jit
def combine_kernel(
    partials_ptr,
    maxima_ptr,
    out_ptr,
    scale,
    D: tl.constexpr,
    GROUP: tl.constexpr,
    SPLITS: tl.constexpr,
    PDL: tl.constexpr,
):
    """Grid (heads, B). Partial sums [B, kv_heads, SPLITS, GROUP, D] and (maximum, sum) [B, kv_heads, SPLITS, GROUP, 2]
    -> [B, heads, D]. A share without keys left no partial sum, and a maximum of minus infinity."""
    head, row = tl.program_id(0), tl.program_id(1)
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    pair = row.to(tl.int64) * (tl.num_programs(0) // GROUP) + head // GROUP
    split, d = tl.arange(0, triton.next_power_of_2(SPLITS)), tl.arange(0, D)
    at = (pair * SPLITS + split) * GROUP + head % GROUP
    present = split < SPLITS
    maximum = tl.load(maxima_ptr + at * 2, mask=present, other=-float("inf"))
    total = tl.load(maxima_ptr + at * 2 + 1, mask=present, other=0.0)
    part = tl.load(partials_ptr + at[:, None] * D + d[None, :], mask=present[:, None], other=0.0)
    weight = tl.exp2((maximum - tl.max(maximum, 0)) * scale)
    part = tl.where((maximum > -float("inf"))[:, None], part, 0.0)
    out = tl.sum(weight[:, None] * part, 0) / tl.sum(weight * total, 0)
    tl.store(out_ptr + (row.to(tl.int64) * tl.num_programs(0) + head) * D + d, out.to(out_ptr.dtype.element_ty))


@triton.jit
def attention_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    table_ptr,
    starts_ptr,
    lengths_ptr,
    out_ptr,
    partials_ptr,
    maxima_ptr,
    scale,
    page_tokens,
    stride_q_row,
    stride_q_head,
    stride_page,
    stride_head,
    stride_token,
    stride_block_table,
    D: tl.constexpr,
    GROUP: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    STAGES: tl.constexpr,
    PAGED: tl.constexpr,
    PDL: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Grid (SPLITS, kv_heads, B). GROUP query heads share a key-value head and fill 16 rows of the tensor core.
    `scale` already holds log2(e): the softmax runs in powers of two. Scores are scaled once the maximum is taken off,
    which keeps the largest weights free of the error of large scores."""
    split, kv_head, row = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    pair = row * tl.num_programs(1) + kv_head
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    length = tl.load(lengths_ptr + row)
    start = tl.minimum(tl.load(starts_ptr + row), length - 1)
    base = start // BLOCK_N * BLOCK_N
    share = tl.cdiv(tl.cdiv(length - base, BLOCK_N), SPLITS) * BLOCK_N
    begin = base + split * share
    end = tl.minimum(begin + share, length)
    g, d = tl.arange(0, 16)[:, None], tl.arange(0, D)[None, :]
    q_at = q_ptr + row.to(tl.int64) * stride_q_row + (kv_head * GROUP + g) * stride_q_head + d
    q = tl.load(q_at, mask=g < GROUP, other=0.0)
    offsets = tl.arange(0, BLOCK_N)
    top = tl.full((16,), -float("inf"), tl.float32)
    total = tl.zeros((16,), tl.float32)
    out = tl.zeros((16, D), tl.float32)
    page = tl.load(table_ptr + row * stride_block_table).to(tl.int64)
    for slot in tl.range(begin, end, BLOCK_N, num_stages=STAGES):
        if PAGED:
            page = tl.load(table_ptr + row * stride_block_table + slot // page_tokens).to(tl.int64)
        at = page * stride_page + kv_head.to(tl.int64) * stride_head
        at += ((slot % page_tokens if PAGED else slot) + offsets)[:, None].to(tl.int64) * stride_token + d
        seen = (slot + offsets >= start) & (slot + offsets < length)
        keys = tl.load(k_ptr + at, mask=seen[:, None], other=0.0)
        values = tl.load(v_ptr + at, mask=seen[:, None], other=0.0)
        scores = product(q, tl.trans(keys), tl.zeros((16, BLOCK_N), tl.float32), WIDEN)
        scores = tl.where(seen[None, :], scores, -float("inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        p = tl.exp2((scores - higher[:, None]) * scale)
        rescale = tl.exp2((top - higher) * scale)
        total = total * rescale + tl.sum(p, 1)
        out = product(p.to(values.dtype), values, out * rescale[:, None], WIDEN)
        top = higher
    out_type: tl.constexpr = out_ptr.dtype.element_ty
    out_row = out_ptr + pair.to(tl.int64) * GROUP * D
    if SPLITS == 1:
        tl.store(out_row + g * D + d, (out / total[:, None]).to(out_type), mask=g < GROUP)
    else:
        mine = (pair.to(tl.int64) * SPLITS + split) * GROUP
        head = tl.arange(0, 16)
        if begin < end:
            tl.store(partials_ptr + (mine + g) * D + d, out, mask=g < GROUP)
        tl.store(maxima_ptr + (mine + head) * 2, top, mask=head < GROUP)
        tl.store(maxima_ptr + (mine + head) * 2 + 1, total, mask=head < GROUP)


def needs(batch: int, heads: int, head_dim: int, splits: int) -> tuple[int, int]:
    """(floats, tickets) of the workspace of one call."""
    return (0, 0) if splits == 1 else (batch * heads * splits * (head_dim + 2), 0)


def decode_attention(
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    block_table: Tensor,
    left_padding: Tensor,
    seq_lens: Tensor,
    scale: float,
    shape: AttentionShape | None = None,
    workspace: Workspace | None = None,
) -> dict[str, Tensor]:
    """q [B, 1, heads, D] against pages [P, kv_heads, page_tokens, D] through block_table [B, M]: {"out": like q}.
    Lengths count the new token, are at least 1, and are read on the device only."""
    batch, tokens, heads, head_dim = q.shape
    _, kv_heads, page_tokens, _ = k_pages.shape
    columns = block_table.shape[1]
    _check(q, k_pages, v_pages, tokens, heads // kv_heads)
    shape = shape or default_shape(batch, kv_heads, page_tokens, columns * page_tokens, q.element_size())
    if columns > 1 and page_tokens % shape.block_n:
        raise ValueError(f"blocks of {shape.block_n} keys would cross pages of {page_tokens}")
    workspace = Workspace.of(workspace, *needs(batch, heads, head_dim, shape.splits), q.device)
    out = torch.empty(batch, 1, heads, head_dim, dtype=q.dtype, device=q.device)
    maxima = workspace.partials[batch * heads * shape.splits * head_dim :] if shape.splits > 1 else workspace.partials
    scale = scale * math.log2(math.e)
    fixed, early = constants(shape, head_dim, heads // kv_heads, columns), early_start(q)
    attention_kernel[(shape.splits, kv_heads, batch)](
        q,
        k_pages,
        v_pages,
        block_table,
        left_padding,
        seq_lens,
        out,
        workspace.partials,
        maxima,
        scale,
        page_tokens,
        q.stride(0),
        q.stride(2),
        k_pages.stride(0),
        k_pages.stride(1),
        k_pages.stride(2),
        block_table.stride(0),
        **fixed,
        **early,
        num_warps=shape.num_warps,
    )
    if shape.splits > 1:
        shared = {name: fixed[name] for name in ("D", "GROUP", "SPLITS")}
        combine_kernel[(heads, batch)](
            workspace.partials, maxima, out, scale, **shared, **early, num_warps=COMBINE_WARPS
        )
    return {"out": out}


def constants(shape: AttentionShape, head_dim: int, group: int, columns: int) -> dict[str, Any]:
    """The compile-time values of one launch; `columns` pages to a row."""
    return {
        "D": head_dim,
        "GROUP": group,
        "SPLITS": shape.splits,
        "BLOCK_N": shape.block_n,
        "STAGES": shape.num_stages,
        "PAGED": columns > 1,
        "WIDEN": interpreted(),
    }


def _check(q: Tensor, k_pages: Tensor, v_pages: Tensor, tokens: int, group: int) -> None:
    if tokens != 1:
        raise ValueError(f"{tokens} query tokens: this kernel has no causal mask, later tokens would be seen")
    if group > 16:
        raise ValueError(f"{group} query heads to a key-value head do not fit into the 16 rows of one tile")
    if k_pages.stride() != v_pages.stride() or k_pages.stride(-1) != 1 or q.stride(-1) != 1:
        raise ValueError("keys and values must be laid out alike, channels at unit stride, or values would be misread")
