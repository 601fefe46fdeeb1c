"""What makes two prefixes equal: their token ids, nothing else."""

from __future__ import annotations

from torch import Tensor, nn

from harness.spec import Receipt, Target
from models.common.prefix_tree import Symbol
from models.common.prefixes import PoolShape, Prefixes
from models.qwen3_4b_instruct_2507.kv_cache import PAGE_TOKENS

POOL_TOKENS = 32768
"""4.5 GiB at the full size, reserved when the first prefix is opened."""


def symbols(tokens: Tensor) -> list[list[Symbol]]:
    """tokens [B, T] -> a row of token ids for each row."""
    return tokens.tolist()


def reserve(model: nn.Module, target: Target) -> Receipt:
    """A pool for prefixes beside the caches of `new_cache`, which stay what they are."""
    g = model.geometry
    pages = min(POOL_TOKENS, g.max_positions) // PAGE_TOKENS
    shape = PoolShape(g.layers, g.kv_heads, g.head_dim, pages, PAGE_TOKENS, target.dtype, target.device)
    model.prefixes = Prefixes(shape, symbols)
    return Receipt("prefix_caching", ("prefixes",))
