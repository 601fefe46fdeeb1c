"""Qwen3 attention: three projections without bias, a norm on every query and key head, rotation, grouped queries."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.spec import Receipt, Target
from models.common.attention import Attend, NormRotateWrite
from models.common.fused import FlashAttend, Workspaces
from models.common.kv_cache import LayerCache, Slots
from models.common.linear import SplitQKV, linear
from models.common.norms import RMSNorm
from models.common.swap import swap
from models.qwen3_vl_2b.config import TextGeometry


class Attention(nn.Module):
    def __init__(self, g: TextGeometry, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        q_size, kv_size = g.heads * g.head_dim, g.kv_heads * g.head_dim
        self.qkv = SplitQKV(
            linear(g.hidden, q_size, False, dtype, device),
            linear(g.hidden, kv_size, False, dtype, device),
            linear(g.hidden, kv_size, False, dtype, device),
            g.head_dim,
        )
        self.rotary = NormRotateWrite(
            RMSNorm(g.head_dim, g.eps, dtype, device), RMSNorm(g.head_dim, g.eps, dtype, device)
        )
        self.attend = Attend(g.scale)
        self.o_proj = linear(q_size, g.hidden, False, dtype, device)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: LayerCache, slots: Slots) -> Tensor:
        """x [B, T, H] -> [B, T, H]; the keys and values of x go into the cache first."""
        q, k, v = self.qkv(x)
        q = self.rotary(q, k, v, cos, sin, cache, slots)
        return self.o_proj(self.attend(q, cache, slots).flatten(2))


def flash(model: nn.Module, target: Target) -> Receipt:
    """Attention through the prefill and decode kernels."""
    workspaces = Workspaces()
    return Receipt("attention", swap(model, Attend, lambda m: FlashAttend(m, workspaces)))
