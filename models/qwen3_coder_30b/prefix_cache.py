"""What makes two prefixes equal: their token ids, nothing else."""

from __future__ import annotations

from torch import Tensor

from models.common.cache.prefix_mutations import PREFIX_MUTANTS
from models.common.cache.prefix_tree import Symbol
from models.common.cache.prefixes import prefix_caching
from models.qwen3_coder_30b.kv_cache import PAGE_TOKENS

POOL_TOKENS = 32768
"""3 GiB at the full size, reserved when the first prefix is opened."""


def symbols(tokens: Tensor) -> list[list[Symbol]]:
    """tokens [B, T] -> a row of token ids for each row."""
    return tokens.tolist()


PREFIX_CACHING = prefix_caching(symbols, PAGE_TOKENS, POOL_TOKENS, PREFIX_MUTANTS)
