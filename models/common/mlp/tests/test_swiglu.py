"""silu(gate) * up: eager as Hugging Face has it, its kernel and the module that launches it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.models.qwen3.modeling_qwen3 import Qwen3MLP

from models.common.mlp import swiglu as kernel
from models.common.mlp.eager import SplitGateUp, SwiGLU, swiglu
from models.tests.drawn import drawn

KERNEL = "models.common.mlp.swiglu:SWIGLU"
NOISE = 2e-6
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)


@DTYPES
@torch.no_grad()
def test_gated_block_bit_for_bit(dtype: torch.dtype) -> None:
    theirs = Qwen3MLP(SimpleNamespace(hidden_size=96, intermediate_size=160, hidden_act="silu")).to(dtype)
    x = drawn(2, 5, 96, dtype=dtype)
    gate, up = theirs.gate_proj(x), theirs.up_proj(x)
    assert torch.equal(swiglu(gate, up)["out"], theirs.act_fn(gate) * up)
    assert torch.equal(SwiGLU(SplitGateUp(theirs.gate_proj, theirs.up_proj), theirs.down_proj)(x), theirs(x))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_menu_entry_passes(dtype: str, judge_kernels: Callable[..., Any]) -> None:
    assert judge_kernels("interpret", dtype, KERNEL) == {"swiglu": []}


def test_it_compiles_for_sm_90_in_bfloat16(judge_kernels: Callable[..., Any]) -> None:
    assert {label.split("/")[0] for label in judge_kernels("compile", "bfloat16", KERNEL)} == {"swiglu"}


def test_strided_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="other channels would be paired"):
        kernel.launch(torch.zeros(4, 8), torch.zeros(8, 4).t())


def test_the_fused_module_agrees_with_the_eager_one(judge_modules: Callable[..., dict[str, float]]) -> None:
    assert judge_modules("models.common.mlp.tests.fused_gate:comparisons")["gate"] < NOISE
