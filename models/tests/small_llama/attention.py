"""Llama attention: three projections without bias, rotation of the whole head, grouped queries."""

from __future__ import annotations

import torch
from torch import nn

from models.common.attention.eager import Attend, Attention, NormRotateWrite
from models.common.linear.eager import SplitQKV, linear
from models.small_llama.config import Geometry


def attention(g: Geometry, dtype: torch.dtype, device: torch.device) -> Attention:
    """Llama norms no head: what is passed in its place changes nothing."""
    q_size, kv_size = g.heads * g.head_dim, g.kv_heads * g.head_dim
    return Attention(
        SplitQKV(
            linear(g.hidden, q_size, False, dtype, device),
            linear(g.hidden, kv_size, False, dtype, device),
            linear(g.hidden, kv_size, False, dtype, device),
            g.head_dim,
        ),
        NormRotateWrite(nn.Identity(), nn.Identity()),
        Attend(g.head_dim**-0.5),
        linear(q_size, g.hidden, False, dtype, device),
    )
