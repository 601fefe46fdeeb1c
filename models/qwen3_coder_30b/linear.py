"""Qwen3-Coder's linear layers are those of attention and the head: most weights are experts, which `moe` reads."""

from __future__ import annotations

from pathlib import Path

from models.common.kernels.launch_shapes import launch_shapes
from models.common.linear.gemv_cases import GEMV
from models.common.linear.optimization import packed_linear
from models.common.quantization.optimization import rounded_linears

SHAPES = launch_shapes(Path(__file__).with_name("kernels"))
LINEAR = packed_linear(rows=16, packed="qkv", kernels=(GEMV,), tuned=SHAPES)
"""No block of this model has a gate and an up outside its experts."""
LINEAR_INT8, LINEAR_FP8, LINEAR_INT4 = rounded_linears(layers="layers.*_proj", head="lm_head", rows=16)
"""The projections of attention, and the head. Routers and experts keep their weights."""
