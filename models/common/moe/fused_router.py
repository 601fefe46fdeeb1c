"""A router as a module that launches one kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from models.common.kernels.workspace import Workspace, Workspaces
from models.common.moe.router_loops import needs

Route = Callable[[Tensor, Any, Workspace], Mapping[str, Tensor]]
"""(x [N, H], the eager router, a workspace) -> {"ids": [N, k] int64, "weights": [N, k]}."""


class FusedRouter(nn.Module):
    """As the router it is made from, in one kernel up to `rows` tokens; more take its own matrix product."""

    def __init__(self, eager: nn.Module, route: Route, rows: int, workspaces: Workspaces) -> None:
        super().__init__()
        self.eager, self.route, self.rows, self.workspaces = eager, route, rows, workspaces

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [N, H] -> ids [N, k] int64 and weights [N, k], as the eager router gives them."""
        if x.shape[0] > self.rows:
            ids, weights = self.eager(x)
            return ids, weights
        experts = self.eager.get_parameter("weight").shape[0]
        done = self.route(x, self.eager, self.workspaces.get(needs(x.shape[0], experts), x.device))
        return done["ids"], done["weights"]
