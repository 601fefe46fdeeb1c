"""Attention with a norm on every query and key head, built with unset parameters."""

from __future__ import annotations

import torch
from torch import nn

from models.common.attention.eager import Attend, Attention, NormRotateWrite
from models.common.linear.eager import SplitQKV, linear
from models.common.norms.eager import RMSNorm


def normed_attention(qkv: SplitQKV, o_proj: nn.Linear, eps: float) -> Attention:
    """Return grouped-query attention through these projections, in their dtype and on their device."""
    size, weight = qkv.head_dim, qkv.q_proj.weight
    norms = (RMSNorm(size, eps, weight.dtype, weight.device) for _ in range(2))
    return Attention(qkv, NormRotateWrite(*norms), Attend(size**-0.5), o_proj)


def unbiased_attention(
    hidden: int, heads: int, kv_heads: int, head_dim: int, eps: float, dtype: torch.dtype, device: torch.device
) -> Attention:
    """As `normed_attention`, with four projections without biases."""
    outputs = (heads * head_dim, kv_heads * head_dim, kv_heads * head_dim)
    q, k, v = (linear(hidden, size, False, dtype, device) for size in outputs)
    return normed_attention(SplitQKV(q, k, v, head_dim), linear(outputs[0], hidden, False, dtype, device), eps)
