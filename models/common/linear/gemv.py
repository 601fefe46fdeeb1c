"""Products of a few activation rows with a large weight matrix: decode speed is the speed of reading the weights."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import triton
from torch import Tensor

from models.common.kernels.arithmetic import interpreted
from models.common.kernels.workspace import Workspace
from models.common.linear.gemv_loops import matrix_kernel, vector_kernel

MAX_ROWS = 64
PROGRAMS = 264
"""Twice the multiprocessors of an H200: fewer programs leave memory bandwidth unused."""


@dataclass(frozen=True)
class GemvShape:
    """How one product is cut into programs. `block_n` weight rows and `block_k` of their elements per step."""

    block_n: int
    block_k: int
    num_warps: int
    num_stages: int
    """Steps whose loads are in flight through shared memory; 1 loads straight into registers."""
    split_k: int = 1
    """Programs that share one sum; more than 1 needs at least 2 activation rows."""
    unroll: int = 1
    """Steps per loop iteration, for num_stages 1."""
    pdl: bool = False
    """Start before the previous kernel ends. Every reader of this kernel's outputs must wait for it in turn."""
    prefetch: int = 0
    """Weight elements per row that are prefetched into L2 at the start; a multiple of 8, at most one sum's length."""


def default_shape(m: int, n: int, k: int, element_size: int, paired: bool = False) -> GemvShape:
    """The launch shape for x [m, k] times n outputs; `paired` outputs read two weight rows each."""
    upcast = element_size > 2
    if m == 1:
        block_n = 4 if n <= 8192 else 8 if n <= 32768 else 16
        return GemvShape(max(block_n // (2 if paired else 1), 1), 256 if upcast else 512, 2, 4)
    block_n = 16 if n <= 4096 or paired else 32
    block_k = 64 if upcast else 256 if m <= 16 else 128
    blocks, chunks = triton.cdiv(n, block_n), triton.cdiv(k, block_k)
    split_k = min(4, chunks, triton.cdiv(PROGRAMS, blocks))
    return GemvShape(block_n, block_k, 4, 2 if upcast else 4, split_k)


def interpreted_shape(m: int, n: int, k: int, element_size: int, paired: bool = False) -> GemvShape:
    """Few programs with large blocks, and no masks: an interpreter pays for each operation and each masked load."""
    return GemvShape(min(2048, triton.next_power_of_2(n)), max(16, min(1024, k & -k)), 4, 1)


def block_rows(m: int) -> int:
    """Activation rows padded to a size of the tensor cores."""
    return max(16, triton.next_power_of_2(m))


def row_edges(rows: int) -> tuple[int, ...]:
    """The last numbers of activation rows before other code runs, up to `rows`, beyond which these loops serve none."""
    code = [(m == 1, block_rows(m)) for m in range(1, rows + 1)]
    return (*(m for m, (own, following) in enumerate(pairwise(code), 1) if own != following), rows)


def needs(m: int, n: int, shape: GemvShape, paired: bool = False) -> tuple[int, int]:
    """(floats, tickets) of the workspace of one launch; `shape` as launched."""
    if m == 1 or shape.split_k == 1:
        return 0, 0
    return shape.split_k * m * n * (2 if paired else 1), triton.cdiv(n, shape.block_n)


def gemv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    shape: GemvShape | None = None,
    workspace: Workspace | None = None,
    rounded: bool = True,
) -> dict[str, Tensor]:
    """x [M, K], weight [N, K], bias [N] -> {"out": [M, N]}, M <= 64, in float32 where it is not to be rounded. A split
    sum allocates a workspace where it is given none."""
    epilogue = "none" if bias is None else "bias"
    return {"out": _launch(x, weight, weight.shape[0], epilogue, bias, shape, workspace, rounded=rounded)}


def gemv_swiglu(
    x: Tensor, weight: Tensor, shape: GemvShape | None = None, workspace: Workspace | None = None
) -> dict[str, Tensor]:
    """weight [2 I, K], gate rows first -> {"out": silu(gate) * up [M, I]}."""
    return {"out": _launch(x, weight, weight.shape[0] // 2, "swiglu", None, shape, workspace)}


def gemv_scaled(
    x: Tensor,
    codes: Tensor,
    scales: Tensor,
    bias: Tensor | None = None,
    shape: GemvShape | None = None,
    workspace: Workspace | None = None,
    rounded: bool = True,
) -> dict[str, Tensor]:
    """codes [N, K] int8 or float8_e4m3fn, scales [N] float32, the weight their product -> {"out": [M, N]}, in float32
    where it is not to be rounded."""
    epilogue = "none" if bias is None else "bias"
    return {"out": _launch(x, codes, codes.shape[0], epilogue, bias, shape, workspace, scales, rounded)}


def _launch(
    x: Tensor,
    weight: Tensor,
    n: int,
    epilogue: str,
    bias: Tensor | None,
    shape: GemvShape | None,
    workspace: Workspace | None,
    scales: Tensor | None = None,
    rounded: bool = True,
) -> Tensor:
    m, k = x.shape
    _check(x, weight, m, scales)
    if bias is not None and bias.stride(-1) != 1:
        raise ValueError("bias must be unit-stride, or other outputs' values would be added")
    paired = epilogue == "swiglu"
    shape = shape or default_shape(m, n, k, weight.element_size(), paired)
    _check_prefetch(weight, n, k, shape)
    out = torch.empty(m, n, dtype=x.dtype if rounded else torch.float32, device=x.device)
    if m == 1:
        _vector(x, weight, scales, bias, out, epilogue, shape)
        return out
    size = needs(m, n, shape, paired)
    workspace = Workspace.of(workspace, *size, x.device)
    matrix_kernel[(triton.cdiv(n, shape.block_n), shape.split_k)](
        x,
        weight,
        scales,
        bias,
        out,
        workspace.partials,
        workspace.tickets,
        m,
        n,
        k,
        x.stride(0),
        weight.stride(0),
        BLOCK_M=block_rows(m),
        SPLIT_K=shape.split_k,
        EPILOGUE=epilogue,
        SCALED=scales is not None,
        WIDEN=interpreted(),
        **constants(shape, k, weight.element_size()),
        **_options(shape),
    )
    return out


def _vector(
    x: Tensor,
    weight: Tensor,
    scales: Tensor | None,
    bias: Tensor | None,
    out: Tensor,
    epilogue: str,
    shape: GemvShape,
) -> None:
    if shape.split_k != 1:
        raise ValueError("one activation row fills the device with small blocks; its sum is not split")
    n, k = out.shape[1], x.shape[1]
    vector_kernel[(triton.cdiv(n, shape.block_n),)](
        x,
        weight,
        scales,
        bias,
        out,
        n,
        k,
        weight.stride(0),
        UNROLL=shape.unroll,
        EPILOGUE=epilogue,
        SCALED=scales is not None,
        **constants(shape, k, weight.element_size()),
        **_options(shape),
    )


def prefetch_fits(shape: GemvShape, n: int, k: int) -> bool:
    """Whether every row that a program prefetches exists, and its first `prefetch` elements with it."""
    share = triton.cdiv(triton.cdiv(k, shape.block_k), shape.split_k) * shape.block_k
    inside = (shape.split_k - 1) * share + shape.prefetch <= k
    return shape.prefetch == 0 or (shape.prefetch % 8 == 0 and inside and n % shape.block_n == 0)


def constants(shape: GemvShape, k: int, element_size: int) -> dict[str, Any]:
    """The compile-time values that both loops take from the launch shape."""
    return {
        "BLOCK_N": shape.block_n,
        "BLOCK_K": shape.block_k,
        "STAGES": shape.num_stages,
        "EVEN_K": k % shape.block_k == 0,
        "PREFETCH": shape.prefetch * element_size,
        "PDL": shape.pdl,
    }


def _options(shape: GemvShape) -> dict[str, Any]:
    return {"num_warps": shape.num_warps} | ({"launch_pdl": True} if shape.pdl else {})


def _check(x: Tensor, weight: Tensor, m: int, scales: Tensor | None = None) -> None:
    if not 1 <= m <= MAX_ROWS:
        raise ValueError(f"{m} activation rows: this kernel reads weights once for 1 to {MAX_ROWS} rows only")
    if x.stride(-1) != 1 or weight.stride(-1) != 1:
        raise ValueError("x and weight must be unit-stride in their last axis, or whole rows would be read wrongly")
    fits = (
        weight.element_size() == 1 and scales.shape == weight.shape[:1]
        if scales is not None
        else x.dtype == weight.dtype
    )
    if not fits or x.shape[-1] != weight.shape[-1]:
        raise ValueError(f"x {tuple(x.shape)} {x.dtype} does not fit weight {tuple(weight.shape)} {weight.dtype}")


def _check_prefetch(weight: Tensor, n: int, k: int, shape: GemvShape) -> None:
    aligned = weight.data_ptr() % 16 == 0 and weight.stride(0) * weight.element_size() % 16 == 0
    if shape.prefetch and not (aligned and prefetch_fits(shape, n, k)):
        raise ValueError(f"{shape.prefetch} elements: the prefetch would leave the rows or their 16-byte units")
