"""The feed-forward block of a layer with experts: what the chosen ones give, and what the shared one gives."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.common.experts import Experts, MoE
from models.common.linear import linear
from models.common.mlp import SplitGateUp, SwiGLU
from models.glm_4_7.config import Geometry
from models.glm_4_7.router import Router


class SharedMoE(nn.Module):
    """routed(x) + shared(x), both rounded before the sum."""

    def __init__(self, routed: MoE, shared: nn.Module) -> None:
        super().__init__()
        self.routed, self.shared = routed, shared

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, H] -> [B, T, H]."""
        return self.routed(x) + self.shared(x)


def mlp(hidden: int, size: int, dtype: torch.dtype, device: torch.device) -> SwiGLU:
    return SwiGLU(
        SplitGateUp(linear(hidden, size, False, dtype, device), linear(hidden, size, False, dtype, device)),
        linear(size, hidden, False, dtype, device),
    )


def moe(g: Geometry, dtype: torch.dtype, device: torch.device) -> SharedMoE:
    return SharedMoE(
        MoE(
            Router(g.experts, g.chosen, g.routed_scale, g.hidden, dtype, device),
            Experts(g.experts, g.hidden, g.expert_size, dtype, device),
        ),
        mlp(g.hidden, g.shared_size, dtype, device),
    )
