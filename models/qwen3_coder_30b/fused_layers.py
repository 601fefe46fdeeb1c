"""Which neighbors fuse: residual addition and the norm after it, and inside the experts silu and its product."""

from __future__ import annotations

from models.common.norms.optimization import fused_layers

FUSED_LAYERS = fused_layers()
