"""Which neighbors fuse: those of the 3 dense layers, of the shared expert and, behind the router, of every expert."""

from __future__ import annotations

from models.common.norms.optimization import fused_layers

FUSED_LAYERS = fused_layers()
