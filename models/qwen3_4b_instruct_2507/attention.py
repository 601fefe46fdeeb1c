"""Qwen3-4B attention: 32 query heads over 8 key-value heads, whose 4 fill a quarter of a tile of 16 rows."""

from __future__ import annotations

from models.common.attention.optimization import flash_attention

ATTENTION = flash_attention()
