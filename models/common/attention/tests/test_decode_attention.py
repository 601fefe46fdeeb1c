"""Decode attention: judged in the interpreter, compiled for sm_90, and refusing what it cannot do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from models.common.attention.decode_attention import AttentionShape, decode_attention, default_shape

KERNEL = "models.common.attention.decode_attention_cases:DECODE_ATTENTION"
SPLIT = "models.common.attention.tests.finer_attention:SPLIT_DECODE"


def test_every_menu_entry_passes_in_float32(judge_kernels: Callable[..., Any]) -> None:
    found = judge_kernels("interpret", "float32", KERNEL, SPLIT)
    split = {f"decode_attention split {splits}": [] for splits in (1, 2, 7)}
    assert found == {"decode_attention": [], **split}


def test_every_menu_entry_passes_in_float16(judge_kernels: Callable[..., Any]) -> None:
    assert judge_kernels("interpret", "float16", KERNEL) == {"decode_attention": []}


def test_it_compiles_for_sm_90_in_bfloat16(judge_kernels: Callable[..., Any]) -> None:
    assert {label.split("/")[0] for label in judge_kernels("compile", "bfloat16", KERNEL)} == {"decode_attention"}


def test_blocks_divide_pages_and_short_capacities_are_spread() -> None:
    assert default_shape(1, 8, 48, 48 * 10, 2).block_n == 16
    assert default_shape(1, 8, 1024, 1024, 2).splits == 8
    assert default_shape(1, 8, 32768, 32768, 2).splits == 16
    assert default_shape(128, 8, 1024, 1024, 2).splits == 1


def test_it_refuses_blocks_across_pages_and_several_tokens() -> None:
    pages = torch.zeros(2, 1, 24, 128)
    ints = torch.ones(1, dtype=torch.int32)
    common = {
        "k_pages": pages,
        "v_pages": pages,
        "block_table": torch.zeros(1, 2),
        "left_padding": ints,
        "seq_lens": ints,
    }
    with pytest.raises(ValueError, match="cross pages"):
        decode_attention(torch.zeros(1, 1, 4, 128), **common, scale=1.0, shape=AttentionShape(16, 4, 2, 1))
    with pytest.raises(ValueError, match="no causal mask"):
        decode_attention(torch.zeros(1, 2, 4, 128), **common, scale=1.0)
    with pytest.raises(ValueError, match="do not fit"):
        decode_attention(torch.zeros(1, 1, 17, 128), **common, scale=1.0)
