"""QK-norm, where a model has it, rotary embedding and the write into the key-value pages: one kernel between projection
and attention."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from models.common.kernels.arithmetic import interpreted
from models.common.kernels.pdl import early_start

WARPS = 4
FEW_ROWS, MANY_ROWS, BUSY = 4, 32, 8192
"""Head vectors of one program, below and from BUSY head vectors in all."""
INTERPRETED_ROWS = 256
"""An interpreter pays for each operation, not for its size."""


@triton.jit
def norm_rotate(at, weight_ptr, cos_at, sin_at, inside, eps, dtype: tl.constexpr, D: tl.constexpr, R: tl.constexpr):
    """Head vectors at `at` [ROWS, 1] -> normed and rotated channels 0..R/2, R/2..R and, where R < D, R..D, each rounded
    wherever separate operations round, but that one product of each rotated channel is not where the compiler fuses it
    with the sum. Without a weight they are rotated as they are."""
    HALF: tl.constexpr = R // 2
    near = tl.arange(0, HALF)[None, :]
    first = tl.load(at + near, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(at + HALF + near, mask=inside, other=0.0).to(tl.float32)
    rest = first
    far = near
    if R < D:
        far = R + tl.arange(0, D - R)[None, :]
        rest = tl.load(at + far, mask=inside, other=0.0).to(tl.float32)
    if weight_ptr is not None:
        squares = tl.sum(first * first, 1) + tl.sum(second * second, 1)
        if R < D:
            squares += tl.sum(rest * rest, 1)
        scale = tl.rsqrt(squares / D + eps)[:, None]
        near_weight, next_weight = tl.load(weight_ptr + near), tl.load(weight_ptr + HALF + near)
        first = ((first * scale).to(dtype).to(tl.float32) * near_weight.to(tl.float32)).to(dtype).to(tl.float32)
        second = ((second * scale).to(dtype).to(tl.float32) * next_weight.to(tl.float32)).to(dtype).to(tl.float32)
        if R < D:
            rest = (rest * scale).to(dtype).to(tl.float32) * tl.load(weight_ptr + far).to(tl.float32)
    cos_first = tl.load(cos_at + near, mask=inside, other=0.0).to(tl.float32)
    sin_first = tl.load(sin_at + near, mask=inside, other=0.0).to(tl.float32)
    cos_second = tl.load(cos_at + HALF + near, mask=inside, other=0.0).to(tl.float32)
    sin_second = tl.load(sin_at + HALF + near, mask=inside, other=0.0).to(tl.float32)
    left = (first * cos_first).to(dtype).to(tl.float32) - (second * sin_first).to(dtype).to(tl.float32)
    right = (second * cos_second).to(dtype).to(tl.float32) + (first * sin_second).to(dtype).to(tl.float32)
    return left.to(dtype), right.to(dtype), rest.to(dtype)


@triton.jit
def store_heads(at, left, right, rest, inside, D: tl.constexpr, R: tl.constexpr):
    near = tl.arange(0, R // 2)[None, :]
    tl.store(at + near, left, mask=inside)
    tl.store(at + R // 2 + near, right, mask=inside)
    if R < D:
        tl.store(at + R + tl.arange(0, D - R)[None, :], rest, mask=inside)


@triton.jit
def norm_rotate_write_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    q_weight_ptr,
    k_weight_ptr,
    cos_ptr,
    sin_ptr,
    k_pages_ptr,
    v_pages_ptr,
    table_ptr,
    lengths_ptr,
    out_ptr,
    batch,
    tokens,
    page_tokens,
    eps,
    stride_q_row,
    stride_q_token,
    stride_kv_row,
    stride_kv_token,
    stride_cos_row,
    stride_cos_token,
    stride_page,
    stride_head,
    stride_slot,
    stride_block_table,
    Q_HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    D: tl.constexpr,
    R: tl.constexpr,
    ROWS: tl.constexpr,
    PDL: tl.constexpr,
):
    """ROWS head vectors per program: the first programs take queries, the rest keys and values together."""
    dtype: tl.constexpr = out_ptr.dtype.element_ty
    q_programs = tl.cdiv(batch * tokens * Q_HEADS, ROWS)
    program = tl.program_id(0)
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    if program < q_programs:
        vector = program * ROWS + tl.arange(0, ROWS)[:, None]
        inside = vector < batch * tokens * Q_HEADS
        head, token = vector % Q_HEADS, (vector // Q_HEADS) % tokens
        row = (vector // Q_HEADS // tokens).to(tl.int64)
        at = q_ptr + row * stride_q_row + token.to(tl.int64) * stride_q_token + head * D
        turn = row * stride_cos_row + token * stride_cos_token
        left, right, rest = norm_rotate(at, q_weight_ptr, cos_ptr + turn, sin_ptr + turn, inside, eps, dtype, D, R)
        store_heads(out_ptr + vector.to(tl.int64) * D, left, right, rest, inside, D, R)
    else:
        vector = (program - q_programs) * ROWS + tl.arange(0, ROWS)[:, None]
        inside = vector < batch * tokens * KV_HEADS
        head, token = vector % KV_HEADS, (vector // KV_HEADS) % tokens
        row = (vector // KV_HEADS // tokens).to(tl.int64)
        source = row * stride_kv_row + token.to(tl.int64) * stride_kv_token + head * D
        turn = row * stride_cos_row + token * stride_cos_token
        left, right, rest = norm_rotate(
            k_ptr + source, k_weight_ptr, cos_ptr + turn, sin_ptr + turn, inside, eps, dtype, D, R
        )
        slot = tl.load(lengths_ptr + row, mask=inside, other=0) - tokens + token
        page = tl.load(table_ptr + row * stride_block_table + slot // page_tokens, mask=inside, other=0).to(tl.int64)
        target = page * stride_page + head.to(tl.int64) * stride_head + (slot % page_tokens).to(tl.int64) * stride_slot
        store_heads(k_pages_ptr + target, left, right, rest, inside, D, R)
        channel = tl.arange(0, D)[None, :]
        tl.store(v_pages_ptr + target + channel, tl.load(v_ptr + source + channel, mask=inside), mask=inside)


def launch(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_weight: Tensor | None,
    k_weight: Tensor | None,
    cos: Tensor,
    sin: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    block_table: Tensor,
    seq_lens: Tensor,
    eps: float,
) -> dict[str, Tensor]:
    """As models.common.attention.eager.norm_rotate_write: q [B, T, heads, D], k and v [B, T, kv_heads, D], heads side
    by side in memory; {"q": [B, T, heads, D] contiguous, "k_pages", "v_pages": in place}. Heads without a weight are
    not normed."""
    batch, tokens, heads, size = q.shape
    kv_heads = k.shape[2]
    _check(q, k, v, cos, sin, k_pages, v_pages)
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    per_program = rows_per_program(batch * tokens * heads)
    programs = triton.cdiv(batch * tokens * heads, per_program) + triton.cdiv(batch * tokens * kv_heads, per_program)
    norm_rotate_write_kernel[(programs,)](
        q,
        k,
        v,
        q_weight,
        k_weight,
        cos,
        sin,
        k_pages,
        v_pages,
        block_table,
        seq_lens,
        out,
        batch,
        tokens,
        k_pages.shape[2],
        eps,
        q.stride(0),
        q.stride(1),
        k.stride(0),
        k.stride(1),
        cos.stride(0),
        cos.stride(1),
        k_pages.stride(0),
        k_pages.stride(1),
        k_pages.stride(2),
        block_table.stride(0),
        **constants(heads, kv_heads, size, cos.shape[-1], per_program),
        **early_start(q),
        num_warps=WARPS,
    )
    return {"q": out, "k_pages": k_pages, "v_pages": v_pages}


def launch_rotate(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cos: Tensor,
    sin: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    block_table: Tensor,
    seq_lens: Tensor,
) -> dict[str, Tensor]:
    """As `launch`, for a model that norms no head."""
    return launch(q, k, v, None, None, cos, sin, k_pages, v_pages, block_table, seq_lens, 0.0)


def rows_per_program(vectors: int) -> int:
    if interpreted():
        return int(min(INTERPRETED_ROWS, triton.next_power_of_2(vectors)))
    return MANY_ROWS if vectors >= BUSY else FEW_ROWS


def constants(heads: int, kv_heads: int, size: int, rotated: int, per_program: int) -> dict[str, Any]:
    return {"Q_HEADS": heads, "KV_HEADS": kv_heads, "D": size, "R": rotated, "ROWS": per_program}


def _check(q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, k_pages: Tensor, v_pages: Tensor) -> None:
    if any(x.stride(-1) != 1 or x.stride(2) != x.shape[-1] for x in (q, k, v)):
        raise ValueError("the heads of q, k and v must lie side by side, or other channels would be rotated")
    if k.stride() != v.stride() or cos.stride() != sin.stride() or k_pages.stride() != v_pages.stride():
        raise ValueError("k and v, cos and sin, and the pages of both must be laid out alike")
    if cos.stride(-1) != 1 or k_pages.stride(-1) != 1:
        raise ValueError("cos, sin and pages must be unit-stride in their last axis")
