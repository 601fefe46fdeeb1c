"""silu(gate) * up in one pass; gate and up may be the two halves of one packed result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from harness.spec.kernel import Compilation, Cost, Kernel, OpCase
from harness.spec.mutant import Mutant
from models.common.kernels import values
from models.common.kernels.arithmetic import interpreted, silu
from models.common.kernels.menu_items import NOTHING_SUMMED, PLAIN_ROWS, items
from models.common.kernels.mutation import HALF, given, truncated
from models.common.kernels.pdl import early_start
from models.common.kernels.types import pointer
from models.common.mlp.eager import swiglu

COLUMNS = 1024
MOST_ROWS = 4
BUSY = 1024
"""Rows from which a program takes MOST_ROWS."""
INTERPRETED_ROWS = 64
"""An interpreter pays for each operation, not for its size."""
WARPS = 4
SHAPES = ((1, 1), (7, 608), (3, 1025), (2, 1024))


@triton.jit
def swiglu_kernel(
    gate_ptr,
    up_ptr,
    out_ptr,
    rows,
    size,
    stride_gate,
    stride_up,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    PDL: tl.constexpr,
):
    """A tile [ROWS, COLUMNS] of [rows, size] per program."""
    dtype: tl.constexpr = out_ptr.dtype.element_ty
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    inside = (row < rows) & (column < size)
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    gate = tl.load(gate_ptr + row * stride_gate + column, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(up_ptr + row * stride_up + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out_ptr + row * size + column, (silu(gate, dtype) * up).to(dtype), mask=inside)


def launch(gate: Tensor, up: Tensor) -> dict[str, Tensor]:
    """gate, up [..., I], rows strided as they come -> {"out": [..., I] contiguous}."""
    size = gate.shape[-1]
    flat_gate, flat_up = gate.flatten(0, -2), up.flatten(0, -2)
    if flat_gate.stride(-1) != 1 or flat_up.stride(-1) != 1:
        raise ValueError("gate and up must be unit-stride in their last axis, or other channels would be paired")
    out = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
    rows = flat_gate.shape[0]
    per_program = min(INTERPRETED_ROWS, triton.next_power_of_2(rows)) if interpreted() else rows_per_program(rows)
    swiglu_kernel[(triton.cdiv(rows, per_program), triton.cdiv(size, COLUMNS))](
        flat_gate,
        flat_up,
        out,
        rows,
        size,
        flat_gate.stride(0),
        flat_up.stride(0),
        ROWS=per_program,
        COLUMNS=COLUMNS,
        **early_start(flat_gate),
        num_warps=WARPS,
    )
    return {"out": out}


def rows_per_program(rows: int) -> int:
    """One where there are few rows, so that they still fill the device."""
    return MOST_ROWS if rows >= BUSY else 1


def _cases(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    draw = (dtype, device, generator)
    for shape in SHAPES:
        pair = {"gate": values.normal(shape, *draw), "up": values.normal(shape, *draw)}
        yield OpCase(f"{shape[0]}x{shape[1]} normal", pair)
    shape = (5, 608)
    up = values.normal(shape, *draw)
    yield OpCase("offset", {"gate": values.normal(shape, *draw, offset=4.0), "up": up})
    yield OpCase("negative", {"gate": values.normal(shape, *draw, offset=-12.0), "up": up})
    yield OpCase("outliers", {"gate": values.outliers(shape, *draw), "up": up})
    yield OpCase("nan row", {"gate": values.with_nan_row(values.normal(shape, *draw), 1), "up": up})
    shape = (values.length(2, 40, device, generator), values.length(100, 1500, device, generator))
    yield OpCase("drawn shape", {"gate": values.normal(shape, *draw), "up": values.normal(shape, *draw)})
    shape = (5, 608)
    yield OpCase("sliced", {"gate": values.sliced(values.normal(shape, *draw)), "up": values.misaligned(up)})
    pair = {"gate": values.normal((2, 64), *draw), "up": values.normal((2, 64), *draw, scale=0.2)}
    yield from items(pair, ("gate",), generator, "small", "near-max", "subnormal")
    yield from items(pair, ("gate", "up"), generator, "ties", "constant", "expanded", "misaligned")


def _far(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    gate, up = (values.normal((3, 64), dtype, device, generator) for _ in range(2))
    yield OpCase("far rows", {"gate": values.past_int32(gate), "up": up})


def _bench(dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Iterator[OpCase]:
    for rows in (1, 32, 4096):
        packed = values.normal((rows, 2 * 9728), dtype, device, generator)
        gate, up = packed.split(9728, dim=-1)
        yield OpCase(f"{rows}x9728 packed", {"gate": gate, "up": up})


def _cost(gate: Tensor, up: Tensor) -> Cost:
    return Cost(3 * gate.numel() * gate.element_size(), 5 * gate.numel())


def _compilations(dtype: torch.dtype) -> Sequence[Compilation]:
    signature = dict.fromkeys(("gate_ptr", "up_ptr", "out_ptr"), pointer(dtype))
    signature |= dict.fromkeys(("rows", "size", "stride_gate", "stride_up"), "i32")
    fixed = {"ROWS": MOST_ROWS, "COLUMNS": COLUMNS, "PDL": True}
    return (Compilation(swiglu_kernel, signature, fixed, num_warps=WARPS),)


def _coarse_exponential(launch: Callable[..., Mapping[str, Tensor]]) -> Callable[..., Mapping[str, Tensor]]:
    """In half types an exponential that is a quarter of the distance between two numbers too large."""

    def faulty(gate: Tensor, up: Tensor) -> Mapping[str, Tensor]:
        if gate.dtype not in HALF:
            return launch(gate=gate, up=up)
        large = torch.exp(-gate.float()) * (1 + torch.finfo(gate.dtype).eps / 4)
        return {"out": (gate.float() / (1 + large)).to(gate.dtype) * up}

    return faulty


SWIGLU = Kernel(
    "swiglu",
    launch,
    swiglu,
    _cases,
    _cost,
    _compilations,
    bench=_bench,
    batch_invariant=("gate", "up"),
    inapplicable={**PLAIN_ROWS, **NOTHING_SUMMED},
    int64_offset_cases=_far,
    mutants=(
        given("gate and up exchanged", "gate", lambda i: {"gate": i["up"], "up": i["gate"]}),
        given("gate clamped", "gate", lambda i: {"gate": i["gate"].clamp(-8, 8)}),
        Mutant("coarse exponential", "approximation", _coarse_exponential),
        truncated("out", swiglu),
    ),
)
