"""How the language model reads its linear layers in a decode step, where the tower does not run."""

from __future__ import annotations

from pathlib import Path

from models.common.kernels.launch_shapes import launch_shapes
from models.common.linear.gemv_cases import GEMV, GEMV_SWIGLU
from models.common.linear.optimization import packed_linear
from models.common.quantization.optimization import rounded_linears

SHAPES = launch_shapes(Path(__file__).with_name("kernels"))
LINEAR = packed_linear(rows=16, packed="qkv and gate-up", kernels=(GEMV, GEMV_SWIGLU), tuned=SHAPES)
"""The tower's layers are among them: up to 16 patches go through the decode kernels."""
LINEAR_INT8, LINEAR_FP8, LINEAR_INT4 = rounded_linears(layers="layers.*_proj", head="lm_head", rows=16)
"""The linear layers of the language model; a tied head becomes a matrix of its own. What sees keeps its weights: the
tower and the mergers run once an image, and decode steps never read them."""
