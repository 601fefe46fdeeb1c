"""Decode attention as the harness knows it: input cases, cost, compilations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.spec.kernel import Compilation, Cost, Kernel, OpCase
from models.common.attention.attention_faults import (
    ATTENTION_FAULTS,
    absolute_values,
    attention_items,
    canceling_pages,
    far_pages,
    packed_query,
    unrescaled,
)
from models.common.attention.decode_attention import (
    COMBINE_WARPS,
    INTERPRETED_PROGRAMS,
    PROGRAMS,
    attention_kernel,
    combine_kernel,
    constants,
    decode_attention,
    default_shape,
)
from models.common.attention.eager import paged_attention
from models.common.kernels import values
from models.common.kernels.arithmetic import interpreted
from models.common.kernels.mutation import given
from models.common.kernels.workspace import shared

NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
INTEGERS = (
    "page_tokens",
    "stride_q_row",
    "stride_q_head",
    "stride_page",
    "stride_head",
    "stride_token",
    "stride_block_table",
)
HEADS, KV_HEADS, HEAD_DIM = 32, 8, 128
"""Qwen3-4B."""


def inputs(
    seq_lens: Sequence[int],
    left_padding: Sequence[int],
    group: int,
    kv_heads: int,
    page_tokens: int,
    columns: int,
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator,
    q_scale: float = 1.0,
) -> dict[str, Any]:
    """One decode step over rows of `columns` pages each, the pages in random order, or single ones from last to first:
    no row has the page of its own number."""
    batch = len(seq_lens)
    pages = batch * columns
    order = torch.randperm(pages, generator=generator, device=device) if columns > 1 else torch.arange(pages).flip(0)
    shape = (pages, kv_heads, page_tokens, HEAD_DIM)
    return {
        "q": values.normal((batch, 1, kv_heads * group, HEAD_DIM), dtype, device, generator, scale=q_scale),
        "k_pages": values.normal(shape, dtype, device, generator),
        "v_pages": values.normal(shape, dtype, device, generator),
        "block_table": order.to(device, torch.int32).view(batch, columns),
        "left_padding": torch.tensor(left_padding, dtype=torch.int32, device=device),
        "seq_lens": torch.tensor(seq_lens, dtype=torch.int32, device=device),
        "scale": HEAD_DIM**-0.5,
    }


def cases(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    draw = (dtype, device, generator)
    yield OpCase("one key, GQA 4", inputs([1], [0], 4, 2, 64, 1, *draw))
    yield OpCase("prime lengths, padded, GQA 4", inputs([61, 127], [5, 0], 4, 2, 128, 1, *draw))
    yield OpCase("pages of 32, GQA 2", inputs([65, 96], [33, 0], 2, 2, 32, 3, *draw))
    yield OpCase("odd capacity, GQA 8", inputs([100, 33], [0, 31], 8, 1, 100, 1, *draw))
    yield OpCase("pages of 64, GQA 12", inputs([128, 63], [0, 62], 12, 1, 64, 2, *draw))
    yield OpCase("peaky scores, GQA 8", inputs([97, 128], [0, 9], 8, 2, 64, 2, *draw, q_scale=8.0))
    yield OpCase("stale memory past the length", _stale(inputs([70, 40], [0, 3], 4, 2, 64, 2, *draw)))
    yield OpCase("sliced q, of a packed projection", packed_query(inputs([50, 20], [0, 0], 4, 2, 64, 1, *draw)))
    length, group = values.length(20, 128, device, generator), values.length(1, 8, device, generator)
    left_padding = [values.length(0, 19, device, generator), 0]
    blocks, columns = values.length(2, 7, device, generator), values.length(3, 8, device, generator)
    yield OpCase("drawn shape", inputs([length, 64], left_padding, group, 2, 32 * blocks, columns, *draw))
    yield OpCase("full shares, padding that ends inside a block", _full_shares(*draw))
    yield from attention_items(inputs([9, 5], [0, 2], 2, 2, 16, 1, *draw), generator)
    yield canceling_pages(inputs([256], [0], 2, 2, 256, 1, *draw), generator)
    yield OpCase("pages of 16, GQA 4", inputs([45, 32], [17, 0], 4, 2, 16, 3, *draw))


def _full_shares(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> dict[str, Any]:
    """Two programs a row, each with all the blocks it can have; counted from the first token, not from its block, the
    last keys would be one block's too many."""
    kv_heads, padding = 2, 5
    rows = (INTERPRETED_PROGRAMS if interpreted() else PROGRAMS) // (2 * kv_heads)
    block = default_shape(rows, kv_heads, 4096, 4096, dtype.itemsize).block_n
    seq_lens, left_padding = [2 * block + padding] * rows, [0, *[padding] * (rows - 1)]
    return inputs(seq_lens, left_padding, 2, kv_heads, 3 * block, 1, dtype, device, generator)


def _far(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    yield far_pages(inputs([60, 35], [0, 2], 4, 2, 32, 2, dtype, device, generator))


def _stale(case: dict[str, Any]) -> dict[str, Any]:
    """What lies past a row's length must not be seen: large keys, and values that are no number."""
    page_tokens = case["k_pages"].shape[2]
    for row, length in enumerate(case["seq_lens"].tolist()):
        for column, page in enumerate(case["block_table"][row].tolist()):
            used = max(0, length - column * page_tokens)
            case["k_pages"][page, :, used:] = 1e4
            case["v_pages"][page, :, used:] = float("nan")
    return case


def cost(
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    block_table: Tensor,
    left_padding: Tensor,
    seq_lens: Tensor,
    scale: float,
) -> Cost:
    """Keys and values of the visible slots, each read once."""
    keys = int((seq_lens - left_padding).sum())
    read = 2 * keys * k_pages.shape[1] * k_pages.shape[3] + 2 * q.numel()
    return Cost(read * q.element_size(), 4 * keys * q.shape[2] * q.shape[3])


def compilations(dtype: torch.dtype) -> list[Compilation]:
    """The real head counts: one row and 32, one page and many; 12 heads to a key-value head."""
    return [
        *_compilations(1, KV_HEADS, HEADS // KV_HEADS, 1024, 1, dtype),
        *_compilations(32, KV_HEADS, HEADS // KV_HEADS, 256, 32, dtype),
        *_compilations(128, KV_HEADS, HEADS // KV_HEADS, 1024, 1, dtype),
        *_compilations(1, KV_HEADS, 12, 256, 16, dtype),
    ]


def _compilations(
    batch: int, kv_heads: int, group: int, page_tokens: int, columns: int, dtype: torch.dtype
) -> list[Compilation]:
    shape = default_shape(batch, kv_heads, page_tokens, columns * page_tokens, dtype.itemsize)
    fixed = {**constants(shape, HEAD_DIM, group, columns), "PDL": True}
    sums = dict.fromkeys(("partials_ptr", "maxima_ptr"), "*fp32") | {"scale": "fp32"}
    signature = dict.fromkeys(("q_ptr", "k_ptr", "v_ptr", "out_ptr"), f"*{NAMES[dtype]}") | sums
    signature |= dict.fromkeys(("table_ptr", "starts_ptr", "lengths_ptr"), "*i32") | dict.fromkeys(INTEGERS, "i32")
    made = [Compilation(attention_kernel, signature, fixed, shape.num_warps)]
    if shape.splits > 1:
        left = {name: fixed[name] for name in ("D", "GROUP", "SPLITS", "PDL")}
        made.append(Compilation(combine_kernel, sums | {"out_ptr": f"*{NAMES[dtype]}"}, left, COMBINE_WARPS))
    return made


def bench(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    for batch, kv_heads, length in ((1, 8, 1024), (32, 8, 1024), (1, 8, 32768), (1, 4, 32768), (32, 8, 8192)):
        pages = inputs([length] * batch, [0] * batch, HEADS // kv_heads, kv_heads, length, 1, dtype, device, generator)
        yield OpCase(f"B{batch} {length} keys, {HEADS} over {kv_heads} heads", pages)


DECODE_ATTENTION = Kernel(
    name="decode_attention",
    launch=decode_attention,
    shared_workspace=shared,
    eager=paged_attention,
    cases=cases,
    cost=cost,
    compilations=compilations,
    bench=bench,
    inapplicable={"all masked": "the newest key, a query's own, is always seen"},
    int64_offset_cases=_far,
    absolute=absolute_values,
    mutants=(
        *ATTENTION_FAULTS,
        unrescaled(paged_attention),
        given(
            "one key too few", "mask", lambda i: {"seq_lens": torch.maximum(i["seq_lens"] - 1, i["left_padding"] + 1)}
        ),
    ),
)
