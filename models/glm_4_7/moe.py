"""The feed-forward block of a layer with experts: what the chosen ones give, and what the shared one gives; and the
kernels for as many tokens as a step has."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.spec.optimization import Optimization, Receipt, Target
from models.common.decoder.swap import swap
from models.common.fused import Workspaces
from models.common.linear.eager import linear
from models.common.mlp.eager import SplitGateUp, SwiGLU
from models.common.moe.eager import Experts, MoE
from models.common.moe.moe_cases import MOE
from models.common.moe.sparse import SparseExperts, token_limits
from models.glm_4_7.config import Geometry
from models.glm_4_7.kernels.fused_router import SigmoidRouter
from models.glm_4_7.kernels.sigmoid_router_cases import SIGMOID_ROUTER
from models.glm_4_7.router import Router

FEW = 4
"""Tokens that stream their own experts' rows."""
DOZENS = 64
"""Tokens up to which an expert looks for its own; the router's kernel serves as many."""


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


def stream(model: nn.Module, target: Target, vector_max_tokens: int = FEW, tile_max_tokens: int = DOZENS) -> Receipt:
    """The router in one kernel, the chosen experts through kernels that read only their weights, once. The shared
    expert is a block of its own, which `linear` streams."""
    workspaces = Workspaces()
    touched = swap(model, Router, lambda m: SigmoidRouter(m, tile_max_tokens, workspaces))
    touched += swap(model, Experts, lambda m: SparseExperts(m, vector_max_tokens, tile_max_tokens))
    note = f"vectors up to {vector_max_tokens} tokens, tiles up to {tile_max_tokens}, sorted beyond"
    return Receipt("experts", touched, (note,))


EXPERTS = Optimization(
    name="experts",
    summary="router in one kernel; experts streamed, tiled or grouped by the number of tokens",
    numerics="reordered",
    apply=stream,
    kernels=(SIGMOID_ROUTER, *MOE),
    needs=("triton",),
    parameters=token_limits(FEW, DOZENS),
)
