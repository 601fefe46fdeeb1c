"""Prefill attention as the harness knows it: input cases, cost, compilations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from harness.spec.kernel import Compilation, Cost, Kernel, OpCase
from models.common.attention import prefill_attention
from models.common.attention.attention_faults import (
    ATTENTION_FAULTS,
    absolute_values,
    attention_items,
    canceling_pages,
    far_pages,
    packed_query,
    unrescaled,
)
from models.common.attention.eager import paged_attention
from models.common.kernels import values
from models.common.kernels.mutation import given
from models.common.kernels.types import pointer


def _case(
    batch: int,
    tokens: int,
    past: int,
    heads: int,
    kv_heads: int,
    page_tokens: int,
    left_padding: Sequence[int],
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator,
    scale: float = 1.0,
) -> dict[str, Any]:
    draw = (dtype, device, generator)
    columns = triton.cdiv(past + tokens, page_tokens)
    pages = batch * columns
    block_table = torch.arange(pages, dtype=torch.int32, device=device).flip(0).view(batch, columns)
    return {
        "q": values.normal((batch, tokens, heads, 128), *draw, scale=scale),
        "k_pages": values.normal((pages, kv_heads, page_tokens, 128), *draw),
        "v_pages": values.normal((pages, kv_heads, page_tokens, 128), *draw),
        "block_table": block_table.contiguous(),
        "left_padding": torch.tensor(left_padding, dtype=torch.int32, device=device),
        "seq_lens": torch.full((batch,), past + tokens, dtype=torch.int32, device=device),
        "scale": 128**-0.5,
    }


def _block_ends(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> dict[str, Any]:
    """Chunks whose first query stands two places, one and none before the end of a block of keys, and one behind it."""
    pages = 256
    block = prefill_attention.default_shape(pages, 1, dtype.itemsize).block_n
    inputs = _case(4, 3, pages - 3, 2, 1, pages, (0,) * 4, dtype, device, generator)
    pasts = torch.tensor([block - 2, block - 1, block, block + 1], dtype=torch.int32, device=device)
    return {**inputs, "seq_lens": pasts + 3}


def _stale(inputs: dict[str, Any]) -> dict[str, Any]:
    """The same with NaN in every slot that no query sees; one page a row."""
    slot = torch.arange(inputs["k_pages"].shape[2], device=inputs["q"].device)
    unseen = (slot < inputs["left_padding"].unsqueeze(1)) | (slot >= inputs["seq_lens"].unsqueeze(1))
    for pages in (inputs["k_pages"], inputs["v_pages"]):
        pages.masked_fill_(unseen[:, None, :, None], float("nan"))
    return inputs


def _cases(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    draw = (dtype, device, generator)
    yield OpCase("two tokens", _case(1, 2, 0, 16, 4, 16, (0,), *draw))
    yield OpCase("block and one", _case(1, 65, 0, 4, 1, 80, (0,), *draw))
    yield OpCase("chunk after a past", _case(1, 37, 91, 8, 1, 128, (0,), *draw))
    yield OpCase("paged chunk", _case(1, 19, 50, 4, 2, 16, (0,), *draw))
    yield OpCase("left padding", _case(2, 33, 0, 2, 1, 64, (0, 21), *draw))
    yield OpCase("padding in the past", _case(2, 9, 40, 2, 1, 16, (17, 3), *draw))
    yield OpCase("padding past a block", _case(2, 70, 80, 2, 1, 160, (70, 3), *draw))
    yield OpCase("chunks that begin beside a block's end", _block_ends(*draw))
    yield OpCase("stale memory", _stale(_case(2, 5, 60, 2, 1, 96, (9, 40), *draw)))
    yield OpCase("sliced q, of a packed projection", packed_query(_case(2, 11, 4, 4, 2, 16, (0, 5), *draw)))
    tokens, past = values.length(2, 40, device, generator), values.length(0, 40, device, generator)
    left_padding = (0, values.length(0, past, device, generator))
    kv_heads, group = values.length(1, 2, device, generator), values.length(1, 3, device, generator)
    page_tokens = values.length(80, 120, device, generator)
    drawn = (2, tokens, past, kv_heads * group, kv_heads, page_tokens)
    yield OpCase("drawn shape", _case(*drawn, left_padding, *draw))
    yield OpCase("peaky", _case(1, 33, 0, 12, 1, 48, (0,), *draw, scale=8.0))
    yield OpCase("all masked rows", _case(2, 5, 0, 1, 1, 16, (0, 3), *draw))
    yield from attention_items(_case(2, 3, 2, 2, 2, 16, (0, 1), *draw), generator)
    yield canceling_pages(_case(1, 3, 253, 2, 2, 256, (0,), *draw), generator)


def _far(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    yield far_pages(_case(2, 9, 20, 4, 2, 16, (0, 3), dtype, device, generator))


def _bench(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    for batch, tokens in ((1, 1024), (1, 4096)):
        inputs = _case(batch, tokens, 0, 32, 8, tokens + 8, (0,) * batch, dtype, device, generator)
        yield OpCase(f"B{batch} T{tokens}", inputs)


def _cost(
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    block_table: Tensor,
    left_padding: Tensor,
    seq_lens: Tensor,
    scale: float,
) -> Cost:
    """Of a prompt without past, the only shape that is timed."""
    batch, tokens, heads, size = q.shape
    kv = 2 * batch * tokens * k_pages.shape[1] * size
    return Cost((2 * q.numel() + kv) * q.element_size(), 2 * batch * heads * size * tokens * (tokens + 1))


def _compilations(dtype: torch.dtype) -> Sequence[Compilation]:
    signature = dict.fromkeys(("q_ptr", "k_ptr", "v_ptr", "out_ptr"), pointer(dtype))
    signature |= {"table_ptr": "*i32", "starts_ptr": "*i32", "lengths_ptr": "*i32", "scale": "fp32"}
    strides = ("q_row", "q_token", "q_head", "page", "head", "token", "block_table")
    signature |= dict.fromkeys(("tokens", "page_tokens", *(f"stride_{name}" for name in strides)), "i32")
    made = []
    for columns in (1, 17):
        shape = prefill_attention.default_shape(64 if columns > 1 else 1024, columns, dtype.itemsize)
        made.append(
            Compilation(
                prefill_attention.prefill_kernel,
                signature,
                prefill_attention.constants(shape, 32, 8, 128, columns),
                shape.num_warps,
            )
        )
    return made


PREFILL_ATTENTION = Kernel(
    "prefill_attention",
    prefill_attention.launch,
    paged_attention,
    _cases,
    _cost,
    _compilations,
    bench=_bench,
    batch_invariant=("q", "block_table", "left_padding", "seq_lens"),
    int64_offset_cases=_far,
    absolute=absolute_values,
    mutants=(
        *ATTENTION_FAULTS,
        unrescaled(paged_attention),
        given("one future key seen", "mask", lambda i: {"seq_lens": i["seq_lens"] + 1}),
        given("one padding key seen", "mask", lambda i: {"left_padding": i["left_padding"] - 1}),
    ),
)
