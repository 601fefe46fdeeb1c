"""Kernels of experts: judged in the interpreter and compiled for sm_90."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

KERNELS = "models.common.moe.moe_cases:MOE"
NAMES = {"moe_gate_up", "moe_down", "moe_tiles_gate_up", "moe_tiles_down", "moe_combine"}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_menu_entry_passes(dtype: str, judge_kernels: Callable[..., Any]) -> None:
    assert judge_kernels("interpret", dtype, KERNELS) == {name: [] for name in NAMES}


def test_all_compile_for_sm_90_in_bfloat16(judge_kernels: Callable[..., Any]) -> None:
    assert {label.split("/")[0] for label in judge_kernels("compile", "bfloat16", KERNELS)} == NAMES
