"""Which experts a token visits: softmax over all, the best few, their weights made to sum to 1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.common.norms.eager import upcast


class Router(nn.Module):
    def __init__(self, experts: int, chosen: int, hidden: int, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, hidden, dtype=dtype, device=device), requires_grad=False)
        self.chosen = chosen

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [N, H] -> ids [N, k] int64 and weights [N, k] in x's dtype, largest first."""
        scores = F.softmax(F.linear(x, self.weight), dim=-1, dtype=torch.float32)
        best, ids = scores.topk(self.chosen, dim=-1)
        return ids, (best / best.sum(-1, keepdim=True)).to(x.dtype)


def softmax_choice(x: Tensor, weight: Tensor, chosen: int) -> dict[str, Tensor]:
    """x [N, H], weight [E, H] -> {"ids": [N, chosen] int64, "weights": [N, chosen] in x's dtype}: the largest of the
    softmax over all experts, made to sum to 1, largest first."""
    scores = F.softmax(upcast(F.linear(x, weight)), dim=-1)
    best, ids = scores.sort(dim=-1, descending=True, stable=True)
    best, ids = best[:, :chosen], ids[:, :chosen]
    return {"ids": ids.contiguous(), "weights": (best / best.sum(-1, keepdim=True)).to(x.dtype)}
