"""The three weight-only optimizations of a model, which exclude each other."""

from __future__ import annotations

from harness.spec.optimization import Optimization
from models.common.quantization.quantized_gemv_cases import GEMV_FP8, GEMV_INT4, GEMV_INT8
from models.common.quantization.quantized_linear import Choice, weight_only
from models.common.quantization.schemes import FP8, INT4, INT8

OTHERS = ("linear", "tensor_parallel")
"""One holder a weight; a rank's share would have scales of its own."""


def rounded_linears(layers: str, head: str, rows: int) -> tuple[Optimization, Optimization, Optimization]:
    """Return linear_int8, linear_fp8 and linear_int4 of the linear layers whose paths match `layers` and of the one at
    `head`, read by the decode kernels up to `rows` activation rows. In linear_int4 the head keeps eight bits: four
    there would cost the most."""
    in_int8 = Choice({layers: INT8, head: INT8}, rows)
    in_fp8 = Choice({layers: FP8, head: FP8}, rows)
    in_int4 = Choice({layers: INT4, head: INT8}, rows)
    return (
        weight_only("linear_int8", "near_lossless", in_int8, (GEMV_INT8,), OTHERS),
        weight_only("linear_fp8", "near_lossless", in_fp8, (GEMV_FP8,), (*OTHERS, "linear_int8")),
        weight_only("linear_int4", "four_bit", in_int4, (GEMV_INT4, GEMV_INT8), (*OTHERS, "linear_int8", "linear_fp8")),
    )
