"""Which experts a token visits: a sigmoid each, the best few by a corrected score, weighted by the plain one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.common.norms.eager import upcast


class Router(nn.Module):
    """Scores are float32 whatever the model's dtype, and so are the weights given back."""

    def __init__(
        self, experts: int, chosen: int, scale: float, hidden: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, hidden, dtype=dtype, device=device), requires_grad=False)
        self.correction: Tensor
        self.register_buffer("correction", torch.empty(experts, dtype=torch.float32, device=device))
        self.chosen, self.scale = chosen, scale

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [N, H] -> ids [N, k] int64, in no order, and weights [N, k] float32."""
        scores = F.linear(x.float(), self.weight.float()).sigmoid()
        ids = (scores + self.correction).topk(self.chosen, dim=-1, sorted=False).indices
        weights = scores.gather(1, ids)
        return ids, weights / (weights.sum(-1, keepdim=True) + 1e-20) * self.scale


def sigmoid_choice(x: Tensor, weight: Tensor, correction: Tensor, chosen: int, scale: float) -> dict[str, Tensor]:
    """x [N, H], weight [E, H], correction [E] -> {"ids": [N, chosen] int64, "weights": [N, chosen] float32}: largest
    sigmoid + correction first, the sigmoids of the chosen made to sum to `scale`. All of it in float32 or wider."""
    scores = F.linear(upcast(x), upcast(weight)).sigmoid()
    ids = (scores + correction).argsort(dim=-1, descending=True, stable=True)[:, :chosen].contiguous()
    weights = scores.gather(1, ids)
    return {"ids": ids, "weights": weights / (weights.sum(-1, keepdim=True) + 1e-20) * scale}
