"""Products of a few activation rows with a four-bit matrix. One byte a weight goes through `gemv.gemv_scaled`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from models.common.kernels.arithmetic import interpreted
from models.common.kernels.pdl import early_start
from models.common.linear.gemv import MAX_ROWS, block_rows
from models.common.quantization.int4_loops import int4_matrix_kernel, int4_vector_kernel
from models.common.quantization.schemes import GROUP, HALF


@dataclass(frozen=True)
class Int4Shape:
    """`block_n` weight rows a program; `groups` of 128 channels a step, 1 for more than one activation row."""

    block_n: int
    groups: int
    num_warps: int
    num_stages: int
    unroll: int = 1


def default_shape(m: int, n: int) -> Int4Shape:
    """The launch shape for m activation rows and n outputs."""
    if interpreted():
        return Int4Shape(max(16, min(512, triton.next_power_of_2(n))), 1 if m > 1 else 4, 4, 1)
    if m == 1:
        return Int4Shape(4 if n <= 8192 else 8, 4, 2, 1, unroll=2)
    return Int4Shape(16 if n <= 4096 else 32, 1, 4, 4)


def gemv_int4(
    x: Tensor,
    codes: Tensor,
    scales: Tensor,
    zeros: Tensor,
    bias: Tensor | None = None,
    shape: Int4Shape | None = None,
    rounded: bool = True,
) -> dict[str, Tensor]:
    """x [M, K], M <= 64; codes [N, groups * 64] uint8 packed as `quantized.Codes`, scales [N, groups] float32, zeros
    [N, groups] uint8, bias [N] -> {"out": [M, N]}, in float32 where it is not to be rounded. Raises ValueError for
    anything laid out otherwise."""
    (m, k), n, groups = x.shape, codes.shape[0], scales.shape[1]
    _check(x, codes, scales, zeros, bias)
    shape = shape or default_shape(m, n)
    out = torch.empty(m, n, dtype=x.dtype if rounded else torch.float32, device=x.device)
    inputs = (x, codes, scales, zeros, bias, out)
    common: dict[str, Any] = constants(m, shape, bias is not None) | early_start(x) | {"num_warps": shape.num_warps}
    grid = (triton.cdiv(n, shape.block_n),)
    if m == 1:
        int4_vector_kernel[grid](*inputs, n, k, groups, **common)
    else:
        int4_matrix_kernel[grid](*inputs, m, n, k, groups, x.stride(0), WIDEN=interpreted(), **common)
    return {"out": out}


def constants(m: int, shape: Int4Shape, bias: bool) -> dict[str, Any]:
    """The compile-time values of the loop for m activation rows."""
    common = {"BLOCK_N": shape.block_n, "STAGES": shape.num_stages, "BIAS": bias}
    if m == 1:
        return common | {"GROUPS": shape.groups, "UNROLL": shape.unroll}
    return common | {"BLOCK_M": block_rows(m)}


def _check(x: Tensor, codes: Tensor, scales: Tensor, zeros: Tensor, bias: Tensor | None) -> None:
    (m, k), n = x.shape, codes.shape[0]
    if not 1 <= m <= MAX_ROWS:
        raise ValueError(f"{m} activation rows: this kernel reads weights once for 1 to {MAX_ROWS} rows only")
    groups = triton.cdiv(k, GROUP)
    if codes.shape != (n, groups * HALF) or scales.shape != (n, groups) or zeros.shape != (n, groups):
        raise ValueError(
            f"codes {tuple(codes.shape)}, scales {tuple(scales.shape)} and zeros {tuple(zeros.shape)} are not those of "
            f"{n} x {k} weights: groups would be read with another one's scale"
        )
    if not all(t.is_contiguous() for t in (codes, scales, zeros)) or x.stride(-1) != 1:
        raise ValueError("codes, scales and zeros must be contiguous and x unit-stride, or rows would be read wrongly")
    if bias is not None and not bias.is_contiguous():
        raise ValueError("bias must be contiguous, or other outputs' values would be added")
