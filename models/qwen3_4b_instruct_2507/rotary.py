"""Qwen3 rotates the whole head: positions [B, T] -> (cos, sin) [B, T, head_dim]."""

from __future__ import annotations

import torch

from models.common.rotary import RotaryTable
from models.qwen3_4b_instruct_2507.config import Geometry


def rotary_table(geometry: Geometry, dtype: torch.dtype, device: torch.device) -> RotaryTable:
    return RotaryTable(geometry.rope_theta, geometry.head_dim, dtype, device)
