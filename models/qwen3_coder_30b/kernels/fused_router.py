"""The softmax router as a module that launches one kernel."""

from __future__ import annotations

from torch import Tensor, nn

from models.common.kernels.workspace import Workspaces
from models.common.moe.router_loops import needs
from models.qwen3_coder_30b.kernels import softmax_router


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
        workspace = self.workspaces.get(needs(x.shape[0], weight.shape[0]), x.device)
        chosen = softmax_router.route(x, weight, self.eager.chosen, workspace)
        return chosen["ids"], chosen["weights"]
