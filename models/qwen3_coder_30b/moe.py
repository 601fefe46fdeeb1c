"""The sparse feed-forward block, and the kernels for as many tokens as a step has."""

from __future__ import annotations

import torch
from torch import nn

from harness.spec.optimization import Optimization, Receipt, Target
from models.common.decoder.swap import swap
from models.common.fused import Workspaces
from models.common.moe.eager import Experts, MoE
from models.common.moe.moe_cases import MOE
from models.common.moe.sparse import SparseExperts, token_limits
from models.qwen3_coder_30b.config import Geometry
from models.qwen3_coder_30b.kernels.fused_router import SoftmaxRouter
from models.qwen3_coder_30b.kernels.softmax_router_cases import SOFTMAX_ROUTER
from models.qwen3_coder_30b.router import Router

FEW = 4
"""Tokens that stream their own experts' rows."""
DOZENS = 64
"""Tokens up to which an expert looks for its own; the router's kernel serves as many."""


def moe(g: Geometry, dtype: torch.dtype, device: torch.device) -> nn.Module:
    return MoE(
        Router(g.experts, g.chosen, g.hidden, dtype, device),
        Experts(g.experts, g.hidden, g.expert_size, dtype, device),
    )


def stream(model: nn.Module, target: Target, vector_max_tokens: int = FEW, tile_max_tokens: int = DOZENS) -> Receipt:
    """The router in one kernel, the experts through kernels that read only the chosen ones' weights, once."""
    workspaces = Workspaces()
    touched = swap(model, Router, lambda m: SoftmaxRouter(m, tile_max_tokens, workspaces))
    touched += swap(model, Experts, lambda m: SparseExperts(m, vector_max_tokens, tile_max_tokens))
    note = f"vectors up to {vector_max_tokens} tokens, tiles up to {tile_max_tokens}, sorted beyond"
    return Receipt("experts", touched, (note,))


EXPERTS = Optimization(
    name="experts",
    summary="router in one kernel; experts streamed, tiled or grouped by the number of tokens",
    numerics="reordered",
    apply=stream,
    kernels=(SOFTMAX_ROUTER, *MOE),
    needs=("triton",),
    parameters=token_limits(FEW, DOZENS),
)
