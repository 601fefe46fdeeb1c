"""Cache layouts as optimizations: memory reserved once, so that a captured step finds it where it was."""

from __future__ import annotations

from harness.spec.optimization import Optimization, Receipt, Target
from models.common.decoder.frame import Decoder
from models.common.decoder.swap import attach


def static() -> Optimization:
    """One page a sequence."""

    def apply(model: Decoder, target: Target) -> Receipt:
        return Receipt("kv_cache", attach(model, "cache_factory", model.caches.static))

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

    def apply(model: Decoder, target: Target) -> Receipt:
        return Receipt("kv_cache_paged", attach(model, "cache_factory", model.caches.paged(page_tokens)))

    return Optimization(
        name="kv_cache_paged",
        summary=f"key-value cache in pages of {page_tokens} tokens from one pool",
        numerics="exact",
        apply=apply,
        provides=frozenset({"cache_layout"}),
        conflicts=("kv_cache",),
    )
