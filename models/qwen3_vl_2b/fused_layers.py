"""Which neighbors fuse, and the eager pair each replaces."""

from __future__ import annotations

from torch import nn

from harness.spec.optimization import Optimization, Receipt, Target
from models.common.decoder.swap import swap
from models.common.mlp.eager import Gate
from models.common.mlp.fused import FusedGate
from models.common.mlp.swiglu import SWIGLU
from models.common.norms.eager import AddRMSNorm
from models.common.norms.fused import FusedAddRMSNorm
from models.common.norms.rms_norm import ADD_NORM, NORM
from models.qwen3_vl_2b.fused_tower import FusedAddLayerNorm
from models.qwen3_vl_2b.kernels.layer_norm import ADD_LAYER_NORM, LAYER_NORM
from models.qwen3_vl_2b.tower_layers import AddLayerNorm


def fuse(model: nn.Module, target: Target) -> Receipt:
    """Residual addition with the norm after it, in layers and tower; silu with the product after it."""
    norms = swap(model, AddRMSNorm, FusedAddRMSNorm)
    gates = swap(model, Gate, lambda _: FusedGate())
    tower = swap(model, AddLayerNorm, FusedAddLayerNorm)
    return Receipt("fused_layers", norms + gates + tower)


FUSED_LAYERS = Optimization(
    name="fused_layers",
    summary="residual addition with RMSNorm and, in the tower, LayerNorm; silu with its product",
    numerics="reordered",
    apply=fuse,
    kernels=(NORM, ADD_NORM, SWIGLU, LAYER_NORM, ADD_LAYER_NORM),
    needs=("triton",),
)
