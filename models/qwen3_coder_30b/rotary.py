"""Qwen3 rotates the whole head: positions [B, T] -> (cos, sin) [B, T, head_dim]."""

from __future__ import annotations

import torch
from torch import nn

from harness.spec.optimization import Optimization, Receipt, Target
from models.common.attention.eager import NormRotateWrite
from models.common.decoder.swap import swap
from models.common.rotary.eager import RotaryTable
from models.common.rotary.fused import FusedNormRotateWrite
from models.common.rotary.norm_rotate_write_cases import NORM_ROTATE_WRITE
from models.qwen3_coder_30b.config import Geometry


def rotary_table(geometry: Geometry, dtype: torch.dtype, device: torch.device) -> RotaryTable:
    return RotaryTable(geometry.rope_theta, geometry.head_dim, dtype, device)


def fuse(model: nn.Module, target: Target) -> Receipt:
    """QK-norm, rotation and cache write in one kernel."""
    return Receipt("rotary", swap(model, NormRotateWrite, FusedNormRotateWrite))


ROTARY = Optimization(
    name="rotary",
    summary="QK-norm, rotation and cache write in one kernel",
    numerics="reordered",
    apply=fuse,
    kernels=(NORM_ROTATE_WRITE,),
    needs=("triton",),
)
