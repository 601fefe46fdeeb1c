"""Choosing a token's experts from its scores, ties to the lower index."""

from __future__ import annotations

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from models.common.fused import Workspaces
from models.common.kernels import sigmoid_router, softmax_router
from models.common.kernels.router_loops import needs
from models.common.norms import wide


def softmax_choice(x: Tensor, weight: Tensor, chosen: int) -> dict[str, Tensor]:
    """x [N, H], weight [E, H] -> {"ids": [N, chosen] int64, "weights": [N, chosen] in x's dtype}: the largest of the
    softmax over all experts, made to sum to 1, largest first."""
    scores = F.softmax(wide(F.linear(x, weight)), dim=-1)
    best, ids = scores.sort(dim=-1, descending=True, stable=True)
    best, ids = best[:, :chosen], ids[:, :chosen]
    return {"ids": ids.contiguous(), "weights": (best / best.sum(-1, keepdim=True)).to(x.dtype)}


def sigmoid_choice(x: Tensor, weight: Tensor, correction: Tensor, chosen: int, scale: float) -> dict[str, Tensor]:
    """x [N, H], weight [E, H], correction [E] -> {"ids": [N, chosen] int64, "weights": [N, chosen] float32}: largest
    sigmoid + correction first, the sigmoids of the chosen made to sum to `scale`. All of it in float32 or wider."""
    scores = F.linear(wide(x), wide(weight)).sigmoid()
    ids = (scores + correction).argsort(dim=-1, descending=True, stable=True)[:, :chosen].contiguous()
    weights = scores.gather(1, ids)
    return {"ids": ids, "weights": weights / (weights.sum(-1, keepdim=True) + 1e-20) * scale}


class Router(Protocol):
    """A router of a model, whose module a fused one is made from."""

    weight: nn.Parameter
    """[E, H]"""
    chosen: int

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [N, H] -> ids [N, k] int64, weights [N, k]."""


class CorrectedRouter(Router, Protocol):
    correction: Tensor
    """[E]"""
    scale: float


class SoftmaxRouter(nn.Module):
    """As the router it is made from, in one kernel up to `rows` tokens; more take its own matrix product."""

    def __init__(self, eager: Router, rows: int, workspaces: Workspaces) -> None:
        super().__init__()
        self.eager, self.rows, self.workspaces = eager, rows, workspaces

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [N, H] -> ids [N, k] int64, weights [N, k]."""
        if x.shape[0] > self.rows:
            return self.eager(x)
        weight = self.eager.weight
        workspace = self.workspaces.get(needs(x.shape[0], weight.shape[0]), x.device)
        chosen = softmax_router.route(x, weight, self.eager.chosen, workspace)
        return chosen["ids"], chosen["weights"]


class SigmoidRouter(nn.Module):
    """As the router it is made from, in one kernel up to `rows` tokens; more take its own matrix product."""

    def __init__(self, eager: CorrectedRouter, rows: int, workspaces: Workspaces) -> None:
        super().__init__()
        self.eager, self.rows, self.workspaces = eager, rows, workspaces

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [N, H] -> ids [N, k] int64, weights [N, k] float32."""
        eager = self.eager
        if x.shape[0] > self.rows:
            return eager(x)
        workspace = self.workspaces.get(needs(x.shape[0], eager.weight.shape[0]), x.device)
        done = sigmoid_router.route(x, eager.weight, eager.correction, eager.chosen, eager.scale, workspace)
        return done["ids"], done["weights"]
