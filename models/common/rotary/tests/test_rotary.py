"""Rotation, QK-norm and cache write: eager as Hugging Face has it, the kernels and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import Glm4MoeConfig, Qwen3Config
from transformers.models.glm4_moe.modeling_glm4_moe import Glm4MoeRotaryEmbedding
from transformers.models.glm4_moe.modeling_glm4_moe import apply_rotary_pos_emb as glm_rotate
from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding, apply_rotary_pos_emb

from models.common.attention.eager import NormRotateWrite
from models.common.norms.eager import RMSNorm
from models.common.rotary import norm_rotate_write
from models.common.rotary.eager import RotaryTable, rotate
from models.common.rotary.fused import FusedRotateWrite
from models.tests.drawn import drawn

CPU = torch.device("cpu")
CASES = "models.common.rotary.norm_rotate_write_cases"
KERNELS = (f"{CASES}:NORM_ROTATE_WRITE", f"{CASES}:ROTATE_WRITE")
NAMES = {"norm_rotate_write", "rotate_write"}
HEADS, KV_HEADS, SIZE, TOKENS = 8, 2, 64, 19
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)


@DTYPES
@pytest.mark.parametrize("theta", [5e6, 1e7])
def test_rotary_bit_for_bit(dtype: torch.dtype, theta: float) -> None:
    rope = {"rope_type": "default", "rope_theta": theta}
    config = Qwen3Config(head_dim=SIZE, rope_parameters=rope, num_attention_heads=HEADS, hidden_size=256)
    positions = torch.stack((torch.arange(TOKENS), torch.arange(TOKENS) + 40_000))
    q, k = drawn(2, TOKENS, HEADS, SIZE, dtype=dtype), drawn(2, TOKENS, KV_HEADS, SIZE, dtype=dtype, seed=1)
    cos, sin = RotaryTable(theta, SIZE, dtype, CPU)(positions)
    their_cos, their_sin = Qwen3RotaryEmbedding(config)(q, positions)
    assert torch.equal(cos, their_cos)
    assert torch.equal(sin, their_sin)
    their_q, their_k = apply_rotary_pos_emb(q.transpose(1, 2), k.transpose(1, 2), cos, sin)
    assert torch.equal(rotate(q, cos, sin), their_q.transpose(1, 2))
    assert torch.equal(rotate(k, cos, sin), their_k.transpose(1, 2))


@DTYPES
def test_half_width_rotary_bit_for_bit_and_passes_the_rest(dtype: torch.dtype) -> None:
    rope = {"rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": 0.5}
    config = Glm4MoeConfig(head_dim=SIZE, rope_parameters=rope, num_attention_heads=HEADS, hidden_size=256)
    positions = torch.arange(TOKENS).unsqueeze(0) + 1000
    q = drawn(1, TOKENS, HEADS, SIZE, dtype=dtype)
    cos, sin = RotaryTable(1e6, SIZE // 2, dtype, CPU)(positions)
    their_cos, their_sin = Glm4MoeRotaryEmbedding(config)(q, positions)
    assert torch.equal(cos, their_cos)
    assert torch.equal(sin, their_sin)
    turned = rotate(q, cos, sin)
    assert torch.equal(turned, glm_rotate(q.transpose(1, 2), q.transpose(1, 2), cos, sin)[0].transpose(1, 2))
    assert torch.equal(turned[..., SIZE // 2 :], q[..., SIZE // 2 :])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_menu_entry_passes(dtype: str, judge_kernels: Callable[..., Any]) -> None:
    assert judge_kernels("interpret", dtype, *KERNELS) == {name: [] for name in NAMES}


def test_all_compile_for_sm_90_in_bfloat16(judge_kernels: Callable[..., Any]) -> None:
    assert {label.split("/")[0] for label in judge_kernels("compile", "bfloat16", *KERNELS)} == NAMES


def test_the_kernel_refuses_heads_apart_and_layouts_that_differ() -> None:
    heads, kv = torch.zeros(1, 3, 4, 8), torch.zeros(1, 3, 2, 8)
    angle, pages, weight = torch.zeros(1, 3, 8), torch.zeros(1, 2, 5, 8), torch.ones(8)
    ints = torch.full((1,), 3, dtype=torch.int32)
    rest = {"q_weight": weight, "k_weight": weight, "block_table": ints.view(1, 1) * 0, "seq_lens": ints, "eps": 1e-6}
    common = {"q": heads, "k": kv, "v": kv, "cos": angle, "sin": angle, "k_pages": pages, "v_pages": pages, **rest}
    apart = torch.zeros(1, 4, 3, 8).transpose(1, 2)
    with pytest.raises(ValueError, match="other channels would be rotated"):
        norm_rotate_write.launch(**common | {"q": apart})
    with pytest.raises(ValueError, match="laid out alike"):
        norm_rotate_write.launch(**common | {"v": torch.zeros(1, 3, 4, 8)[:, :, :2]})
    with pytest.raises(ValueError, match="laid out alike"):
        norm_rotate_write.launch(**common | {"v_pages": torch.zeros(1, 5, 2, 8).transpose(1, 2)})


def test_a_norm_is_not_lost_to_the_kernel_without_one() -> None:
    norm = RMSNorm(8, 1e-6, torch.float32, CPU)
    with pytest.raises(ValueError, match="its norms would be lost"):
        FusedRotateWrite(NormRotateWrite(torch.nn.Identity(), norm))
