"""Segment attention as the harness knows it: input cases, cost, compilations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.spec.kernel import Compilation, Cost, Kernel, OpCase
from models.common.attention.attention_faults import canceling, one_channel, unrescaled
from models.common.kernels import values
from models.common.kernels.menu_items import together
from models.common.kernels.mutation import Inputs, given, scaled
from models.common.kernels.types import pointer
from models.qwen3_vl_2b.kernels import segment_attention
from models.qwen3_vl_2b.segments import Segments, attend_segments


def _case(
    sizes: Sequence[int],
    heads: int,
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator,
    size: int = 64,
    scale: float = 1.0,
) -> dict[str, Any]:
    """Values are a view of a packed projection, as a tower's are."""
    draw = (dtype, device, generator)
    shape = (sum(sizes), heads, size)
    packed = values.normal((sum(sizes), 3, heads, size), *draw)
    return {
        "q": values.normal(shape, *draw, scale=scale),
        "k": values.normal(shape, *draw),
        "v": packed[:, 2],
        "bounds": Segments(sizes, device).bounds,
        "scale": size**-0.5,
    }


def _cases(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    draw = (dtype, device, generator)
    yield OpCase("one token", _case((1,), 2, *draw))
    yield OpCase("three segments", _case((12, 31, 5), 2, *draw))
    yield OpCase("block and one", _case((65, 129, 3), 1, *draw))
    yield OpCase("whole blocks", _case((64, 128), 1, *draw))
    yield OpCase("wide heads", _case((7, 20), 1, *draw, size=128))
    yield OpCase("peaky", _case((40, 3), 2, *draw, scale=8.0))
    nan = _case((9, 11), 2, *draw)
    nan["v"][:9] = float("nan")
    yield OpCase("nan row, the whole of one segment", nan)
    count, heads = values.length(2, 5, device, generator), values.length(1, 6, device, generator)
    drawn = [values.length(1, 60, device, generator) for _ in range(count)]
    yield OpCase("drawn shape", _case(drawn, heads, *draw))
    case = _case((5, 4), 2, *draw)
    yield together(case, generator, {"transposed": ("q", "k", "v")})
    case = _case((5, 4), 1, *draw)
    yield together(case, generator, {"small": ("q",), "offset": ("v",)})
    yield together(case, generator, {"ties": ("q", "k"), "subnormal": ("v",)})
    yield together(case, generator, {"constant": ("q", "k"), "near-max": ("v",)}, most=0.05)
    yield together(case, generator, {"expanded": ("k",), "outliers": ("v",)})
    yield together(case, generator, {"sliced": ("q", "k"), "misaligned": ("v",)})
    case = _case((256,), 2, *draw)
    k, v = canceling((256, 2, 64), 1, 0, *draw)
    changed = {"q": one_channel(case["q"]), "k": k, "v": v, "scale": math.log(2)}
    yield OpCase("canceling over keys, the largest scores last", {**case, **changed})


def _far(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    case = _case((5, 4), 2, dtype, device, generator)
    yield OpCase("far values", {**case, "v": values.past_int32(case["v"])})


def _bench(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    for count, size in ((2, 1536), (64, 1536)):
        yield OpCase(f"{count} x {size}", _case((size,) * count, 16, dtype, device, generator))


def _cost(q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, scale: float) -> Cost:
    pairs = int(bounds.diff().square().sum())
    return Cost(4 * q.numel() * q.element_size(), 4 * pairs * q.shape[1] * q.shape[2])


def _compilations(dtype: torch.dtype) -> Sequence[Compilation]:
    signature = dict.fromkeys(("q_ptr", "k_ptr", "v_ptr", "out_ptr"), pointer(dtype))
    strides = ("q", "q_head", "k", "k_head", "v", "v_head")
    signature |= {"bounds_ptr": "*i32", "scale": "fp32"} | dict.fromkeys((f"stride_{s}" for s in strides), "i32")
    shape = segment_attention.default_shape(dtype.itemsize)
    fixed = segment_attention.constants(shape, 16, 64)
    return (Compilation(segment_attention.segment_kernel, signature, fixed, shape.num_warps),)


def _moved(inputs: Inputs) -> Tensor:
    """The first inner bound, where there is one, one token later."""
    bounds = inputs["bounds"].clone()
    bounds[1:-1][:1] += 1
    return bounds


SEGMENT_ATTENTION = Kernel(
    "segment_attention",
    segment_attention.launch,
    attend_segments,
    _cases,
    _cost,
    _compilations,
    bench=_bench,
    inapplicable={"all masked": "every token sees itself"},
    int64_offset_cases=_far,
    absolute=lambda i: {"v": i["v"].abs()},
    mutants=(
        scaled("scale", 1.01, "scale off by 1 %", "scale"),
        unrescaled(attend_segments),
        given("a bound off by one", "mask", lambda i: {"bounds": _moved(i)}),
        given("one segment for all", "mask", lambda i: {"bounds": i["bounds"][[0, -1]]}),
        given("blocks of the last segment alone", "grid", lambda i: {"longest": int(i["bounds"].diff()[-1])}),
        given("keys of another head", "heads", lambda i: {"k": i["k"].flip(1)}),
    ),
)
