"""Llama rotates the whole head: rotation and cache write in one kernel, with no norm before them."""

from __future__ import annotations

from torch import nn

from harness.spec.optimization import Optimization, Receipt, Target
from models.common.attention.eager import NormRotateWrite
from models.common.decoder.swap import swap
from models.common.rotary.fused import FusedRotateWrite
from models.common.rotary.norm_rotate_write_cases import ROTATE_WRITE


def fuse(model: nn.Module, target: Target) -> Receipt:
    """Rotation and cache write in one kernel."""
    return Receipt("rotary", swap(model, NormRotateWrite, FusedRotateWrite))


ROTARY = Optimization(
    name="rotary",
    summary="rotation and cache write in one kernel",
    numerics="reordered",
    apply=fuse,
    kernels=(ROTATE_WRITE,),
    needs=("triton",),
)
