"""Which neighbors fuse, in the layers and in the blocks of the tower."""

from __future__ import annotations

from models.common.decoder.extension import Extension
from models.common.norms.optimization import fused_layers
from models.qwen3_vl_2b.fused_tower import FusedAddLayerNorm
from models.qwen3_vl_2b.kernels.layer_norm import ADD_LAYER_NORM, LAYER_NORM
from models.qwen3_vl_2b.tower_layers import AddLayerNorm

TOWER = Extension(
    {AddLayerNorm: FusedAddLayerNorm}, (LAYER_NORM, ADD_LAYER_NORM), "in the tower, residual addition with LayerNorm"
)
FUSED_LAYERS = fused_layers(TOWER)
