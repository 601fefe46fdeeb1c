"""The layouts that a Qwen3-Coder-30B cache may have."""

from __future__ import annotations

from models.common.cache.optimization import paged, static

KV_CACHE = static()
KV_CACHE_PAGED = paged(default_tokens=64)
"""A read of 16 KiB a head (64 tokens of 128 channels), 6 MiB a page over 48 layers of 4 key-value heads."""
