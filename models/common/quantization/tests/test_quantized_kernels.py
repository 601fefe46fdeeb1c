"""Products with quantized weights: judged in the interpreter, compiled for sm_90, and refusing what they cannot do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from models.common.linear.gemv import gemv_scaled
from models.common.quantization.quantized_gemv import gemv_int4
from models.common.quantization.quantized_gemv_cases import codes_of
from models.common.quantization.schemes import INT4, INT8

CASES = "models.common.quantization.quantized_gemv_cases"
KERNELS = tuple(f"{CASES}:{name}" for name in ("GEMV_INT8", "GEMV_FP8", "GEMV_INT4"))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_menu_entry_passes(dtype: str, judge_kernels: Callable[..., Any]) -> None:
    assert judge_kernels("interpret", dtype, *KERNELS) == {"gemv_int8": [], "gemv_fp8": [], "gemv_int4": []}


def test_every_kernel_compiles_for_sm_90_in_bfloat16(judge_kernels: Callable[..., Any]) -> None:
    built = judge_kernels("compile", "bfloat16", *KERNELS)
    assert {label.split(" ")[0] for label in built} == {
        "gemv_int8/vector_kernel",
        "gemv_int8/matrix_kernel",
        "gemv_fp8/vector_kernel",
        "gemv_fp8/matrix_kernel",
        "gemv_int4/int4_vector_kernel",
        "gemv_int4/int4_matrix_kernel",
    }


def test_what_a_kernel_would_compute_wrongly_is_refused() -> None:
    x, held = torch.zeros(2, 300), codes_of(INT4, torch.ones(16, 300))
    with pytest.raises(ValueError, match="65 activation rows"):
        gemv_int4(torch.zeros(65, 300), **held)
    with pytest.raises(ValueError, match="another one's scale"):
        gemv_int4(torch.zeros(2, 400), **held)
    with pytest.raises(ValueError, match="unit-stride"):
        gemv_int4(torch.zeros(300, 2).t(), **held)
    bytes_held = codes_of(INT8, torch.ones(16, 300))
    with pytest.raises(ValueError, match="does not fit"):
        gemv_scaled(x, bytes_held["codes"], bytes_held["scales"][:4])
    with pytest.raises(ValueError, match="does not fit"):
        gemv_scaled(x, torch.ones(16, 300), bytes_held["scales"])
