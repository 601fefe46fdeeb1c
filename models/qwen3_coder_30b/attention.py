"""Qwen3-Coder attention: 32 query heads over 4 key-value heads, whose 8 fill half of a tile of 16 rows."""

from __future__ import annotations

from models.common.attention.optimization import flash_attention

ATTENTION = flash_attention()
