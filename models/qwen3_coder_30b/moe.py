"""The sparse feed-forward block, and the kernels for as many tokens as a step has."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.common.kernels.workspace import Workspace
from models.common.moe.eager import Experts, MoE
from models.common.moe.optimization import streamed_experts
from models.qwen3_coder_30b.config import Geometry
from models.qwen3_coder_30b.kernels import softmax_router
from models.qwen3_coder_30b.kernels.softmax_router_cases import SOFTMAX_ROUTER
from models.qwen3_coder_30b.router import Router


def moe(g: Geometry, dtype: torch.dtype, device: torch.device) -> nn.Module:
    return MoE(
        Router(g.experts, g.chosen, g.hidden, dtype, device),
        Experts(g.experts, g.hidden, g.expert_size, dtype, device),
    )


def route(x: Tensor, router: Router, workspace: Workspace) -> dict[str, Tensor]:
    """As the router, in one kernel."""
    return softmax_router.route(x, router.weight, router.chosen, workspace)


EXPERTS = streamed_experts(Router, route, SOFTMAX_ROUTER, vector_max_tokens=4, tile_max_tokens=64)
"""4 tokens of 8 experts each visit a quarter of the 128, 64 tokens nearly all."""
