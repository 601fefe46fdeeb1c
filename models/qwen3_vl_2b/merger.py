"""From patches to tokens: merge x merge patches, neighbors in merge order, become one row of the language model."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.common.linear.eager import linear
from models.qwen3_vl_2b.config import VisionGeometry
from models.qwen3_vl_2b.tower_layers import AddLayerNorm


class Merger(nn.Module):
    """Every patch is normalized, then four are one row."""

    def __init__(self, g: VisionGeometry, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.norm = AddLayerNorm(g.hidden, g.eps, dtype, device)
        self.width = g.unit * g.hidden
        self.up = linear(self.width, self.width, True, dtype, device)
        self.down = linear(self.width, g.out, True, dtype, device)

    def forward(self, x: Tensor) -> Tensor:
        """x [N, hidden] -> [N / merge^2, out]."""
        return self.project(self.norm(None, x)[0].view(-1, self.width))

    def project(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))


class DeepMerger(Merger):
    """Four patches are one row, then it is normalized."""

    def __init__(self, g: VisionGeometry, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(g, dtype, device)
        self.norm = AddLayerNorm(self.width, g.eps, dtype, device)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.norm(None, x.view(-1, self.width))[0])
