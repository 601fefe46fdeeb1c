"""The sigmoid router as a module that launches one kernel."""

from __future__ import annotations

from torch import Tensor, nn

from models.common.kernels.workspace import Workspaces
from models.common.moe.router_loops import needs
from models.glm_4_7.kernels import sigmoid_router


class SigmoidRouter(nn.Module):
    """As the router it is made from, in one kernel up to `rows` tokens; more take its own matrix product."""

    def __init__(self, eager: nn.Module, rows: int, workspaces: Workspaces) -> None:
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
