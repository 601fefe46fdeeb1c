"""The layouts that a Qwen3-4B cache may have."""

from __future__ import annotations

from models.common.cache.optimization import paged, static

KV_CACHE = static()
KV_CACHE_PAGED = paged(default_tokens=64)
"""A read of 16 KiB a head (64 tokens of 128 channels), 9 MiB a page over 36 layers of 8 key-value heads."""
