"""RMSNorm: eager as Hugging Face has it, its kernels and the module that launches them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from models.common.norms import rms_norm
from models.common.norms.eager import AddRMSNorm, RMSNorm, add_norm, norm
from models.common.norms.fused import FusedAddRMSNorm
from models.tests.drawn import drawn

CPU = torch.device("cpu")
KERNELS = ("models.common.norms.rms_norm:NORM", "models.common.norms.rms_norm:ADD_NORM")
NAMES = {"rms_norm", "add_rms_norm"}
NOISE = 2e-6
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)


def pair_of_norms(kind: type[RMSNorm], size: int, dtype: torch.dtype) -> tuple[RMSNorm, Qwen3RMSNorm]:
    weight = 1 + drawn(size, dtype=dtype, seed=9) / 10
    ours, theirs = kind(size, 1e-6, dtype, CPU), Qwen3RMSNorm(size, eps=1e-6).to(dtype)
    ours.weight.data, theirs.weight.data = weight, weight.clone()
    return ours, theirs


@DTYPES
@pytest.mark.parametrize("scale", [1.0, 1e-3, 50.0])
@torch.no_grad()
def test_rms_norm_bit_for_bit(dtype: torch.dtype, scale: float) -> None:
    ours, theirs = pair_of_norms(RMSNorm, 320, dtype)
    x = drawn(2, 7, 320, dtype=dtype) * scale
    want = theirs(x)
    assert torch.equal(ours(x), want)
    assert torch.equal(norm(x, ours.weight, 1e-6)["normed"], want)


@DTYPES
@torch.no_grad()
def test_adding_first_is_hugging_faces_residual_then_norm(dtype: torch.dtype) -> None:
    ours, theirs = pair_of_norms(AddRMSNorm, 320, dtype)
    delta, residual = drawn(2, 7, 320, dtype=dtype), drawn(2, 7, 320, dtype=dtype, seed=1)
    total = residual + delta
    normed, kept = ours(delta, residual)
    twin = add_norm(delta, residual, ours.weight, 1e-6)
    assert torch.equal(kept, total)
    assert torch.equal(normed, theirs(total))
    assert torch.equal(twin["normed"], normed)
    assert torch.equal(twin["residual"], total)
    first, unchanged = ours(None, residual)
    assert torch.equal(first, theirs(residual))
    assert unchanged is residual


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_menu_entry_passes(dtype: str, judge_kernels: Callable[..., Any]) -> None:
    assert judge_kernels("interpret", dtype, *KERNELS) == {name: [] for name in NAMES}


def test_all_compile_for_sm_90_in_bfloat16(judge_kernels: Callable[..., Any]) -> None:
    assert {label.split("/")[0] for label in judge_kernels("compile", "bfloat16", *KERNELS)} == NAMES


def test_strided_channels_are_refused() -> None:
    x, weight = torch.zeros(8, 4).t(), torch.ones(8)
    with pytest.raises(ValueError, match="unit-stride"):
        rms_norm.launch_norm(x, weight, 1e-6)
    with pytest.raises(ValueError, match="unit-stride"):
        rms_norm.launch_add_norm(x, torch.zeros(4, 8), weight, 1e-6)


def test_the_fused_module_agrees_with_the_eager_one(judge_modules: Callable[..., dict[str, float]]) -> None:
    found = judge_modules("models.common.norms.tests.fused_norms:comparisons")
    assert len(found) == 6
    assert max(found.values()) < NOISE
    assert all(error == 0 for name, error in found.items() if name.endswith("residual"))


def test_parameters_are_shared_under_their_names() -> None:
    eager = AddRMSNorm(8, 1e-5, torch.float32, CPU)
    fused = FusedAddRMSNorm(eager)
    assert fused.weight is eager.weight
    assert fused.eps == 1e-5
    assert [name for name, _ in fused.named_parameters()] == [name for name, _ in eager.named_parameters()]
