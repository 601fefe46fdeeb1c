"""Decode attention as one CUDA launch: what it refuses anywhere, and on a GPU with clusters that it is right."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.parity.kernels.kernel_checks import check_kernel
from models.common.attention import cluster_attention
from models.common.attention.cluster_attention_cases import CLUSTER_ATTENTION, inputs

CPU = torch.device("cpu")

PADDED = torch.zeros(1, 2, 32, 132, dtype=torch.bfloat16)[..., :128]
"""Pages whose rows do not begin at multiples of 16 bytes."""


def case(dtype: torch.dtype = torch.bfloat16, page_tokens: int = 32, columns: int = 1) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return inputs([20], [0], (8, 2), 128, page_tokens, columns, dtype, CPU, generator)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (case(torch.float32), "not this kernel.s"),
        (case(page_tokens=12, columns=2), "whole tiles of 16"),
        ({"q": torch.zeros(1, 2, 8, 128, dtype=torch.bfloat16)}, "2 tokens"),
        ({"q": torch.zeros(1, 1, 34, 128, dtype=torch.bfloat16)}, "34 over 2 heads"),
        ({"k": torch.zeros(1, 1, 2, 256, dtype=torch.bfloat16)[..., ::2]}, "side by side"),
        ({"sin": torch.zeros(1, 1, 256, dtype=torch.bfloat16)[..., ::2]}, "laid out alike"),
        ({"k_pages": PADDED, "v_pages": PADDED}, "16 bytes"),
    ],
    ids=["float32", "pages cut tiles", "two tokens", "17 heads a group", "strided heads", "strided sin", "odd pages"],
)
def test_a_call_that_it_would_misread_is_refused_before_anything_is_compiled(
    changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        cluster_attention.launch(**{**case(), **changes})


def test_nvcc_compiles_it_without_spilling_a_register(compiled: Callable[[Path], str]) -> None:
    said = compiled(cluster_attention.SOURCE)
    assert said.count("0 bytes spill stores, 0 bytes spill loads") == 4, said


@pytest.mark.skipif(
    not torch.cuda.is_available() or shutil.which("nvcc") is None,
    reason="needs a GPU with thread block clusters and nvcc; the record of Qwen3-Coder-30B on an H200 holds its checks",
)
@pytest.mark.parametrize("dtype", cluster_attention.DTYPES, ids=("bfloat16", "float16"))
def test_it_is_right_on_its_whole_menu(dtype: torch.dtype) -> None:
    checks = check_kernel(CLUSTER_ATTENTION, dtype, torch.device("cuda"), 0)
    failed = [f"{check.name}: {check.rule} {check.error} > {check.limit}" for check in checks if not check.passed]
    assert len(checks) > 20
    assert not failed, failed
