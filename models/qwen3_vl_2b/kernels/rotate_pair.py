"""Queries and keys of one packed projection rotated in float32: one read, one rounding, one write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from harness.spec.kernel import Compilation, Cost, Kernel, OpCase
from models.common.kernels import values
from models.common.kernels.menu_items import NOTHING_SUMMED, PLAIN_ROWS, items
from models.common.kernels.mutation import given
from models.common.kernels.pdl import early_start
from models.common.kernels.types import pointer
from models.qwen3_vl_2b.tower_layers import rotate_pair

ROWS = 32
WARPS = 4


@triton.jit
def rotate_pair_kernel(
    qkv_ptr,
    cos_ptr,
    sin_ptr,
    out_ptr,
    rows,
    stride_qkv,
    HEADS: tl.constexpr,
    HALF: tl.constexpr,
    ROWS: tl.constexpr,
    PDL: tl.constexpr,
):
    """Grid (blocks of ROWS tokens, 2 HEADS): one head of the queries, or past HEADS of the keys, per program. Both lie
    side by side in a row of qkv and one after the other in out [2, rows, HEADS, 2 HALF]."""
    dtype: tl.constexpr = out_ptr.dtype.element_ty
    head = tl.program_id(1)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    channel = tl.arange(0, HALF)[None, :]
    inside = row < rows
    angle = row * 2 * HALF + channel
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    cos_first = tl.load(cos_ptr + angle, mask=inside, other=0.0)
    cos_second = tl.load(cos_ptr + angle + HALF, mask=inside, other=0.0)
    sin_first = tl.load(sin_ptr + angle, mask=inside, other=0.0)
    sin_second = tl.load(sin_ptr + angle + HALF, mask=inside, other=0.0)
    at = qkv_ptr + row * stride_qkv + head * 2 * HALF + channel
    first = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(at + HALF, mask=inside, other=0.0).to(tl.float32)
    to = out_ptr + (((head // HEADS) * rows + row) * HEADS + head % HEADS) * 2 * HALF + channel
    tl.store(to, (first * cos_first - second * sin_first).to(dtype), mask=inside)
    tl.store(to + HALF, (second * cos_second + first * sin_second).to(dtype), mask=inside)


def launch(qkv: Tensor, cos: Tensor, sin: Tensor, heads: int) -> dict[str, Tensor]:
    """As models.common.rotary.eager.rotate_pair. Heads of a power of two channels; cos and sin float32."""
    rows, size = cos.shape
    if qkv.shape != (rows, 3 * heads * size) or qkv.stride(1) != 1:
        raise ValueError(f"qkv {tuple(qkv.shape)} is not {rows} unit-stride rows of 3 x {heads} heads of {size}")
    if size & (size - 1) or cos.dtype != torch.float32 or not (cos.is_contiguous() and sin.is_contiguous()):
        raise ValueError("cos and sin must be contiguous float32 [N, a power of two], or angles would be misread")
    out = torch.empty(2, rows, heads, size, dtype=qkv.dtype, device=qkv.device)
    rotate_pair_kernel[(triton.cdiv(rows, ROWS), 2 * heads)](
        qkv,
        cos,
        sin,
        out,
        rows,
        qkv.stride(0),
        HEADS=heads,
        HALF=size // 2,
        ROWS=ROWS,
        **early_start(qkv),
        num_warps=WARPS,
    )
    return {"q": out[0], "k": out[1]}


def _case(
    rows: int, heads: int, dtype: torch.dtype, device: torch.device, generator: torch.Generator, size: int = 64
) -> dict[str, Any]:
    """The halves of an angle's row differ here, so that reading one for the other shows."""
    angles = values.normal((rows, size), torch.float32, device, generator, scale=20.0)
    qkv = values.normal((rows, 3 * heads * size), dtype, device, generator)
    return {"qkv": qkv, "cos": angles.cos(), "sin": angles.sin(), "heads": heads}


def _cases(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    draw = (dtype, device, generator)
    yield OpCase("one token", _case(1, 2, *draw))
    yield OpCase("prime", _case(37, 3, *draw))
    yield OpCase("wide heads", _case(5, 2, *draw, size=128))
    case = _case(9, 2, *draw)
    yield OpCase("sliced", {**case, "qkv": values.sliced(case["qkv"])})
    yield OpCase("nan row", {**case, "qkv": values.with_nan_row(case["qkv"], 4)})
    yield OpCase("outliers", {**case, "qkv": values.outliers(tuple(case["qkv"].shape), *draw)})
    rows, heads = values.length(2, 200, device, generator), values.length(1, 8, device, generator)
    yield OpCase("drawn shape", _case(rows, heads, *draw))
    case, chosen = _case(2, 1, *draw), ("small", "offset", "near-max", "subnormal", "ties", "constant")
    yield from items(case, ("qkv",), generator, *chosen, "expanded", "misaligned", most=0.5)


def _far(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    case = _case(3, 1, dtype, device, generator)
    yield OpCase("far rows", {**case, "qkv": values.past_int32(case["qkv"])})


def _without_last(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, -1] = 0
    return x


def _bench(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    for rows in (1536, 16384):
        yield OpCase(f"{rows} patches", _case(rows, 16, dtype, device, generator))


def _cost(qkv: Tensor, cos: Tensor, sin: Tensor, heads: int) -> Cost:
    """q and k read and written, the angles read once."""
    moved = 2 * qkv.shape[0] * heads * cos.shape[1]
    return Cost(2 * moved * qkv.element_size() + 2 * cos.numel() * cos.element_size(), 3 * moved)


def _compilations(dtype: torch.dtype) -> Sequence[Compilation]:
    signature = {"qkv_ptr": pointer(dtype), "out_ptr": pointer(dtype), "cos_ptr": "*fp32", "sin_ptr": "*fp32"}
    signature |= {"rows": "i32", "stride_qkv": "i32"}
    fixed = {"HEADS": 16, "HALF": 32, "ROWS": ROWS, "PDL": True}
    return (Compilation(rotate_pair_kernel, signature, fixed, num_warps=WARPS),)


ROTATE_PAIR = Kernel(
    "rotate_pair",
    launch,
    rotate_pair,
    _cases,
    _cost,
    _compilations,
    bench=_bench,
    batch_invariant=("qkv", "cos", "sin"),
    inapplicable={**PLAIN_ROWS, **NOTHING_SUMMED},
    int64_offset_cases=_far,
    mutants=(
        given("rotated the other way", "rotary", lambda i: {"sin": -i["sin"]}),
        given("angles of the next token", "position", lambda i: {"cos": i["cos"].roll(-1, 0)}),
        given(
            "qkv read without its last column",
            "input",
            lambda i: {"qkv": _without_last(i["qkv"])},
            equivalent="the last columns are values, which nobody rotates",
        ),
        given("angle halves exchanged", "rotary", lambda i: {"cos": i["cos"].roll(i["cos"].shape[1] // 2, 1)}),
    ),
)
