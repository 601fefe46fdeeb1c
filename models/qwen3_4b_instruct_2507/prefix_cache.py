"""What makes two prefixes equal: their token ids, nothing else."""

from __future__ import annotations

from models.common.cache.prefix_mutations import PREFIX_MUTANTS
from models.common.cache.prefixes import prefix_caching, token_symbols

PREFIX_CACHING = prefix_caching(token_symbols, default_tokens=64, pool_tokens=32768, mutants=PREFIX_MUTANTS)
"""The pool is 4.5 GiB at the full size, reserved when the first prefix is opened."""
