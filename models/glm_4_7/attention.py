"""GLM-4.7 attention: projections with bias into heads and none out of them, a norm on every query and key head, half of
each head rotated, grouped queries."""

from __future__ import annotations

from pathlib import Path

import torch

from models.common.attention.build import normed_attention
from models.common.attention.eager import Attention
from models.common.attention.optimization import flash_attention
from models.common.kernels.launch_shapes import launch_shapes
from models.common.linear.eager import SplitQKV, linear
from models.glm_4_7.config import Geometry


def attention(g: Geometry, dtype: torch.dtype, device: torch.device) -> Attention:
    q_size, kv_size = g.heads * g.head_dim, g.kv_heads * g.head_dim
    q, k, v = (linear(g.hidden, size, True, dtype, device) for size in (q_size, kv_size, kv_size))
    return normed_attention(SplitQKV(q, k, v, g.head_dim), linear(q_size, g.hidden, False, dtype, device), g.eps)


ATTENTION = flash_attention(launch_shapes(Path(__file__).with_name("kernels")))
"""12 query heads to a key-value head fill 16 rows of a tile."""
