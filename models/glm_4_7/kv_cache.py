"""The layouts that a GLM-4.7 cache may have."""

from __future__ import annotations

from models.common.cache.optimization import paged, static

KV_CACHE = static()
KV_CACHE_PAGED = paged(default_tokens=64)
"""A read of 16 KiB a head (64 tokens of 128 channels), 23 MiB a page over 92 layers of 8 key-value heads."""
