from __future__ import annotations

import torch

from models.common.kernels.workspace import Workspaces

CPU = torch.device("cpu")


def test_a_workspace_keeps_its_address_because_a_graph_holds_it() -> None:
    workspaces = Workspaces()
    small = workspaces.get((64, 2), CPU)
    assert workspaces.get((128, 2), CPU) is not small
    assert workspaces.get((64, 2), CPU) is small
