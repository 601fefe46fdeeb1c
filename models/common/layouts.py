"""Cache layouts as optimizations: memory reserved once, so that a captured step finds it where it was."""

from __future__ import annotations

from torch import nn

from harness.spec.optimization import Optimization, Receipt, Target


def static() -> Optimization:
    """One page a sequence."""

    def apply(model: nn.Module, target: Target) -> Receipt:
        model.cache_factory = model.caches.static
        return Receipt("kv_cache", ("cache_factory",))

    return Optimization(
        name="kv_cache",
        summary="static key-value cache: one page a sequence, reserved at once",
        numerics="exact",
        apply=apply,
        provides=frozenset({"cache_layout"}),
        conflicts=("kv_cache_paged",),
    )


def paged(page_tokens: int) -> Optimization:
    """Pages of `page_tokens` from one pool."""

    def apply(model: nn.Module, target: Target) -> Receipt:
        model.cache_factory = model.caches.paged(page_tokens)
        return Receipt("kv_cache_paged", ("cache_factory",))

    return Optimization(
        name="kv_cache_paged",
        summary=f"key-value cache in pages of {page_tokens} tokens from one pool",
        numerics="exact",
        apply=apply,
        provides=frozenset({"cache_layout"}),
        conflicts=("kv_cache",),
    )
