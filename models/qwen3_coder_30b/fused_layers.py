"""Which neighbors fuse, and the eager pair each replaces."""

from __future__ import annotations

from torch import nn

from harness.spec.optimization import Optimization, Receipt, Target
from models.common.fused import FusedAddRMSNorm, FusedGate
from models.common.kernels.rms_norm import ADD_NORM, NORM
from models.common.kernels.swiglu import SWIGLU
from models.common.mlp import Gate
from models.common.norms import AddRMSNorm
from models.common.swap import swap


def fuse(model: nn.Module, target: Target) -> Receipt:
    """Residual addition with the norm after it; inside the experts, silu with the product after it."""
    norms = swap(model, AddRMSNorm, FusedAddRMSNorm)
    gates = swap(model, Gate, lambda _: FusedGate())
    return Receipt("fused_layers", norms + gates)


FUSED_LAYERS = Optimization(
    name="fused_layers",
    summary="residual addition with RMSNorm, silu with its product",
    numerics="reordered",
    apply=fuse,
    kernels=(NORM, ADD_NORM, SWIGLU),
    needs=("triton",),
)
