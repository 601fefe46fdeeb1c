"""Prefill attention: judged in the interpreter, compiled for sm_90, and refusing what it cannot do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from models.common.attention import prefill_attention
from models.common.attention.prefill_attention import PrefillShape, default_shape

KERNEL = "models.common.attention.prefill_attention_cases:PREFILL_ATTENTION"
FINER = "models.common.attention.tests.finer_attention:FINER_PREFILL"


def test_every_menu_entry_passes_in_float32(judge_kernels: Callable[..., Any]) -> None:
    found = judge_kernels("interpret", "float32", KERNEL, FINER)
    assert found == {"prefill_attention": [], "finer prefill_attention": []}


def test_every_menu_entry_passes_in_float16(judge_kernels: Callable[..., Any]) -> None:
    assert judge_kernels("interpret", "float16", KERNEL) == {"prefill_attention": []}


def test_it_compiles_for_the_tensor_cores_of_sm_90_in_bfloat16(judge_kernels: Callable[..., Any]) -> None:
    built = judge_kernels("compile", "bfloat16", KERNEL)
    assert {label.split("/")[0] for label in built} == {"prefill_attention"}
    assert all(label.endswith(", wgmma") for label in built)


def test_blocks_of_keys_divide_the_page_unless_a_row_is_one_page() -> None:
    assert default_shape(page_tokens=1000, columns=1, element_size=2).block_n == 64
    assert default_shape(page_tokens=48, columns=3, element_size=2).block_n == 16
    assert default_shape(page_tokens=256, columns=3, element_size=2).block_n == 64


def paged(page_tokens: int) -> dict[str, Any]:
    pages = torch.zeros(4, 1, page_tokens, 128)
    ints = torch.full((1,), 8, dtype=torch.int32)
    inputs = {"k_pages": pages, "v_pages": pages, "block_table": torch.zeros(1, 4, dtype=torch.int32)}
    return {"q": torch.zeros(1, 8, 2, 128), **inputs, "left_padding": ints * 0, "seq_lens": ints, "scale": 1.0}


def test_prefill_refuses_blocks_across_pages_and_pages_too_small_for_one() -> None:
    with pytest.raises(ValueError, match="blocks of 32 keys would cross pages of 48"):
        prefill_attention.launch(**paged(48), shape=PrefillShape(64, 32, 4, 2))
    with pytest.raises(ValueError, match="pages of 24 tokens: no block of 16 keys"):
        prefill_attention.launch(**paged(24))
    with pytest.raises(ValueError, match="values would be misread"):
        prefill_attention.launch(**paged(16) | {"v_pages": torch.zeros(4, 16, 1, 128).transpose(1, 2)})
