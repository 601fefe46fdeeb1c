"""Interleaved three-axis rotary: frequency j of a head turns by height where j % 3 is 1, by width where it is 2, while
those axes have frequencies left, and by time elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor

from models.common.decoder.extension import Extension
from models.common.rotary.eager import RotaryTable
from models.common.rotary.optimization import fused_rotary
from models.qwen3_vl_2b.config import TextGeometry
from models.qwen3_vl_2b.fused_tower import FusedRotatePair
from models.qwen3_vl_2b.kernels.rotate_pair import ROTATE_PAIR
from models.qwen3_vl_2b.tower_layers import RotatePair


class AxisRotary(RotaryTable):
    """Positions on one axis or on three -> (cos, sin) [B, T, head_dim]."""

    def __init__(self, g: TextGeometry, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(g.rope_theta, g.head_dim, dtype, device)
        self.axis: Tensor
        self.register_buffer("axis", axis_of_frequency(g.sections).to(self.inv_freq.device), persistent=False)

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """positions [B, T] of text, or [3, B, T] (time, height, width), integer -> cos, sin [B, T, head_dim] in the
        model's dtype."""
        if positions.dim() == 2:
            return super().forward(positions)
        return self.turned(positions[self.axis].permute(1, 2, 0).float() * self.inv_freq)


def axis_of_frequency(sections: tuple[int, int, int]) -> Tensor:
    """[frequencies] int64: 0 time, 1 height, 2 width."""
    frequency = torch.arange(sum(sections), device="cpu")
    axis = frequency % 3
    limits = torch.tensor([sum(sections), 3 * sections[1], 3 * sections[2]], device="cpu")
    return torch.where(frequency < limits[axis], axis, 0)


TOWER = Extension({RotatePair: FusedRotatePair}, (ROTATE_PAIR,), "the tower's float32 rotation in one")
ROTARY = fused_rotary(TOWER)
