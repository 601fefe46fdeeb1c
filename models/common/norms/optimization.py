"""Neighbors of a layer in one kernel each: residual addition with the norm after it, silu with the product after it."""

from __future__ import annotations

from torch import nn

from harness.spec.optimization import Optimization, Receipt, Target
from models.common.decoder.extension import NOTHING, Extension, Swaps, swap_all
from models.common.mlp.eager import Gate
from models.common.mlp.fused import FusedGate
from models.common.mlp.swiglu import SWIGLU
from models.common.norms.eager import AddRMSNorm
from models.common.norms.fused import FusedAddRMSNorm
from models.common.norms.rms_norm import ADD_NORM, NORM


def fused_layers(more: Extension = NOTHING) -> Optimization:
    """Swap every norm that adds first and every gate, inside experts too, and what `more` names."""

    def apply(model: nn.Module, target: Target) -> Receipt:
        swaps: Swaps = {AddRMSNorm: FusedAddRMSNorm, Gate: lambda _: FusedGate()}
        return Receipt("fused_layers", swap_all(model, swaps, more.swaps))

    return Optimization(
        name="fused_layers",
        summary=more.describe("residual addition with RMSNorm, silu with its product"),
        numerics="reordered",
        apply=apply,
        kernels=(NORM, ADD_NORM, SWIGLU, *more.kernels),
        needs=("triton",),
    )
