"""Norm, gate, rotary and prefill kernels: judged in the interpreter, compiled for sm_90,
and refusing what they cannot do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.common.attention import prefill_attention
from models.common.attention.prefill_attention import PrefillShape, default_shape
from models.common.mlp import swiglu
from models.common.norms import rms_norm
from models.common.rotary import norm_rotate_write

SCRIPT = Path(__file__).with_name("layer_judge.py")
NAMES = {"rms_norm", "add_rms_norm", "swiglu", "norm_rotate_write", "rotate_write", "prefill_attention"}


@pytest.fixture(scope="module")
def interpreted(judge: Callable[..., Any]) -> dict[str, Any]:
    return judge(SCRIPT, "interpret", "float32", interpret=True)


def test_every_menu_entry_passes_in_float32(interpreted: dict[str, Any]) -> None:
    assert interpreted["kernels"] == {name: [] for name in (*NAMES, "finer")}


def test_every_menu_entry_passes_in_float16(judge: Callable[..., Any]) -> None:
    assert judge(SCRIPT, "interpret", "float16", interpret=True)["kernels"] == {name: [] for name in NAMES}


def test_every_kernel_compiles_for_sm_90_in_bfloat16(judge: Callable[..., Any]) -> None:
    built = judge(SCRIPT, "compile", "bfloat16", interpret=False)
    assert {label.split("/")[0] for label in built} == NAMES
    assert all(label.endswith(", wgmma") for label in built if label.startswith("prefill_attention"))


def test_blocks_of_keys_divide_the_page_unless_a_row_is_one_page() -> None:
    assert default_shape(page_tokens=1000, columns=1, element_size=2).block_n == 64
    assert default_shape(page_tokens=48, columns=3, element_size=2).block_n == 16
    assert default_shape(page_tokens=256, columns=3, element_size=2).block_n == 64


def paged(page_tokens: int) -> dict[str, Any]:
    pages = torch.zeros(4, 1, page_tokens, 128)
    ints = torch.full((1,), 8, dtype=torch.int32)
    inputs = {"k_pages": pages, "v_pages": pages, "table": torch.zeros(1, 4, dtype=torch.int32)}
    return {"q": torch.zeros(1, 8, 2, 128), **inputs, "starts": ints * 0, "lengths": ints, "scale": 1.0}


def test_prefill_refuses_blocks_across_pages_and_pages_too_small_for_one() -> None:
    with pytest.raises(ValueError, match="blocks of 32 keys would cross pages of 48"):
        prefill_attention.launch(**paged(48), shape=PrefillShape(64, 32, 4, 2))
    with pytest.raises(ValueError, match="pages of 24 tokens: no block of 16 keys"):
        prefill_attention.launch(**paged(24))
    with pytest.raises(ValueError, match="values would be misread"):
        prefill_attention.launch(**paged(16) | {"v_pages": torch.zeros(4, 16, 1, 128).transpose(1, 2)})


def test_strided_channels_are_refused() -> None:
    x, weight = torch.zeros(8, 4).t(), torch.ones(8)
    with pytest.raises(ValueError, match="unit-stride"):
        rms_norm.launch_norm(x, weight, 1e-6)
    with pytest.raises(ValueError, match="unit-stride"):
        rms_norm.launch_add_norm(x, torch.zeros(4, 8), weight, 1e-6)
    with pytest.raises(ValueError, match="other channels would be paired"):
        swiglu.launch(torch.zeros(4, 8), x)


def test_rotary_write_refuses_heads_apart_and_layouts_that_differ() -> None:
    heads, kv = torch.zeros(1, 3, 4, 8), torch.zeros(1, 3, 2, 8)
    angle, pages, weight = torch.zeros(1, 3, 8), torch.zeros(1, 2, 5, 8), torch.ones(8)
    ints = torch.full((1,), 3, dtype=torch.int32)
    rest = {"q_weight": weight, "k_weight": weight, "table": ints.view(1, 1) * 0, "lengths": ints, "eps": 1e-6}
    common = {"q": heads, "k": kv, "v": kv, "cos": angle, "sin": angle, "k_pages": pages, "v_pages": pages, **rest}
    apart = torch.zeros(1, 4, 3, 8).transpose(1, 2)
    with pytest.raises(ValueError, match="other channels would be rotated"):
        norm_rotate_write.launch(**common | {"q": apart})
    with pytest.raises(ValueError, match="laid out alike"):
        norm_rotate_write.launch(**common | {"v": torch.zeros(1, 3, 4, 8)[:, :, :2]})
    with pytest.raises(ValueError, match="laid out alike"):
        norm_rotate_write.launch(**common | {"v_pages": torch.zeros(1, 5, 2, 8).transpose(1, 2)})
