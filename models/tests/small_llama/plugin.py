"""The menu: the optimizations of the small Llama, in the order a stack applies them."""

from __future__ import annotations

from torch import nn

from harness.spec.optimization import Menu, Optimization, Receipt, Target
from models.common.cache.optimization import paged, static
from models.common.linear.eager import pack_neighbors
from models.small_llama.rotary import ROTARY

PAGE_TOKENS = 16
KV_CACHE = static()
KV_CACHE_PAGED = paged(PAGE_TOKENS)


def pack(model: nn.Module, target: Target) -> Receipt:
    """q, k, v become one matrix, gate and up another."""
    return Receipt("linear", pack_neighbors(model))


LINEAR = Optimization(
    name="linear",
    summary="q, k, v in one matrix, gate, up in another",
    numerics="reordered",
    apply=pack,
)
MENU = Menu(items=(KV_CACHE, KV_CACHE_PAGED, LINEAR, ROTARY), full=("kv_cache", "linear", "rotary"))
