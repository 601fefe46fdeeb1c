"""The feed-forward block of a layer with experts: what the chosen ones give, and what the shared one gives; and the
kernels for as many tokens as a step has."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.common.kernels.workspace import Workspace
from models.common.linear.eager import gated_block
from models.common.moe.eager import Experts, MoE
from models.common.moe.optimization import streamed_experts
from models.glm_4_7.config import Geometry
from models.glm_4_7.kernels import sigmoid_router
from models.glm_4_7.kernels.sigmoid_router_cases import SIGMOID_ROUTER
from models.glm_4_7.router import Router


class SharedMoE(nn.Module):
    """routed(x) + shared(x), both rounded before the sum."""

    def __init__(self, routed: MoE, shared: nn.Module) -> None:
        super().__init__()
        self.routed, self.shared = routed, shared

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, H] -> [B, T, H]."""
        return self.routed(x) + self.shared(x)


def moe(g: Geometry, dtype: torch.dtype, device: torch.device) -> SharedMoE:
    return SharedMoE(
        MoE(
            Router(g.experts, g.chosen, g.routed_scale, g.hidden, dtype, device),
            Experts(g.experts, g.hidden, g.expert_size, dtype, device),
        ),
        gated_block(g.hidden, g.shared_size, dtype, device),
    )


def route(x: Tensor, router: Router, workspace: Workspace) -> dict[str, Tensor]:
    """As the router, in one kernel."""
    return sigmoid_router.route(x, router.weight, router.correction, router.chosen, router.scale, workspace)


EXPERTS = streamed_experts(Router, route, SIGMOID_ROUTER, vector_max_tokens=4, tile_max_tokens=64)
"""The shared expert is a block of its own, which `linear` streams."""
