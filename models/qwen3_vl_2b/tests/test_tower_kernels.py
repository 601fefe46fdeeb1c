"""Layer norm, rotation of a packed projection and segment attention: judged in the interpreter, compiled for sm_90,
and refusing what they cannot do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from models.qwen3_vl_2b.kernels import layer_norm, rotate_pair, segment_attention

KERNELS = (
    "models.qwen3_vl_2b.kernels.layer_norm:LAYER_NORM",
    "models.qwen3_vl_2b.kernels.layer_norm:ADD_LAYER_NORM",
    "models.qwen3_vl_2b.kernels.rotate_pair:ROTATE_PAIR",
    "models.qwen3_vl_2b.kernels.segment_attention_cases:SEGMENT_ATTENTION",
)
FINER = "models.qwen3_vl_2b.tests.finer_segment_attention:FINER"
NAMES = {"layer_norm", "add_layer_norm", "rotate_pair", "segment_attention"}


def test_every_menu_entry_passes_in_float32(judge_kernels: Callable[..., Any]) -> None:
    assert judge_kernels("interpret", "float32", *KERNELS, FINER) == {name: [] for name in (*NAMES, "finer")}


def test_every_menu_entry_passes_in_float16(judge_kernels: Callable[..., Any]) -> None:
    assert judge_kernels("interpret", "float16", *KERNELS) == {name: [] for name in NAMES}


def test_every_kernel_compiles_for_sm_90_in_bfloat16(judge_kernels: Callable[..., Any]) -> None:
    built = judge_kernels("compile", "bfloat16", *KERNELS)
    assert {label.split("/")[0] for label in built} == NAMES
    assert all(label.endswith(", wgmma") for label in built if label.startswith("segment_attention"))


def test_layouts_that_would_be_misread_are_refused() -> None:
    x, one = torch.zeros(8, 4).t(), torch.ones(8)
    with pytest.raises(ValueError, match="other channels would be normed"):
        layer_norm.launch_norm(x, one, one, 1e-6)
    with pytest.raises(ValueError, match="other channels would be normed"):
        layer_norm.launch_add_norm(x, torch.zeros(4, 8), one, one, 1e-6)
    angles = torch.zeros(3, 16)
    with pytest.raises(ValueError, match="3 unit-stride rows of 3 x 2 heads of 16"):
        rotate_pair.launch(torch.zeros(3, 64), angles, angles, 2)
    with pytest.raises(ValueError, match="angles would be misread"):
        rotate_pair.launch(torch.zeros(3, 96), angles.half(), angles.half(), 2)
    heads, bounds = torch.zeros(3, 1, 24), torch.tensor([0, 3], dtype=torch.int32)
    with pytest.raises(ValueError, match="heads of 24 channels"):
        segment_attention.launch(heads, heads, heads, bounds, 1.0)
    apart = torch.zeros(3, 16, 1).transpose(1, 2)
    with pytest.raises(ValueError, match="values would be misread"):
        segment_attention.launch(apart, apart, torch.zeros(1, 16, 3).permute(2, 0, 1), bounds, 1.0)
