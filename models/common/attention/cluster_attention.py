"""One decode step of attention in one CUDA launch, from the projections to the heads' outputs.

What Triton cannot say: the blocks that share a row's keys are a thread block cluster and exchange their partial sums
through distributed shared memory, and older keys are on their way to registers before the previous kernel has ended.
"""

from __future__ import annotations

import ctypes
import math
from pathlib import Path

import torch
from torch import Tensor

from models.common.kernels.cuda_library import integers, start

SOURCE = Path(__file__).with_suffix(".cu")
HEAD_DIM = 128
MAX_GROUP = 16
"""Query heads to a key-value head: the rows of one tile of the tensor core."""
TILE = 16
"""Keys that a warp takes at once; a page holds whole tiles."""
DTYPES = (torch.bfloat16, torch.float16)

_launched = 0


def launches() -> int:
    """How often this process has launched the kernel; a captured graph counts when it is captured."""
    return _launched


def serves(dtype: torch.dtype, tokens: int, heads: int, kv_heads: int, head_dim: int) -> bool:
    """Whether a call of `tokens` query tokens a row is one that this kernel computes."""
    return dtype in DTYPES and tokens == 1 and head_dim == HEAD_DIM and heads // kv_heads <= MAX_GROUP


def launch(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    cos: Tensor,
    sin: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    block_table: Tensor,
    left_padding: Tensor,
    seq_lens: Tensor,
    eps: float,
    scale: float,
) -> dict[str, Tensor]:
    """As models.common.attention.eager.decode_step: q [B, 1, heads, D], k and v [B, 1, kv_heads, D], heads side by side
    in memory; {"out": [B, 1, heads, D], "k_pages", "v_pages": in place}. `seq_lens`, `left_padding`, `block_table`
    and the slots before the newest must have been written by a kernel that later ones wait for."""
    batch, tokens, heads, head_dim = q.shape
    _, kv_heads, page_tokens, _ = k_pages.shape
    if not serves(q.dtype, tokens, heads, kv_heads, head_dim):
        raise ValueError(
            f"{tokens} tokens of {heads} over {kv_heads} heads of {head_dim} in {q.dtype}: not this kernel's"
        )
    _check(q, k, v, cos, sin, k_pages, v_pages, block_table)
    out = torch.empty(batch, 1, heads, head_dim, dtype=q.dtype, device=q.device)
    tensors = (q, k, v, q_weight, k_weight, cos, sin, k_pages, v_pages, block_table, left_padding, seq_lens, out)
    strides = (q.stride(0), k.stride(0), cos.stride(0), *k_pages.stride()[:3], block_table.stride(0))
    sizes = (batch, kv_heads, heads // kv_heads, cos.shape[-1], page_tokens, q.dtype == torch.bfloat16)
    in_bits = ctypes.c_float(scale * math.log2(math.e))
    start(SOURCE, tensors, integers(strides), integers(sizes), ctypes.c_float(eps), in_bits)
    global _launched
    _launched += 1
    return {"out": out, "k_pages": k_pages, "v_pages": v_pages}


def _check(
    q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, k_pages: Tensor, v_pages: Tensor, block_table: Tensor
) -> None:
    if any(x.stride(-1) != 1 or x.stride(2) != x.shape[-1] for x in (q, k, v)):
        raise ValueError("the heads of q, k and v must lie side by side, or other channels would be read")
    if k.stride() != v.stride() or cos.stride() != sin.stride() or k_pages.stride() != v_pages.stride():
        raise ValueError("k and v, cos and sin, and the pages of both must be laid out alike")
    if cos.stride(-1) != 1 or k_pages.stride(-1) != 1 or any(stride % 8 for stride in k_pages.stride()[:3]):
        raise ValueError("cos, sin and pages must be unit-stride in their last axis, pages in units of 16 bytes")
    if any(pages.data_ptr() % 16 for pages in (k_pages, v_pages)):
        raise ValueError("pages must begin at a multiple of 16 bytes")
    if block_table.shape[1] > 1 and k_pages.shape[2] % TILE:
        raise ValueError(f"pages of {k_pages.shape[2]} slots do not hold whole tiles of {TILE}")
