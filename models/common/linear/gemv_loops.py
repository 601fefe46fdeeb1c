"""The two inner loops of every matrix-vector kernel, in Triton: weights are read once, as a stream.

`vector_kernel` takes one activation row and multiplies elementwise; `matrix_kernel` takes 2 to 64 rows through the
tensor cores and may split the sum over several programs. Both end in the same epilogues:
"none"; "bias" (added before rounding); "swiglu" (weight rows n and n + N).
With SCALED, weights are codes of one byte and every sum is multiplied by the scale of its row before the epilogue.
"""

from __future__ import annotations

import triton
import triton.language as tl

from models.common.kernels.arithmetic import product, silu
from models.common.kernels.pdl import prefetch_rows


@triton.jit
def load_k(at, inside, EVEN_K: tl.constexpr, POLICY: tl.constexpr):
    """A load whose mask exists only where the sum's length is no multiple of the block."""
    if EVEN_K:
        return tl.load(at, eviction_policy=POLICY)
    else:
        return tl.load(at, mask=inside, other=0.0, eviction_policy=POLICY)


@triton.jit
def finish(first, second, bias_at, mask, dtype: tl.constexpr, EPILOGUE: tl.constexpr):
    """float32 sums -> the output, rounded wherever separate operations would round."""
    if EPILOGUE == "bias":
        first += tl.load(bias_at, mask=mask, other=0.0).to(tl.float32)
    out = first.to(dtype)
    if EPILOGUE == "swiglu":
        gate = silu(out.to(tl.float32), dtype)
        out = (gate * second.to(dtype).to(tl.float32)).to(dtype)
    return out


@triton.jit
def begin(
    weight_at, half, stride_w, PAIRED: tl.constexpr, ROWS: tl.constexpr, PREFETCH: tl.constexpr, PDL: tl.constexpr
):
    """What may happen before the previous kernel ends: weights do not depend on it, activations do."""
    if PREFETCH > 0:
        prefetch_rows(weight_at, stride_w, ROWS, PREFETCH)
        if PAIRED:
            prefetch_rows(weight_at + half, stride_w, ROWS, PREFETCH)
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()


@triton.jit
def vector_kernel(
    x_ptr,
    weight_ptr,
    scale_ptr,
    bias_ptr,
    out_ptr,
    N,
    K,
    stride_w,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STAGES: tl.constexpr,
    UNROLL: tl.constexpr,
    EVEN_K: tl.constexpr,
    EPILOGUE: tl.constexpr,
    SCALED: tl.constexpr,
    PREFETCH: tl.constexpr,
    PDL: tl.constexpr,
):
    """out [N] = x [K] times BLOCK_N rows of weight per program."""
    dtype: tl.constexpr = out_ptr.dtype.element_ty
    start = tl.program_id(0) * BLOCK_N
    rows = tl.minimum(tl.arange(0, BLOCK_N), N - 1 - start)[:, None]
    weight_at = weight_ptr + start.to(tl.int64) * stride_w
    half = tl.cast(N, tl.int64) * stride_w
    begin(weight_at, half, stride_w, EPILOGUE == "swiglu", BLOCK_N, PREFETCH, PDL)
    first = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
    second = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
    for chunk in tl.range(0, tl.cdiv(K, BLOCK_K), num_stages=STAGES, loop_unroll_factor=UNROLL):
        k = chunk * BLOCK_K + tl.arange(0, BLOCK_K)[None, :]
        at = weight_at + rows * stride_w + k
        weight = load_k(at, k < K, EVEN_K, "evict_first").to(tl.float32)
        x = load_k(x_ptr + k, k < K, EVEN_K, "").to(tl.float32)
        first += weight * x
        if EPILOGUE == "swiglu":
            second += load_k(at + half, k < K, EVEN_K, "evict_first").to(tl.float32) * x
    cols = start + tl.arange(0, BLOCK_N)
    bias_at = out_ptr + cols
    if EPILOGUE == "bias":
        bias_at = bias_ptr + cols
    first, second = tl.sum(first, 1), tl.sum(second, 1)
    if SCALED:
        first *= tl.load(scale_ptr + cols, mask=cols < N, other=0.0)
        if EPILOGUE == "swiglu":
            second *= tl.load(scale_ptr + N + cols, mask=cols < N, other=0.0)
    out = finish(first, second, bias_at, cols < N, dtype, EPILOGUE)
    tl.store(out_ptr + cols, out, mask=cols < N)


@triton.jit
def sum_splits(at, stride, mask, SPLIT_K: tl.constexpr):
    """Partial sums added in the order of the splits, whoever wrote last."""
    total = tl.load(at, mask=mask, other=0.0, cache_modifier=".cg")
    for split in tl.static_range(1, SPLIT_K):
        total += tl.load(at + split * stride, mask=mask, other=0.0, cache_modifier=".cg")
    return total


@triton.jit
def matrix_kernel(
    x_ptr,
    weight_ptr,
    scale_ptr,
    bias_ptr,
    out_ptr,
    partials_ptr,
    tickets_ptr,
    M,
    N,
    K,
    stride_x,
    stride_w,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    SPLIT_K: tl.constexpr,
    STAGES: tl.constexpr,
    EVEN_K: tl.constexpr,
    EPILOGUE: tl.constexpr,
    SCALED: tl.constexpr,
    PREFETCH: tl.constexpr,
    PDL: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """out [M, N] = x [M, K] times BLOCK_N rows of weight per program, M <= BLOCK_M. With SPLIT_K > 1 each program sums
    its share of K; the last one of a block to arrive adds all shares and resets the ticket."""
    dtype: tl.constexpr = out_ptr.dtype.element_ty
    start, split = tl.program_id(0) * BLOCK_N, tl.program_id(1)
    share = tl.cdiv(tl.cdiv(K, BLOCK_K), SPLIT_K)
    weight_at = weight_ptr + start.to(tl.int64) * stride_w
    half = tl.cast(N, tl.int64) * stride_w
    begin(weight_at + split * share * BLOCK_K, half, stride_w, EPILOGUE == "swiglu", BLOCK_N, PREFETCH, PDL)
    # Rows past the end repeat the last one, in place of a mask on every load; they are never stored.
    tokens_at = x_ptr + tl.minimum(tl.arange(0, BLOCK_M), M - 1)[:, None] * stride_x
    rows_at = weight_at + tl.minimum(tl.arange(0, BLOCK_N), N - 1 - start)[:, None] * stride_w
    first = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    second = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for chunk in tl.range(split * share, tl.minimum((split + 1) * share, tl.cdiv(K, BLOCK_K)), num_stages=STAGES):
        k = chunk * BLOCK_K + tl.arange(0, BLOCK_K)[None, :]
        at = rows_at + k
        # Written out rather than called: the interpreter takes a millisecond for every call of a Triton function.
        if EVEN_K:
            weight = tl.load(at, eviction_policy="evict_first")
            x = tl.load(tokens_at + k)
        else:
            weight = tl.load(at, mask=k < K, other=0.0, eviction_policy="evict_first")
            x = tl.load(tokens_at + k, mask=k < K, other=0.0)
        if WIDEN:
            weight = weight.to(tl.float32)
            x = x.to(tl.float32)
        first = tl.dot(x, tl.trans(weight).to(x.dtype), first, input_precision="ieee")
        if EPILOGUE == "swiglu":
            up = load_k(at + half, k < K, EVEN_K, "evict_first")
            second = product(x, tl.trans(up).to(x.dtype), second, False)
    token = tl.arange(0, BLOCK_M)[:, None]
    col = start + tl.arange(0, BLOCK_N)[None, :]
    mask = (token < M) & (col < N)
    if SCALED:
        first *= tl.load(scale_ptr + col, mask=col < N, other=0.0)
        if EPILOGUE == "swiglu":
            second *= tl.load(scale_ptr + N + col, mask=col < N, other=0.0)
    out_at = out_ptr + token * N + col
    bias_at = out_at
    if EPILOGUE == "bias":
        bias_at = bias_ptr + token * 0 + col
    if SPLIT_K == 1:
        tl.store(out_at, finish(first, second, bias_at, mask, dtype, EPILOGUE), mask=mask)
    else:
        size = M * N
        partial_at = partials_ptr + token * N + col
        tl.store(partial_at + split * size, first, mask=mask)
        if EPILOGUE == "swiglu":
            tl.store(partial_at + (SPLIT_K + split) * size, second, mask=mask)
        tl.debug_barrier()
        arrived = tl.atomic_add(tickets_ptr + tl.program_id(0), 1, sem="acq_rel")
        if arrived == SPLIT_K - 1:
            first = sum_splits(partial_at, size, mask, SPLIT_K)
            if EPILOGUE == "swiglu":
                second = sum_splits(partial_at + SPLIT_K * size, size, mask, SPLIT_K)
            tl.store(out_at, finish(first, second, bias_at, mask, dtype, EPILOGUE), mask=mask)
            tl.store(tickets_ptr + tl.program_id(0), 0)
