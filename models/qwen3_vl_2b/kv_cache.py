"""What a Qwen3 cache holds, and the three layouts it may have."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from harness.spec import Receipt, Target
from models.common.kv_cache import GrowingCache, KVCache, PagedCache
from models.qwen3_vl_2b.config import TextGeometry

PAGE_TOKENS = 64
"""64 tokens x 128 channels x 2 bytes = 16 KiB a head and page: long reads, little waste at a row's end."""

CacheFactory = Callable[[int, int, Sequence[int] | None], KVCache]
"""(batch, capacity in tokens, left padding per row) -> an empty cache."""
Apply = Callable[[nn.Module, Target], Receipt]


def growing(g: TextGeometry, dtype: torch.dtype, device: torch.device) -> CacheFactory:
    """As long as its content; the eager build's own. Ignores the capacity: it has none."""
    return lambda batch, capacity, starts: GrowingCache(g.layers, g.kv_heads, g.head_dim, batch, dtype, device, starts)


def static(g: TextGeometry, dtype: torch.dtype, device: torch.device) -> CacheFactory:
    """One page a row, reserved at once."""
    return lambda batch, capacity, starts: PagedCache(
        g.layers, g.kv_heads, g.head_dim, batch, capacity, capacity, dtype, device, starts
    )


def paged(g: TextGeometry, dtype: torch.dtype, device: torch.device) -> CacheFactory:
    """Pages of PAGE_TOKENS from one pool."""
    return lambda batch, capacity, starts: PagedCache(
        g.layers, g.kv_heads, g.head_dim, batch, capacity, PAGE_TOKENS, dtype, device, starts
    )


def reserve(layout: Callable[[TextGeometry, torch.dtype, torch.device], CacheFactory], name: str) -> Apply:
    """An optimization's `apply` that gives the model another cache layout."""

    def apply(model: nn.Module, target: Target) -> Receipt:
        model.cache_factory = layout(model.geometry, target.dtype, target.device)
        return Receipt(name, ("cache_factory",))

    return apply
