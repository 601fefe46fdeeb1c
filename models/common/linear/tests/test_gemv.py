"""Products of few rows: judged in the interpreter, compiled for sm_90, and refusing what they cannot do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from models.common.kernels.workspace import Workspace
from models.common.linear.gemv import GemvShape, default_shape, gemv, needs

CASES = "models.common.linear.gemv_cases"
KERNELS = (f"{CASES}:GEMV", f"{CASES}:GEMV_SWIGLU")
NAMES = {"gemv", "gemv_swiglu"}
CUT_OTHERWISE = "models.common.linear.tests.split_gemv"


def test_every_menu_entry_passes_in_float32_and_tickets_return_to_zero(judge_kernels: Callable[..., Any]) -> None:
    found = judge_kernels("interpret", "float32", *KERNELS, f"{CUT_OTHERWISE}:SPLIT")
    assert found == {name: [] for name in (*NAMES, "gemv split 7", "gemv_swiglu split 2")}


def test_every_menu_entry_passes_in_float16(judge_kernels: Callable[..., Any]) -> None:
    assert judge_kernels("interpret", "float16", *KERNELS) == {name: [] for name in NAMES}


def test_all_compile_for_sm_90_in_bfloat16(judge_kernels: Callable[..., Any]) -> None:
    built = judge_kernels("compile", "bfloat16", *KERNELS, f"{CUT_OTHERWISE}:EARLY")
    assert {label.split("/")[0] for label in built} == {*NAMES, "early"}


def test_real_shapes_start_at_least_two_programs_per_multiprocessor() -> None:
    for n, k in ((6144, 2560), (2560, 4096), (2560, 9728), (9728, 2560), (151936, 2560)):
        for m in (1, 2, 8, 32, 64):
            shape = default_shape(m, n, k, 2)
            assert -(-n // shape.block_n) * shape.split_k >= 2 * 132


def test_split_sums_refuse_a_workspace_they_would_overrun() -> None:
    x, weight = torch.zeros(8, 512), torch.zeros(64, 512)
    shape = GemvShape(16, 64, 4, 2, split_k=2)
    floats, tickets = needs(8, 64, shape)
    with pytest.raises(ValueError, match="past their end"):
        gemv(x, weight, shape=shape, workspace=Workspace.allocate(floats - 1, tickets, x.device))
    with pytest.raises(ValueError, match="past their end"):
        gemv(x, weight, shape=shape, workspace=Workspace.allocate(floats, tickets - 1, x.device))


def test_what_a_kernel_would_compute_wrongly_is_refused() -> None:
    x, weight = torch.zeros(2, 64), torch.zeros(32, 64)
    with pytest.raises(ValueError, match="65 activation rows"):
        gemv(torch.zeros(65, 64), weight)
    with pytest.raises(ValueError, match="unit-stride"):
        gemv(torch.zeros(64, 2).t(), weight)
    with pytest.raises(ValueError, match="does not fit"):
        gemv(x.half(), weight)
    with pytest.raises(ValueError, match="not split"):
        gemv(x[:1], weight, shape=GemvShape(16, 64, 4, 2, split_k=2))
    with pytest.raises(ValueError, match="leave the rows"):
        gemv(x, weight, shape=GemvShape(16, 64, 4, 2, prefetch=128))
