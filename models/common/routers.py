"""Choosing a token's experts from its scores, ties to the lower index."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from models.common.fused import Workspaces
from models.common.kernels import softmax_router
from models.common.norms import wide


def softmax_choice(x: Tensor, weight: Tensor, chosen: int) -> dict[str, Tensor]:
    """x [N, H], weight [E, H] -> {"ids": [N, chosen] int64, "weights": [N, chosen] in x's dtype}: the largest of the
    softmax over all experts, made to sum to 1, largest first."""
    scores = F.softmax(wide(F.linear(x, weight)), dim=-1)
    best, ids = scores.sort(dim=-1, descending=True, stable=True)
    best, ids = best[:, :chosen], ids[:, :chosen]
    return {"ids": ids.contiguous(), "weights": (best / best.sum(-1, keepdim=True)).to(x.dtype)}


class SoftmaxRouter(nn.Module):
    """As the router it is made from, in one kernel up to `rows` tokens; more take its own matrix product."""

    def __init__(self, eager: nn.Module, rows: int, workspaces: Workspaces) -> None:
        super().__init__()
        self.eager, self.rows, self.workspaces = eager, rows, workspaces

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [N, H] -> ids [N, k] int64, weights [N, k]."""
        if x.shape[0] > self.rows:
            return self.eager(x)
        weight = self.eager.weight
        workspace = self.workspaces.get(softmax_router.needs(x.shape[0], weight.shape[0]), x.device)
        chosen = softmax_router.route(x, weight, self.eager.chosen, workspace)
        return chosen["ids"], chosen["weights"]
