"""RMSNorm, alone and with the residual addition before it: one pass over memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from harness.spec.kernel import Compilation, Cost, Kernel, OpCase
from models.common.kernels import values
from models.common.kernels.arithmetic import interpreted
from models.common.kernels.menu_items import PLAIN_ROWS, SQUARED, SQUARES
from models.common.kernels.mutation import given, moved_epsilon, scaled, truncated
from models.common.kernels.pdl import early_start
from models.common.kernels.types import pointer
from models.common.norms.eager import add_norm, norm

TILE = 4096
"""Elements of one program: enough 16-byte loads for every thread, few enough to stay in registers."""
INTERPRETED_TILE = 65536
"""An interpreter pays for each operation, not for its size."""
SHAPES = ((1, 320), (7, 320), (33, 256), (3, 2560), (1, 128))
"""(rows, H) of the menu."""
BENCH = ((1, 2560), (32, 2560), (16384, 2560))


@triton.jit
def norm_kernel(
    delta_ptr,
    residual_ptr,
    weight_ptr,
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
    """ROWS rows of [rows, H] per program: normed = norm(residual + delta) * weight, total = residual + delta."""
    dtype: tl.constexpr = normed_ptr.dtype.element_ty
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, BLOCK_H)[None, :]
    inside = (row < rows) & (column < H)
    weight = tl.load(weight_ptr + column, mask=column < H, other=0.0).to(tl.float32)
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    x = tl.load(residual_ptr + row * stride_residual + column, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        x += tl.load(delta_ptr + row * stride_delta + column, mask=inside, other=0.0).to(tl.float32)
        x = x.to(dtype).to(tl.float32)
        tl.store(total_ptr + row * H + column, x.to(dtype), mask=inside)
    scale = tl.rsqrt(tl.sum(x * x, 1) / H + eps)
    normed = (x * scale[:, None]).to(dtype).to(tl.float32) * weight
    tl.store(normed_ptr + row * H + column, normed.to(dtype), mask=inside)


def launch_norm(x: Tensor, weight: Tensor, eps: float) -> dict[str, Tensor]:
    """x [..., H] -> {"normed": like x, contiguous}. Rows may be strided, their elements not."""
    normed = torch.empty_like(x, memory_format=torch.contiguous_format)
    _launch(None, x, weight, normed, None, eps)
    return {"normed": normed}


def launch_add_norm(delta: Tensor, residual: Tensor, weight: Tensor, eps: float) -> dict[str, Tensor]:
    """delta, residual [..., H] -> {"normed", "residual": their sum}, both contiguous."""
    normed = torch.empty_like(residual, memory_format=torch.contiguous_format)
    total = torch.empty_like(normed)
    _launch(delta, residual, weight, normed, total, eps)
    return {"normed": normed, "residual": total}


def _launch(
    delta: Tensor | None, residual: Tensor, weight: Tensor, normed: Tensor, total: Tensor | None, eps: float
) -> None:
    size = residual.shape[-1]
    flat = residual.reshape(-1, size)
    added = None if delta is None else delta.reshape(-1, size)
    if flat.stride(-1) != 1 or (added is not None and added.stride(-1) != 1):
        raise ValueError("rows must be unit-stride in their last axis, or other channels would be normed")
    rows = flat.shape[0]
    per_program = rows_per_program(rows, size)
    norm_kernel[(triton.cdiv(rows, per_program),)](
        added,
        flat,
        weight,
        normed,
        total,
        rows,
        size,
        0 if added is None else added.stride(0),
        flat.stride(0),
        eps,
        **constants(per_program, size, delta is not None),
        **early_start(residual),
        num_warps=WARPS,
    )


WARPS = 8


def rows_per_program(rows: int, size: int) -> int:
    block = triton.next_power_of_2(size)
    tile = INTERPRETED_TILE if interpreted() else TILE
    return int(max(1, min(triton.next_power_of_2(rows), tile // block)))


def constants(per_program: int, size: int, add: bool) -> dict[str, object]:
    return {"ROWS": per_program, "BLOCK_H": triton.next_power_of_2(size), "ADD": add}


def _cases(
    dtype: torch.dtype, device: torch.device, generator: torch.Generator
) -> Iterator[tuple[str, Tensor, Tensor]]:
    draw = (dtype, device, generator)
    for shape in SHAPES:
        weight = values.normal(shape[-1:], *draw, scale=0.1, offset=1.0)
        yield f"{shape[0]}x{shape[1]} normal", values.normal(shape, *draw), weight
    shape = (5, 320)
    weight = values.normal(shape[-1:], *draw, scale=0.1, offset=1.0)
    plain = values.normal(shape, *draw)
    yield "small", values.normal(shape, *draw, scale=1e-3), weight
    yield "offset", values.normal(shape, *draw, offset=4.0), weight
    yield "outliers", values.outliers(shape, *draw), weight
    yield "constant", values.constant(shape, dtype, device, 0.5), weight
    yield "nan row", values.with_nan_row(plain, 2), weight
    yield "misaligned", values.misaligned(plain), weight
    yield "sliced", values.sliced(plain), weight
    yield "ties", values.ties((2, 64), *draw), weight[:64]
    yield "near-max", values.near_max((2, 64), *draw, share=SQUARED[dtype]), weight[:64]
    yield "subnormal", values.subnormal((2, 64), *draw), weight[:64]
    yield "expanded", plain[:1, :64].expand(3, -1), weight[:64]
    shape = (values.length(2, 40, device, generator), values.length(100, 900, device, generator))
    weight = values.normal(shape[-1:], *draw, scale=0.1, offset=1.0)
    yield "drawn shape", values.normal(shape, *draw), weight


def _norm_cases(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    for name, x, weight in _cases(dtype, device, generator):
        yield OpCase(name, {"x": x, "weight": weight, "eps": 1e-6})


def _add_cases(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    for name, x, weight in _cases(dtype, device, generator):
        scale = {"small": 1e-3, "subnormal": 0.0}.get(name, 1.0)
        delta = values.normal(tuple(x.shape), dtype, device, generator, scale=scale)
        yield OpCase(name, {"delta": delta, "residual": x, "weight": weight, "eps": 1e-6})


def _far(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    x = values.normal((3, 64), dtype, device, generator)
    weight = values.normal((64,), dtype, device, generator, scale=0.1, offset=1.0)
    yield OpCase("far rows", {"x": values.past_int32(x), "weight": weight, "eps": 1e-6})


def _add_far(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    for case in _far(dtype, device, generator):
        x = case.inputs["x"]
        delta = values.normal(tuple(x.shape), dtype, device, generator)
        yield OpCase(case.name, {"delta": delta, "residual": x, "weight": case.inputs["weight"], "eps": 1e-6})


def _bench(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    for rows, size in BENCH:
        x = values.normal((rows, size), dtype, device, generator)
        delta = values.normal((rows, size), dtype, device, generator)
        weight = values.normal((size,), dtype, device, generator, scale=0.1, offset=1.0)
        yield OpCase(f"{rows}x{size}", {"delta": delta, "residual": x, "weight": weight, "eps": 1e-6})


def _norm_cost(x: Tensor, weight: Tensor, eps: float) -> Cost:
    return Cost((2 * x.numel() + weight.numel()) * x.element_size(), 4 * x.numel())


def _add_cost(delta: Tensor, residual: Tensor, weight: Tensor, eps: float) -> Cost:
    return Cost((4 * residual.numel() + weight.numel()) * residual.element_size(), 5 * residual.numel())


def _compilation(dtype: torch.dtype, add: bool) -> Sequence[Compilation]:
    size = 2560
    used = ["residual_ptr", "weight_ptr", "normed_ptr"] + (["delta_ptr", "total_ptr"] if add else [])
    signature = dict.fromkeys(used, pointer(dtype))
    signature |= dict.fromkeys(("rows", "H", "stride_delta", "stride_residual"), "i32") | {"eps": "fp32"}
    absent = {} if add else {"delta_ptr": None, "total_ptr": None}
    fixed = {**constants(1, size, add), **absent, "PDL": True}
    return (Compilation(norm_kernel, signature, fixed, num_warps=WARPS),)


FAULTS = (
    scaled("eps", 0.0, "epsilon dropped", "epsilon"),
    scaled("eps", 10.0, "epsilon ten times too large", "epsilon"),
    given("weight dropped", "weight", lambda i: {"weight": torch.ones_like(i["weight"])}),
    given("weight added to one", "weight", lambda i: {"weight": i["weight"] + 1}),
)
NORM = Kernel(
    "rms_norm",
    launch_norm,
    norm,
    _norm_cases,
    _norm_cost,
    lambda dtype: _compilation(dtype, False),
    inapplicable={**PLAIN_ROWS, **SQUARES},
    int64_offset_cases=_far,
    mutants=(*FAULTS, moved_epsilon(lambda i: i["x"])),
)
ADD_NORM = Kernel(
    "add_rms_norm",
    launch_add_norm,
    add_norm,
    _add_cases,
    _add_cost,
    lambda dtype: _compilation(dtype, True),
    bench=_bench,
    inapplicable={**PLAIN_ROWS, **SQUARES},
    int64_offset_cases=_add_far,
    mutants=(
        *FAULTS,
        moved_epsilon(lambda i: i["residual"] + i["delta"]),
        given("residual not added", "residual", lambda i: {"delta": torch.zeros_like(i["delta"])}),
        truncated("residual", add_norm),
    ),
)
