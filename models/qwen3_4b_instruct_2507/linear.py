"""Qwen3-4B reads every linear layer in a decode step: which are one matrix, up to which rows, in how many bits."""

from __future__ import annotations

from pathlib import Path

from models.common.kernels.launch_shapes import launch_shapes
from models.common.linear.gemv_cases import GEMV, GEMV_SWIGLU
from models.common.linear.optimization import packed_linear
from models.common.quantization.optimization import rounded_linears

SHAPES = launch_shapes(Path(__file__).with_name("kernels"))
LINEAR = packed_linear(rows=16, packed="qkv and gate-up", kernels=(GEMV, GEMV_SWIGLU), tuned=SHAPES)
"""Up to 16 rows the decode kernels are at least as fast as cuBLAS on an H200:
benchmark_results/h200/sweeps/decode-shapes-20261123.json."""
LINEAR_INT8, LINEAR_FP8, LINEAR_INT4 = rounded_linears(layers="layers.*_proj", head="lm_head", rows=16)
"""Every linear layer, by its path in the eager build; a tied head becomes a matrix of its own."""
