"""Qwen3-4B attention: 32 query heads over 8 key-value heads, whose 4 fill a quarter of a tile of 16 rows."""

from __future__ import annotations

from pathlib import Path

from models.common.attention.optimization import flash_attention
from models.common.kernels.launch_shapes import launch_shapes

ATTENTION = flash_attention(launch_shapes(Path(__file__).with_name("kernels")))
