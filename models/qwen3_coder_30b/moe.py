"""The sparse feed-forward block, and the kernels for as many tokens as a step has."""

from __future__ import annotations

import torch
from torch import nn

from harness.spec.optimization import Optimization, Receipt, Target
from models.common.decoder.swap import swap
from models.common.kernels.workspace import Workspaces
from models.common.moe.eager import Experts, MoE
from models.common.moe.moe_cases import MOE
from models.common.moe.sparse import SparseExperts
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


def stream(model: nn.Module, target: Target) -> Receipt:
    """The router in one kernel, the experts through kernels that read only the chosen ones' weights, once."""
    workspaces = Workspaces()
    touched = swap(model, Router, lambda m: SoftmaxRouter(m, DOZENS, workspaces))
    touched += swap(model, Experts, lambda m: SparseExperts(m, FEW, DOZENS))
    return Receipt("experts", touched, (f"vectors up to {FEW} tokens, tiles up to {DOZENS}, sorted beyond",))


EXPERTS = Optimization(
    name="experts",
    summary="router in one kernel; experts streamed, tiled or grouped by the number of tokens",
    numerics="reordered",
    apply=stream,
    kernels=(SOFTMAX_ROUTER, *MOE),
    needs=("triton",),
)
