"""QK-norm, rotation and cache write in one kernel."""

from __future__ import annotations

from torch import nn

from harness.spec.optimization import Optimization, Receipt, Target
from models.common.attention.eager import NormRotateWrite
from models.common.decoder.extension import NOTHING, Extension, swap_all
from models.common.rotary.fused import FusedNormRotateWrite
from models.common.rotary.norm_rotate_write_cases import NORM_ROTATE_WRITE


def fused_rotary(more: Extension = NOTHING) -> Optimization:
    """Swap every NormRotateWrite for its kernel, and what `more` names for its own."""

    def apply(model: nn.Module, target: Target) -> Receipt:
        return Receipt("rotary", swap_all(model, {NormRotateWrite: FusedNormRotateWrite}, more.swaps))

    return Optimization(
        name="rotary",
        summary=more.describe("QK-norm, rotation and cache write in one kernel"),
        numerics="reordered",
        apply=apply,
        kernels=(NORM_ROTATE_WRITE, *more.kernels),
        needs=("triton",),
    )
