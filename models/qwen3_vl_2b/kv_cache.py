"""What a Qwen3 cache holds, and the layouts it may have."""

from __future__ import annotations

import torch

from models.common.cache.kv_cache import CacheShape
from models.common.cache.optimization import paged, static
from models.qwen3_vl_2b.config import TextGeometry

PAGE_TOKENS = 64
"""64 tokens x 128 channels x 2 bytes = 16 KiB a head and page: long reads, little waste at a row's end."""
KV_CACHE = static()
KV_CACHE_PAGED = paged(PAGE_TOKENS)


def cache_shape(g: TextGeometry, dtype: torch.dtype, device: torch.device) -> CacheShape:
    return CacheShape(g.layers, g.kv_heads, g.head_dim, dtype, device)
