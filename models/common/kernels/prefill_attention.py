"""Causal attention of many new tokens over cached pages, softmax computed online, block by block of keys."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from harness.spec import Compilation, Cost, Kernel, OpCase
from models.common.attention import paged_attention
from models.common.kernels import values
from models.common.kernels.arithmetic import interpreted, product
from models.common.kernels.types import pointer


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
    stride_table,
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
    table_at = table_ptr + row * stride_table
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
    table: Tensor,
    starts: Tensor,
    lengths: Tensor,
    scale: float,
    shape: PrefillShape | None = None,
) -> dict[str, Tensor]:
    """As models.common.attention.paged_attention, for any number of query tokens."""
    batch, tokens, heads, size = q.shape
    _, kv_heads, page_tokens, _ = k_pages.shape
    if k_pages.stride() != v_pages.stride() or k_pages.stride(-1) != 1 or q.stride(-1) != 1:
        raise ValueError("keys and values must be laid out alike, channels at unit stride, or values would be misread")
    columns = table.shape[1]
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
        table,
        starts,
        lengths,
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
        table.stride(0),
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


def _case(
    batch: int,
    tokens: int,
    past: int,
    heads: int,
    kv_heads: int,
    page_tokens: int,
    starts: Sequence[int],
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator,
    scale: float = 1.0,
) -> dict[str, Any]:
    draw = (dtype, device, generator)
    columns = triton.cdiv(past + tokens, page_tokens)
    pages = batch * columns
    order = torch.arange(pages, dtype=torch.int32, device=device)
    table = order.view(batch, columns) if columns == 1 else order.flip(0).view(batch, columns)
    return {
        "q": values.normal((batch, tokens, heads, 128), *draw, scale=scale),
        "k_pages": values.normal((pages, kv_heads, page_tokens, 128), *draw),
        "v_pages": values.normal((pages, kv_heads, page_tokens, 128), *draw),
        "table": table.contiguous(),
        "starts": torch.tensor(starts, dtype=torch.int32, device=device),
        "lengths": torch.full((batch,), past + tokens, dtype=torch.int32, device=device),
        "scale": 128**-0.5,
    }


def _stale(inputs: dict[str, Any]) -> dict[str, Any]:
    """The same with NaN in every slot that no query sees; one page a row."""
    slot = torch.arange(inputs["k_pages"].shape[2], device=inputs["q"].device)
    unseen = (slot < inputs["starts"].unsqueeze(1)) | (slot >= inputs["lengths"].unsqueeze(1))
    for pages in (inputs["k_pages"], inputs["v_pages"]):
        pages.masked_fill_(unseen[:, None, :, None], float("nan"))
    return inputs


def _menu(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    draw = (dtype, device, generator)
    yield OpCase("two tokens", _case(1, 2, 0, 4, 2, 16, (0,), *draw))
    yield OpCase("block and one", _case(1, 65, 0, 4, 1, 80, (0,), *draw))
    yield OpCase("chunk after a past", _case(1, 37, 91, 8, 1, 128, (0,), *draw))
    yield OpCase("paged chunk", _case(1, 19, 50, 4, 2, 16, (0,), *draw))
    yield OpCase("left padding", _case(2, 33, 0, 2, 1, 64, (0, 21), *draw))
    yield OpCase("padding in the past", _case(2, 9, 40, 2, 1, 16, (17, 3), *draw))
    yield OpCase("padding past a block", _case(2, 70, 80, 2, 1, 160, (70, 3), *draw))
    yield OpCase("stale memory", _stale(_case(2, 5, 60, 2, 1, 96, (9, 40), *draw)))
    yield OpCase("peaky", _case(1, 33, 0, 12, 1, 48, (0,), *draw, scale=8.0))


def _bench(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    for batch, tokens in ((1, 1024), (1, 4096)):
        inputs = _case(batch, tokens, 0, 32, 8, tokens + 8, (0,) * batch, dtype, device, generator)
        yield OpCase(f"B{batch} T{tokens}", inputs)


def _cost(
    q: Tensor, k_pages: Tensor, v_pages: Tensor, table: Tensor, starts: Tensor, lengths: Tensor, scale: float
) -> Cost:
    """Of a prompt without past, the only shape that is timed."""
    batch, tokens, heads, size = q.shape
    kv = 2 * batch * tokens * k_pages.shape[1] * size
    return Cost((2 * q.numel() + kv) * q.element_size(), 2 * batch * heads * size * tokens * (tokens + 1))


def _compilations(dtype: torch.dtype) -> Sequence[Compilation]:
    signature = dict.fromkeys(("q_ptr", "k_ptr", "v_ptr", "out_ptr"), pointer(dtype))
    signature |= {"table_ptr": "*i32", "starts_ptr": "*i32", "lengths_ptr": "*i32", "scale": "fp32"}
    strides = ("q_row", "q_token", "q_head", "page", "head", "token", "table")
    signature |= dict.fromkeys(("tokens", "page_tokens", *(f"stride_{name}" for name in strides)), "i32")
    made = []
    for columns in (1, 17):
        shape = default_shape(64 if columns > 1 else 1024, columns, dtype.itemsize)
        made.append(Compilation(prefill_kernel, signature, constants(shape, 32, 8, 128, columns), shape.num_warps))
    return made


PREFILL_ATTENTION = Kernel("prefill_attention", launch, paged_attention, _menu, _cost, _compilations, bench=_bench)
