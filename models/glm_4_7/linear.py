"""Which projections share an input and are read as one matrix, which take the decode kernels, and in how many bits."""

from __future__ import annotations

from pathlib import Path

from models.common.kernels.launch_shapes import launch_shapes
from models.common.linear.gemv_cases import GEMV, GEMV_SWIGLU
from models.common.linear.optimization import packed_linear
from models.common.quantization.optimization import rounded_linears

SHAPES = launch_shapes(Path(__file__).with_name("kernels"))
LINEAR = packed_linear(rows=16, packed="qkv and gate-up", kernels=(GEMV, GEMV_SWIGLU), tuned=SHAPES)
"""Gate and up of dense blocks and of shared experts; the routed experts are `moe`'s."""
LINEAR_INT8, LINEAR_FP8, LINEAR_INT4 = rounded_linears(layers="layers.*_proj", head="lm_head", rows=16)
"""The projections of attention, of dense blocks and of shared experts, and the head. Routers and the experts that they
choose from keep their weights; biases are added as they are."""
