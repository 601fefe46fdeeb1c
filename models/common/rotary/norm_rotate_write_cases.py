"""Rotation and cache write, with a norm before them and without, as the harness knows them: input menus, costs,
compilations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harness.spec.kernel import Compilation, Cost, Kernel, OpCase, OpCases
from harness.spec.mutant import Mutant
from models.common.attention import eager
from models.common.attention.attention_faults import far_pages
from models.common.kernels import values
from models.common.kernels.menu_items import NO_ATTENTION, NOTHING_SUMMED, SQUARED, SQUARES, items, together
from models.common.kernels.mutation import Inputs, given, moved_epsilon, scaled
from models.common.kernels.types import pointer
from models.common.rotary import norm_rotate_write


def _case(
    shape: tuple[int, int, int, int, int, int],
    page_tokens: int,
    columns: int,
    x: tuple[Tensor, Tensor, Tensor],
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator,
) -> dict[str, Any]:
    """shape is (B, T, heads, kv_heads, D, R). Pages hold few slots beside those written: judged together with memory
    that nothing touches, an error would look small and its noise smaller."""
    batch, tokens, _, kv_heads, size, rotated = shape
    draw = (dtype, device, generator)
    angles = torch.rand(batch, tokens, rotated // 2, device=device, generator=generator) * 6.28
    angles = torch.cat((angles, angles), dim=-1)
    pages = batch * columns
    block_table = torch.arange(pages, dtype=torch.int32, device=device).flip(0).view(batch, columns)
    seq_lens = torch.arange(batch, dtype=torch.int32, device=device) % 3 + tokens + 2
    return {
        "q": x[0],
        "k": x[1],
        "v": x[2],
        "q_weight": values.normal((size,), *draw, scale=0.1, offset=1.0),
        "k_weight": values.normal((size,), *draw, scale=0.1, offset=1.0),
        "cos": angles.cos().to(dtype),
        "sin": angles.sin().to(dtype),
        "k_pages": values.normal((pages, kv_heads, page_tokens, size), *draw),
        "v_pages": values.normal((pages, kv_heads, page_tokens, size), *draw),
        "block_table": block_table.contiguous(),
        "seq_lens": seq_lens,
        "eps": 1e-6,
    }


def _heads(
    shape: tuple[int, int, int, int, int, int],
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v as the views of one packed projection."""
    batch, tokens, heads, kv_heads, size, _ = shape
    packed = values.normal((batch, tokens, heads + 2 * kv_heads, size), dtype, device, generator, scale=scale)
    q, k, v = packed.split([heads, kv_heads, kv_heads], dim=2)
    return q, k, v


def _cases(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    draw = (dtype, device, generator)
    for name, shape, page_tokens, columns in (
        ("one token", (1, 1, 32, 8, 128, 128), 3, 1),
        ("GQA 4 paged", (2, 5, 8, 2, 128, 128), 4, 3),
        ("GQA 8", (1, 7, 16, 2, 128, 128), 9, 1),
        ("GQA 12 half width", (2, 16, 24, 2, 128, 64), 19, 1),
        ("one token, half width, paged", (2, 1, 24, 2, 128, 64), 2, 3),
        ("GQA 2, sliced heads", (3, 2, 4, 2, 128, 128), 6, 1),
    ):
        yield OpCase(name, _case(shape, page_tokens, columns, _heads(shape, *draw), *draw))
    shape = (2, 3, 8, 2, 128, 128)
    yield OpCase("small", _case(shape, 6, 1, _heads(shape, *draw, scale=1e-3), *draw))
    ends = ((1, 3), (2, 9), (1, 5), (1, 3), (12, 40))
    batch, tokens, group, kv_heads, page_tokens = (values.length(*end, device, generator) for end in ends)
    drawn = (batch, tokens, group * kv_heads, kv_heads, 128, 128)
    yield OpCase("drawn shape", _case(drawn, page_tokens, 1, _heads(drawn, *draw), *draw))
    q, k, v = _heads(shape, *draw)
    yield OpCase("separate", _case(shape, 6, 1, (q.contiguous(), k.contiguous(), v.contiguous()), *draw))
    shape = (2, 2, 4, 2, 128, 128)
    case = _case(shape, 5, 1, _heads(shape, *draw), *draw)
    for one, other in (
        ("offset", "outliers"),
        ("subnormal", "ties"),
        ("constant", "near-max"),
        ("near-max", "nan row"),
    ):
        yield together(case, generator, {one: ("q",), other: ("k",)}, most=SQUARED[dtype])
    yield from items(case, ("q", "k", "v"), generator, "transposed", "expanded", "misaligned")


def _far(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    draw, shape = (dtype, device, generator), (2, 2, 4, 2, 128, 128)
    yield far_pages(_case(shape, 5, 2, _heads(shape, *draw), *draw))


NORM = ("q_weight", "k_weight", "eps")
"""What a model that norms no head does not have."""


def _unnormed(cases: OpCases) -> OpCases:
    """The same inputs for rotation and write alone."""

    def made(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
        for case in cases(dtype, device, generator):
            yield OpCase(case.name, {name: value for name, value in case.inputs.items() if name not in NORM})

    return made


def _bench(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    draw = (dtype, device, generator)
    for heads, rotated in ((32, 128), (96, 64)):
        for batch, tokens, capacity in ((1, 1, 1032), (32, 1, 1032), (4, 4096, 4104)):
            shape = (batch, tokens, heads, 8, 128, rotated)
            yield OpCase(
                f"B{batch} T{tokens}, {heads} heads, {rotated} channels",
                _case(shape, capacity, 1, _heads(shape, *draw), *draw),
            )


def _cost(
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
    seq_lens: Tensor,
    eps: float,
) -> Cost:
    turned = _rotate_cost(q, k, v, cos, sin, k_pages, v_pages, block_table, seq_lens)
    return Cost(turned.bytes + 2 * q_weight.nbytes, turned.flops + 4 * (q.numel() + k.numel()))


def _rotate_cost(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cos: Tensor,
    sin: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    block_table: Tensor,
    seq_lens: Tensor,
) -> Cost:
    moved = 2 * (q.numel() + k.numel() + v.numel()) + 2 * cos.numel()
    return Cost(moved * q.element_size(), 6 * (q.numel() + k.numel()))


def _interleaved(angles: Tensor) -> Tensor:
    """cos or sin [B, T, R] in the order of neighbors that turn together."""
    return angles[..., : angles.shape[-1] // 2].repeat_interleave(2, dim=-1)


def _half(inputs: Inputs) -> Inputs:
    size = inputs["cos"].shape[-1] // 2
    return {"cos": inputs["cos"][..., :size].contiguous(), "sin": inputs["sin"][..., :size].contiguous()}


def _compilations(dtype: torch.dtype) -> Sequence[Compilation]:
    tensors = ("q", "k", "v", "q_weight", "k_weight", "cos", "sin", "k_pages", "v_pages", "out")
    signature = dict.fromkeys((f"{name}_ptr" for name in tensors), pointer(dtype))
    signature |= {"table_ptr": "*i32", "lengths_ptr": "*i32", "eps": "fp32"}
    strides = ("q_row", "q_token", "kv_row", "kv_token", "cos_row", "cos_token", "page", "head", "slot", "block_table")
    signature |= dict.fromkeys(("batch", "tokens", "page_tokens", *(f"stride_{name}" for name in strides)), "i32")
    return tuple(
        Compilation(
            norm_rotate_write.norm_rotate_write_kernel,
            signature,
            {**norm_rotate_write.constants(heads, kv_heads, 128, rotated, rows), "PDL": True},
            norm_rotate_write.WARPS,
        )
        for heads, kv_heads, rotated, rows in (
            (32, 8, 128, norm_rotate_write.FEW_ROWS),
            (32, 8, 128, norm_rotate_write.MANY_ROWS),
            (96, 8, 64, norm_rotate_write.FEW_ROWS),
            (96, 8, 64, norm_rotate_write.MANY_ROWS),
        )
    )


def _rotate_compilations(dtype: torch.dtype) -> Sequence[Compilation]:
    """The same without weights."""
    weights = ("q_weight_ptr", "k_weight_ptr")
    return tuple(
        replace(
            made,
            signature={name: kind for name, kind in made.signature.items() if name not in weights},
            constants={**made.constants, **dict.fromkeys(weights)},
        )
        for made in _compilations(dtype)
    )


FAULTS: tuple[Mutant, ...] = (
    given("rotated the other way", "rotary", lambda i: {"sin": -i["sin"]}),
    given("half of the channels rotated", "rotary", lambda i: _half(i)),
    given("interleaved pairs rotated", "rotary", lambda i: {n: _interleaved(i[n]) for n in ("cos", "sin")}),
    given("written one slot early", "cache", lambda i: {"seq_lens": i["seq_lens"] - 1}),
    given("pages exchanged", "cache", lambda i: {"block_table": i["block_table"].flip(1)}),
    given("rows exchanged", "cache", lambda i: {"block_table": i["block_table"].flip(0)}),
    given("values of other heads", "heads", lambda i: {"v": i["v"].flip(2).contiguous(), "k": i["k"].contiguous()}),
)
NORM_ROTATE_WRITE = Kernel(
    "norm_rotate_write",
    norm_rotate_write.launch,
    eager.norm_rotate_write,
    _cases,
    _cost,
    _compilations,
    mutates=("k_pages", "v_pages"),
    bitwise_outputs=("v_pages",),
    bench=_bench,
    inapplicable={**NO_ATTENTION, **SQUARES},
    int64_offset_cases=_far,
    mutants=(
        scaled("eps", 0.0, "epsilon dropped", "epsilon"),
        moved_epsilon(lambda i: i["q"]),
        given("key weight on queries", "weight", lambda i: {"q_weight": i["k_weight"]}),
        given("query weight on keys", "weight", lambda i: {"k_weight": i["q_weight"]}),
        *FAULTS,
    ),
)
ROTATE_WRITE = Kernel(
    "rotate_write",
    norm_rotate_write.launch_rotate,
    eager.rotate_write,
    _unnormed(_cases),
    _rotate_cost,
    _rotate_compilations,
    mutates=("k_pages", "v_pages"),
    bitwise_outputs=("v_pages",),
    bench=_unnormed(_bench),
    batch_invariant=("q", "k", "v", "cos", "sin", "block_table", "seq_lens"),
    inapplicable={**NO_ATTENTION, **NOTHING_SUMMED},
    int64_offset_cases=_unnormed(_far),
    mutants=FAULTS,
)
