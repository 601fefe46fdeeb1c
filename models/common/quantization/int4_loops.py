"""The inner loops of products with four-bit weights, in Triton. A group of 128 input channels lies in 64 bytes, channel
j in the low half of byte j and channel j + 64 in its high half, so that both halves meet activations that lie together.
"""

from __future__ import annotations

import triton
import triton.language as tl

from models.common.kernels.arithmetic import product


@triton.jit
def widened(code, zero):
    """code - zero in float32, both whole numbers from 0 to 15: the code becomes the last bits of 2^23."""
    return (code.to(tl.int32) | 0x4B000000).to(tl.float32, bitcast=True) - (zero + 8388608.0)


@triton.jit
def int4_vector_kernel(
    x_ptr,
    codes_ptr,
    scales_ptr,
    zeros_ptr,
    bias_ptr,
    out_ptr,
    N,
    K,
    GROUPS_K,
    BLOCK_N: tl.constexpr,
    GROUPS: tl.constexpr,
    STAGES: tl.constexpr,
    UNROLL: tl.constexpr,
    BIAS: tl.constexpr,
    PDL: tl.constexpr,
):
    """out [N] = x [K] times BLOCK_N rows of weight per program, GROUPS groups of 128 channels per step."""
    start = tl.program_id(0) * BLOCK_N
    row = start.to(tl.int64) + tl.minimum(tl.arange(0, BLOCK_N), N - 1 - start)[:, None, None]
    byte = tl.arange(0, 64)[None, None, :]
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    total = tl.zeros((BLOCK_N, GROUPS, 64), tl.float32)
    for step in tl.range(0, tl.cdiv(GROUPS_K, GROUPS), num_stages=STAGES, loop_unroll_factor=UNROLL):
        group = step * GROUPS + tl.arange(0, GROUPS)[None, :, None]
        inside = group < GROUPS_K
        at = row * GROUPS_K + group
        codes = tl.load(codes_ptr + at * 64 + byte, mask=inside, other=0, eviction_policy="evict_first")
        scale = tl.load(scales_ptr + at, mask=inside, other=0.0)
        zero = tl.load(zeros_ptr + at, mask=inside, other=0).to(tl.float32)
        k = group * 128 + byte
        low = tl.load(x_ptr + k, mask=k < K, other=0.0).to(tl.float32)
        high = tl.load(x_ptr + k + 64, mask=k + 64 < K, other=0.0).to(tl.float32)
        total += (widened(codes & 15, zero) * low + widened(codes >> 4, zero) * high) * scale
    out = tl.sum(tl.sum(total, 2), 1)
    col = start + tl.arange(0, BLOCK_N)
    if BIAS:
        out += tl.load(bias_ptr + col, mask=col < N, other=0.0).to(tl.float32)
    tl.store(out_ptr + col, out.to(out_ptr.dtype.element_ty), mask=col < N)


@triton.jit
def int4_matrix_kernel(
    x_ptr,
    codes_ptr,
    scales_ptr,
    zeros_ptr,
    bias_ptr,
    out_ptr,
    M,
    N,
    K,
    GROUPS_K,
    stride_x,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    STAGES: tl.constexpr,
    BIAS: tl.constexpr,
    PDL: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """out [M, N] = x [M, K] times BLOCK_N rows of weight per program, M <= BLOCK_M; 128 channels per step."""
    start = tl.program_id(0) * BLOCK_N
    row = start.to(tl.int64) + tl.minimum(tl.arange(0, BLOCK_N), N - 1 - start)[:, None]
    token = tl.minimum(tl.arange(0, BLOCK_M), M - 1)[:, None]
    byte = tl.arange(0, 64)[None, :]
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for group in tl.range(0, GROUPS_K, num_stages=STAGES):
        at = row * GROUPS_K + group
        codes = tl.load(codes_ptr + at * 64 + byte, eviction_policy="evict_first")
        scale = tl.load(scales_ptr + at)
        zero = tl.load(zeros_ptr + at).to(tl.float32)
        k = group * 128 + byte
        low = tl.load(x_ptr + token * stride_x + k, mask=k < K, other=0.0)
        high = tl.load(x_ptr + token * stride_x + k + 64, mask=k + 64 < K, other=0.0)
        part = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        part = product(low, tl.trans(widened(codes & 15, zero).to(low.dtype)), part, WIDEN)
        part = product(high, tl.trans(widened(codes >> 4, zero).to(low.dtype)), part, WIDEN)
        total += part * tl.trans(scale)
    token = tl.arange(0, BLOCK_M)[:, None]
    col = start + tl.arange(0, BLOCK_N)[None, :]
    mask = (token < M) & (col < N)
    if BIAS:
        total += tl.load(bias_ptr + col, mask=col < N, other=0.0).to(tl.float32)
    tl.store(out_ptr + token * N + col, total.to(out_ptr.dtype.element_ty), mask=mask)
