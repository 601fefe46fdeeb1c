"""Which projections share an input and are read as one matrix, which take the decode kernels, and in how many bits."""

from __future__ import annotations

from torch import nn

from harness.spec.optimization import Optimization, Receipt, Target
from models.common.kernels.pdl import offers
from models.common.linear.eager import pack_neighbors
from models.common.linear.gemv import default_shape, interpreted_shape
from models.common.linear.gemv_cases import GEMV, GEMV_SWIGLU
from models.common.linear.skinny import Shapes, max_rows, stream
from models.common.quantization.quantized_gemv_cases import GEMV_FP8, GEMV_INT4, GEMV_INT8
from models.common.quantization.quantized_linear import Choice, weight_only
from models.common.quantization.schemes import FP8, INT4, INT8, Scheme
from models.qwen3_vl_2b.kernels.launch_shapes import h200_shape

ROWS = 16
"""Activation rows up to which the decode kernels are at least as fast as cuBLAS, by the sweep on an H200."""


def launch_shapes(target: Target) -> Shapes:
    if target.kernels == "interpreted":
        return interpreted_shape
    return h200_shape if offers(target.device) else default_shape


def pack(model: nn.Module, target: Target, rows: int = ROWS) -> Receipt:
    """q, k, v become one matrix, gate and up another; where Triton runs, decode steps stream them and every other
    linear layer."""
    touched = pack_neighbors(model)
    if target.kernels == "none":
        return Receipt("linear", touched, ("packed qkv and gate-up; no Triton in this process, so no decode kernels",))
    touched += stream(model, rows, launch_shapes(target))
    return Receipt("linear", touched, (f"packed qkv and gate-up; decode kernels up to {rows} rows",))


LINEAR = Optimization(
    name="linear",
    summary="q, k, v in one matrix, gate, up in another; decode steps stream the weights",
    numerics="reordered",
    apply=pack,
    kernels=(GEMV, GEMV_SWIGLU),
    parameters=(max_rows(ROWS),),
)


def bits(layers: Scheme, head: Scheme) -> Choice:
    """The linear layers of the language model; a tied head becomes a matrix of its own. What sees keeps its weights:
    the tower and the mergers run once an image, and decode steps never read them."""
    return Choice({"layers.*_proj": layers, "lm_head": head}, ROWS)


OTHERS = ("linear", "tensor_parallel")
"""One holder a weight; a rank's share would have scales of its own."""
LINEAR_INT8 = weight_only("linear_int8", "near_lossless", bits(INT8, INT8), (GEMV_INT8,), OTHERS)
LINEAR_FP8 = weight_only("linear_fp8", "near_lossless", bits(FP8, FP8), (GEMV_FP8,), (*OTHERS, LINEAR_INT8.name))
LINEAR_INT4 = weight_only(
    "linear_int4", "four_bit", bits(INT4, INT8), (GEMV_INT4, GEMV_INT8), (*OTHERS, LINEAR_INT8.name, LINEAR_FP8.name)
)
"""The head keeps eight bits: four there would cost the most."""
