"""Which neighbors fuse: residual addition and the norm after it twice a layer, silu and the product after it once."""

from __future__ import annotations

from models.common.norms.optimization import fused_layers

FUSED_LAYERS = fused_layers()
