"""One-launch decode attention as the harness knows it: input cases, cost, faults. nvcc compiles it, not Triton."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.spec.kernel import Cost, Kernel, OpCase
from models.common.attention import cluster_attention
from models.common.attention.attention_faults import (
    ATTENTION_FAULTS,
    absolute_values,
    far_pages,
    unrescaled,
)
from models.common.attention.eager import decode_step
from models.common.kernels import values
from models.common.kernels.menu_items import SQUARED, items
from models.common.kernels.mutation import given, moved_epsilon, scaled

HEAD_DIM = cluster_attention.HEAD_DIM


def inputs(
    seq_lens: Sequence[int],
    left_padding: Sequence[int],
    heads: tuple[int, int],
    rotated: int,
    page_tokens: int,
    columns: int,
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator,
    q_scale: float = 1.0,
    scale: float = 1.0,
) -> dict[str, Any]:
    """One decode step of (heads, kv_heads) over rows of `columns` pages in random order, or of single ones from last to
    first. q, k and v are views of one packed projection; `seq_lens` count the new token, whose slot still holds
    something else."""
    batch, (q_heads, kv_heads) = len(seq_lens), heads
    draw = (dtype, device, generator)
    packed = values.normal((batch, 1, q_heads + 2 * kv_heads, HEAD_DIM), *draw, scale=scale)
    q, k, v = packed.split([q_heads, kv_heads, kv_heads], dim=2)
    angles = torch.rand(batch, 1, rotated // 2, device=device, generator=generator) * 6.28
    angles = torch.cat((angles, angles), dim=-1)
    pages = batch * columns
    order = torch.randperm(pages, generator=generator, device=device) if columns > 1 else torch.arange(pages).flip(0)
    shape = (pages, kv_heads, page_tokens, HEAD_DIM)
    return {
        "q": q,
        "k": k,
        "v": v,
        "q_weight": values.normal((HEAD_DIM,), *draw, scale=0.1, offset=q_scale),
        "k_weight": values.normal((HEAD_DIM,), *draw, scale=0.1, offset=1.0),
        "cos": angles.cos().to(dtype),
        "sin": angles.sin().to(dtype),
        "k_pages": values.normal(shape, *draw),
        "v_pages": values.normal(shape, *draw),
        "block_table": order.to(device, torch.int32).view(batch, columns),
        "left_padding": torch.tensor(left_padding, dtype=torch.int32, device=device),
        "seq_lens": torch.tensor(seq_lens, dtype=torch.int32, device=device),
        "eps": 1e-6,
        "scale": HEAD_DIM**-0.5,
    }


def cases(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    draw = (dtype, device, generator)
    yield OpCase("one key, GQA 4", inputs([1], [0], (8, 2), 128, 2, 1, *draw))
    yield OpCase("prime lengths, padded, sliced heads, GQA 4", inputs([13, 19], [5, 0], (8, 2), 128, 20, 1, *draw))
    yield OpCase("pages of 16, GQA 2", inputs([33, 17], [16, 0], (4, 2), 128, 16, 3, *draw))
    yield OpCase("GQA 12, half width, pages of 32", inputs([40, 32], [0, 31], (12, 1), 64, 32, 2, *draw))
    yield OpCase("peaky scores, GQA 8", inputs([37, 48], [0, 9], (16, 2), 128, 48, 1, *draw, q_scale=8.0))
    yield OpCase("every warp and once more, GQA 8", inputs([1030], [3], (8, 1), 128, 1032, 1, *draw))
    yield OpCase("small, GQA 2", inputs([21, 9], [0, 2], (4, 2), 128, 24, 1, *draw, scale=1e-3))
    yield OpCase("eight rows, GQA 2", inputs([9, 12, 3, 20, 17, 5, 24, 11], [0] * 8, (16, 8), 128, 24, 1, *draw))
    yield OpCase("stale memory past the length", _stale(inputs([70, 40], [0, 3], (8, 2), 128, 80, 1, *draw)))
    length, group = values.length(20, 128, device, generator), values.length(1, 16, device, generator)
    left_padding = [values.length(0, 19, device, generator), 0]
    blocks, columns = values.length(4, 14, device, generator), values.length(3, 8, device, generator)
    yield OpCase("drawn shape", inputs([length, 64], left_padding, (2 * group, 2), 128, 16 * blocks, columns, *draw))
    case, most = inputs([9, 5], [0, 2], (4, 2), 128, 16, 1, *draw), SQUARED[dtype]
    yield from items(case, ("q", "k", "v"), generator, "nan row", "expanded")
    yield from items(case, ("q", "k"), generator, "offset", "outliers", "subnormal", "ties", "constant")
    yield from items(case, ("q", "k"), generator, "near-max", most=most)
    yield from items(case, ("q",), generator, "misaligned")
    swapped = {name: values.swapped(case[name], 1, 2) for name in ("k_pages", "v_pages")}
    yield OpCase("transposed pages", {**case, **swapped})
    yield _canceling(*draw)


def _canceling(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> OpCase:
    """Keys in the cache of zeros, and a new one that counts as little more and has no value."""
    case = inputs([256], [0], (4, 2), 128, 256, 1, dtype, device, generator, q_scale=0.0)
    v_pages = values.canceling(tuple(case["v_pages"].shape), dtype, device, generator, 2, 3)
    changed = {"k_pages": torch.zeros_like(case["k_pages"]), "v_pages": v_pages, "v": torch.zeros_like(case["v"])}
    return OpCase("canceling over keys", {**case, **changed})


def _far(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    yield far_pages(inputs([60, 35], [0, 2], (8, 2), 128, 32, 2, dtype, device, generator))


def _stale(case: dict[str, Any]) -> dict[str, Any]:
    """What lies past a row's length must not be seen: large keys, and values that are no number. One page a row."""
    for row, length in enumerate(case["seq_lens"].tolist()):
        case["k_pages"][row, :, length:] = 1e4
        case["v_pages"][row, :, length:] = float("nan")
    return case


def bench(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    shapes = (((32, 8), 128), ((32, 4), 128), ((16, 8), 128), ((96, 8), 64))
    for heads, rotated in shapes:
        for length in (1024, 8192):
            case = inputs([length], [0], heads, rotated, length, 1, dtype, device, generator)
            yield OpCase(f"{heads[0]} over {heads[1]} heads, {length} keys", case)


def cost(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    cos: Tensor,
    sin: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    block_table: Tensor,
    left_padding: Tensor,
    seq_lens: Tensor,
    eps: float,
    scale: float,
) -> Cost:
    """Keys and values of the visible slots, each read once; the new ones written."""
    keys = int((seq_lens - left_padding).sum())
    moved = 2 * keys * k_pages.shape[1] * HEAD_DIM + 2 * q.numel() + 2 * (k.numel() + v.numel())
    return Cost(moved * q.element_size(), 4 * keys * q.shape[2] * HEAD_DIM)


CLUSTER_ATTENTION = Kernel(
    name="cluster_attention",
    launch=cluster_attention.launch,
    eager=decode_step,
    cases=cases,
    cost=cost,
    compilations=lambda dtype: (),
    mutates=("k_pages", "v_pages"),
    bitwise_outputs=("v_pages",),
    bench=bench,
    inapplicable={"all masked": "the newest key, a query's own, is always seen"},
    int64_offset_cases=_far,
    absolute=absolute_values,
    mutants=(
        *ATTENTION_FAULTS,
        unrescaled(decode_step),
        scaled("eps", 0.0, "epsilon dropped", "epsilon"),
        moved_epsilon(lambda i: i["q"]),
        given("key weight on queries", "weight", lambda i: {"q_weight": i["k_weight"]}),
        given("query weight on keys", "weight", lambda i: {"k_weight": i["q_weight"]}),
        given("rotated the other way", "rotary", lambda i: {"sin": -i["sin"]}),
        given("written one slot early", "cache", lambda i: {"seq_lens": torch.clamp_min(i["seq_lens"] - 1, 1)}),
    ),
    dtypes=cluster_attention.DTYPES,
    launches=cluster_attention.launches,
)
