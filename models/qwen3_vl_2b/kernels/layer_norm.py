"""Layer normalization, alone and with the residual addition before it: one pass over memory, rounded once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from harness.spec.kernel import Compilation, Cost, Kernel, OpCase
from models.common.kernels import values
from models.common.kernels.menu_items import PLAIN_ROWS, SQUARED
from models.common.kernels.mutation import given, moved_epsilon, scaled
from models.common.kernels.pdl import early_start
from models.common.kernels.types import pointer
from models.common.norms.rms_norm import WARPS, rows_per_program
from models.qwen3_vl_2b.tower_layers import add_layer_norm, layer_norm

SHAPES = ((1, 128), (7, 320), (33, 256), (3, 4096))
"""(rows, H) of the menu."""
BENCH = ((1536, 1024), (16384, 1024))


@triton.jit
def layer_norm_kernel(
    delta_ptr,
    residual_ptr,
    weight_ptr,
    bias_ptr,
    normed_ptr,
    total_ptr,
    rows,
    H,
    stride_delta,
    stride_residual,
    eps,
    ROWS: tl.constexpr,
    BLOCK_H: tl.constexpr,
    ADD: tl.constexpr,
    PDL: tl.constexpr,
):
    """ROWS rows of [rows, H] per program: total = residual + delta, normed = its layer norm."""
    dtype: tl.constexpr = normed_ptr.dtype.element_ty
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, BLOCK_H)[None, :]
    inside = (row < rows) & (column < H)
    weight = tl.load(weight_ptr + column, mask=column < H, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + column, mask=column < H, other=0.0).to(tl.float32)
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    x = tl.load(residual_ptr + row * stride_residual + column, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        x += tl.load(delta_ptr + row * stride_delta + column, mask=inside, other=0.0).to(tl.float32)
        x = x.to(dtype).to(tl.float32)
        tl.store(total_ptr + row * H + column, x.to(dtype), mask=inside)
    # Rounded division: a constant row must center to zeros, which a reciprocal's last place would spoil.
    mean = tl.math.div_rn(tl.sum(x, 1), tl.full((ROWS,), 1.0, tl.float32) * H)
    # Centered before it is squared: the difference of two large sums would lose what an offset hides.
    centered = tl.where(inside, x - mean[:, None], 0.0)
    scale = tl.rsqrt(tl.sum(centered * centered, 1) / H + eps)
    normed = centered * scale[:, None] * weight + bias
    tl.store(normed_ptr + row * H + column, normed.to(dtype), mask=inside)


def launch_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> dict[str, Tensor]:
    """x [..., H] -> {"normed": like x, contiguous}. Rows may be strided, their elements not."""
    normed = torch.empty_like(x, memory_format=torch.contiguous_format)
    _launch(None, x, weight, bias, normed, None, eps)
    return {"normed": normed}


def launch_add_norm(delta: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float) -> dict[str, Tensor]:
    """delta, residual [..., H] -> {"normed", "residual": their sum}, both contiguous."""
    normed = torch.empty_like(residual, memory_format=torch.contiguous_format)
    total = torch.empty_like(normed)
    _launch(delta, residual, weight, bias, normed, total, eps)
    return {"normed": normed, "residual": total}


def _launch(
    delta: Tensor | None,
    residual: Tensor,
    weight: Tensor,
    bias: Tensor,
    normed: Tensor,
    total: Tensor | None,
    eps: float,
) -> None:
    size = residual.shape[-1]
    flat = residual.reshape(-1, size)
    added = flat if delta is None else delta.reshape(-1, size)
    if flat.stride(-1) != 1 or added.stride(-1) != 1:
        raise ValueError("rows must be unit-stride in their last axis, or other channels would be normed")
    rows = flat.shape[0]
    per_program = rows_per_program(rows, size)
    layer_norm_kernel[(triton.cdiv(rows, per_program),)](
        None if delta is None else added,
        flat,
        weight,
        bias,
        normed,
        total,
        rows,
        size,
        added.stride(0),
        flat.stride(0),
        eps,
        ROWS=per_program,
        BLOCK_H=triton.next_power_of_2(size),
        ADD=delta is not None,
        **early_start(residual),
        num_warps=WARPS,
    )


def _cases(
    dtype: torch.dtype, device: torch.device, generator: torch.Generator
) -> Iterator[tuple[str, Tensor, dict[str, Tensor | float]]]:
    draw = (dtype, device, generator)

    def affine(size: int) -> dict[str, Tensor | float]:
        weight = values.normal((size,), *draw, scale=0.1, offset=1.0)
        return {"weight": weight, "bias": values.normal((size,), *draw, scale=0.1), "eps": 1e-6}

    for shape in SHAPES:
        yield f"{shape[0]}x{shape[1]} normal", values.normal(shape, *draw), affine(shape[1])
    shape = (5, 320)
    plain = values.normal(shape, *draw)
    yield "small", values.normal(shape, *draw, scale=1e-3), affine(320)
    yield "offset", values.normal(shape, *draw, offset=4.0), affine(320)
    yield "outliers", values.outliers(shape, *draw), affine(320)
    yield "constant", values.constant(shape, dtype, device, 0.5), affine(320)
    yield "nan row", values.with_nan_row(plain, 2), affine(320)
    yield "misaligned", values.misaligned(plain), affine(320)
    yield "sliced", values.sliced(plain), affine(320)
    yield "ties", values.ties((2, 64), *draw), affine(64)
    yield "near-max", values.near_max((2, 64), *draw, share=SQUARED[dtype]), affine(64)
    yield "subnormal", values.subnormal((2, 64), *draw), affine(64)
    yield "expanded", plain[:1, :64].expand(3, -1), affine(64)
    drawn = (values.length(2, 40, device, generator), values.length(100, 900, device, generator))
    yield "drawn shape", values.normal(drawn, *draw), affine(drawn[1])


def _norm_cases(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    for name, x, affine in _cases(dtype, device, generator):
        yield OpCase(name, {"x": x, **affine})


def _add_cases(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    for name, x, affine in _cases(dtype, device, generator):
        scale = {"small": 1e-3, "subnormal": 0.0}.get(name, 1.0)
        delta = values.normal(tuple(x.shape), dtype, device, generator, scale=scale)
        yield OpCase(name, {"delta": delta, "residual": x, **affine})


def _far(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    x, weight = (values.normal(shape, dtype, device, generator) for shape in ((3, 64), (64,)))
    yield OpCase("far rows", {"x": values.past_int32(x), "weight": weight, "bias": weight - 1, "eps": 1e-6})


def _add_far(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    for case in _far(dtype, device, generator):
        x = case.inputs["x"]
        affine = {name: value for name, value in case.inputs.items() if name != "x"}
        yield OpCase(
            case.name, {"delta": values.normal(tuple(x.shape), dtype, device, generator), "residual": x, **affine}
        )


def _bench(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    draw = (dtype, device, generator)
    for rows, size in BENCH:
        pair = {name: values.normal((rows, size), *draw) for name in ("delta", "residual")}
        weight = values.normal((size,), *draw, scale=0.1, offset=1.0)
        yield OpCase(f"{rows}x{size}", {**pair, "weight": weight, "bias": weight - 1, "eps": 1e-6})


def _norm_cost(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Cost:
    return Cost((2 * x.numel() + 2 * weight.numel()) * x.element_size(), 7 * x.numel())


def _add_cost(delta: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Cost:
    return Cost((4 * residual.numel() + 2 * weight.numel()) * residual.element_size(), 8 * residual.numel())


def _compilation(dtype: torch.dtype, add: bool) -> Sequence[Compilation]:
    used = ["residual_ptr", "weight_ptr", "bias_ptr", "normed_ptr"] + (["delta_ptr", "total_ptr"] if add else [])
    signature = dict.fromkeys(used, pointer(dtype))
    signature |= dict.fromkeys(("rows", "H", "stride_delta", "stride_residual"), "i32") | {"eps": "fp32"}
    absent = {} if add else {"delta_ptr": None, "total_ptr": None}
    fixed = {"ROWS": 4, "BLOCK_H": 1024, "ADD": add, **absent, "PDL": True}
    return (Compilation(layer_norm_kernel, signature, fixed, num_warps=WARPS),)


def _centered(x: Tensor) -> Tensor:
    return x - x.mean(-1, keepdim=True)


FAULTS = (
    scaled("eps", 0.0, "epsilon dropped", "epsilon"),
    given("weight dropped", "weight", lambda i: {"weight": torch.ones_like(i["weight"])}),
    given("bias dropped", "bias", lambda i: {"bias": torch.zeros_like(i["bias"])}),
)
INAPPLICABLE = {
    **PLAIN_ROWS,
    "canceling": "terms that cancel in a mean are answers themselves, rounded as coarsely as their sum in a half type",
}
LAYER_NORM = Kernel(
    "layer_norm",
    launch_norm,
    layer_norm,
    _norm_cases,
    _norm_cost,
    lambda dtype: _compilation(dtype, False),
    inapplicable=INAPPLICABLE,
    int64_offset_cases=_far,
    mutants=(*FAULTS, moved_epsilon(lambda i: _centered(i["x"]))),
)
ADD_LAYER_NORM = Kernel(
    "add_layer_norm",
    launch_add_norm,
    add_layer_norm,
    _add_cases,
    _add_cost,
    lambda dtype: _compilation(dtype, True),
    bench=_bench,
    inapplicable=INAPPLICABLE,
    int64_offset_cases=_add_far,
    mutants=(
        *FAULTS,
        moved_epsilon(lambda i: _centered(i["residual"] + i["delta"])),
        given("residual not added", "residual", lambda i: {"delta": torch.zeros_like(i["delta"])}),
    ),
)
