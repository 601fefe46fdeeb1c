"""Cache layouts as optimizations: memory reserved once, so that a captured step finds it where it was."""

from __future__ import annotations

from harness.spec.optimization import Optimization, Receipt, Target
from harness.spec.parameter import Parameter
from models.common.decoder.frame import Decoder
from models.common.decoder.swap import attach

PAGE_SIZES = (16, 32, 64, 128, 256)
"""Tokens. A matrix product takes 16 keys at least, and a block of keys lies in one page."""


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


def paged(default_tokens: int) -> Optimization:
    """Pages from one pool, of `default_tokens` where nothing else is asked for."""

    def apply(model: Decoder, target: Target, page_tokens: int = default_tokens) -> Receipt:
        touched = attach(model, "cache_factory", model.caches.paged(page_tokens))
        return Receipt("kv_cache_paged", touched, (f"pages of {page_tokens} tokens",))

    return Optimization(
        name="kv_cache_paged",
        summary="key-value cache in pages of one size from one pool",
        numerics="exact",
        apply=apply,
        provides=frozenset({"cache_layout"}),
        conflicts=("kv_cache",),
        parameters=(Parameter("page_tokens", default_tokens, PAGE_SIZES, "Tokens in a page of the cache."),),
    )
