"""The eager twins are Hugging Face's own functions: bit for bit where the order of operations is the same, and no
further from float64 than they are where it is not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from transformers import Glm4MoeConfig, Qwen3Config
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.glm4_moe.modeling_glm4_moe import Glm4MoeRotaryEmbedding
from transformers.models.glm4_moe.modeling_glm4_moe import apply_rotary_pos_emb as glm_rotate
from transformers.models.qwen3.modeling_qwen3 import (
    Qwen3MLP,
    Qwen3RMSNorm,
    Qwen3RotaryEmbedding,
    apply_rotary_pos_emb,
    eager_attention_forward,
)

from models.common.attention.eager import Attend, paged_attention
from models.common.cache.kv_cache import GrowingCache, query_slots, visible
from models.common.mlp.eager import SplitGateUp, SwiGLU, swiglu
from models.common.norms.eager import AddRMSNorm, RMSNorm, add_norm, norm
from models.common.rotary.eager import RotaryTable, rotate

CPU = torch.device("cpu")
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
HEADS, KV_HEADS, SIZE, TOKENS = 8, 2, 64, 19


def drawn(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


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


@DTYPES
@torch.no_grad()
def test_gated_block_bit_for_bit(dtype: torch.dtype) -> None:
    theirs = Qwen3MLP(SimpleNamespace(hidden_size=96, intermediate_size=160, hidden_act="silu")).to(dtype)
    x = drawn(2, 5, 96, dtype=dtype)
    gate, up = theirs.gate_proj(x), theirs.up_proj(x)
    assert torch.equal(swiglu(gate, up)["out"], theirs.act_fn(gate) * up)
    assert torch.equal(SwiGLU(SplitGateUp(theirs.gate_proj, theirs.up_proj), theirs.down_proj)(x), theirs(x))


def qkv(dtype: torch.dtype, starts: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """q [B, T, heads, D], k and v [B, kv_heads, T, D], starts [B], and lengths [B] of a prompt without past."""
    batch = len(starts)
    q = drawn(batch, TOKENS, HEADS, SIZE, dtype=dtype)
    k, v = (drawn(batch, KV_HEADS, TOKENS, SIZE, dtype=dtype, seed=seed) for seed in (1, 2))
    return q, k, v, torch.tensor(starts, dtype=torch.int32), torch.full((batch,), TOKENS, dtype=torch.int32)


@DTYPES
def test_attention_without_padding_is_hugging_faces_sdpa_bit_for_bit(dtype: torch.dtype) -> None:
    q, k, v, _, _ = qkv(dtype, (0, 0))
    module = SimpleNamespace(num_key_value_groups=HEADS // KV_HEADS, is_causal=True)
    theirs, _ = sdpa_attention_forward(module, q.transpose(1, 2), k, v, None, scaling=SIZE**-0.5)
    cache = GrowingCache(1, KV_HEADS, SIZE, 2, TOKENS, dtype, CPU)
    slots = cache.extend(TOKENS)
    cache.layers[0].write(k.transpose(1, 2), v.transpose(1, 2), slots)
    assert torch.equal(Attend(SIZE**-0.5)(q, cache.layers[0], slots), theirs)


@DTYPES
@pytest.mark.parametrize("starts", [(0,), (0, 11)], ids=str)
def test_paged_attention_is_no_further_from_float64_than_hugging_faces_eager(
    dtype: torch.dtype, starts: tuple[int, ...]
) -> None:
    q, k, v, first, lengths = qkv(dtype, starts)
    seen = visible(first, query_slots(lengths, TOKENS), TOKENS)
    exact = in_float64(q, k, v, seen)
    table = torch.arange(len(starts), dtype=torch.int32).unsqueeze(1)
    twin = paged_attention(q, k, v, table, first, lengths, SIZE**-0.5)["out"]
    noise = (eager(q, k, v, seen).double() - exact).abs().max()
    assert (twin.double() - exact).abs().max() <= 2 * noise
    assert (in_float64(q, k, v, torch.ones_like(seen)) - exact).abs().max() > 100 * noise


def eager(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
    """Hugging Face's eager attention, its mask made from what each query sees."""
    module = SimpleNamespace(num_key_value_groups=HEADS // KV_HEADS, training=False)
    mask = torch.zeros(seen.shape, dtype=q.dtype).masked_fill(~seen, torch.finfo(q.dtype).min)
    return eager_attention_forward(module, q.transpose(1, 2), k, v, mask, SIZE**-0.5)[0]


def in_float64(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
    """The definition, written out: Hugging Face's softmax is float32 whatever its input."""
    keys, values = (x.double().repeat_interleave(HEADS // KV_HEADS, 1) for x in (k, v))
    scores = q.double().transpose(1, 2) @ keys.mT * SIZE**-0.5
    return (scores.masked_fill(~seen, -torch.inf).softmax(-1) @ values).transpose(1, 2)
