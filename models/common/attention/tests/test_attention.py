"""Attention over a cache: eager as Hugging Face has it, and fused modules beside the eager ones."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.qwen3.modeling_qwen3 import eager_attention_forward

from models.common.attention.eager import Attend, paged_attention
from models.common.cache.kv_cache import GrowingCache, query_slots, visible
from models.tests.drawn import drawn

CPU = torch.device("cpu")
HEADS, KV_HEADS, SIZE, TOKENS = 8, 2, 64, 19
NOISE = 2e-6
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)


@pytest.fixture(scope="module")
def errors(judge_modules: Callable[..., dict[str, float]]) -> dict[str, float]:
    return judge_modules("models.common.attention.tests.fused_attention:comparisons")


def qkv(dtype: torch.dtype, left_padding: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """q [B, T, heads, D], k and v [B, kv_heads, T, D], left_padding [B], and seq_lens [B] of a prompt without past."""
    batch = len(left_padding)
    q = drawn(batch, TOKENS, HEADS, SIZE, dtype=dtype)
    k, v = (drawn(batch, KV_HEADS, TOKENS, SIZE, dtype=dtype, seed=seed) for seed in (1, 2))
    return q, k, v, torch.tensor(left_padding, dtype=torch.int32), torch.full((batch,), TOKENS, dtype=torch.int32)


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
@pytest.mark.parametrize("left_padding", [(0,), (0, 11)], ids=str)
def test_paged_attention_is_no_further_from_float64_than_hugging_faces_eager(
    dtype: torch.dtype, left_padding: tuple[int, ...]
) -> None:
    q, k, v, first, seq_lens = qkv(dtype, left_padding)
    seen = visible(first, query_slots(seq_lens, TOKENS), TOKENS)
    exact = in_float64(q, k, v, seen)
    block_table = torch.arange(len(left_padding), dtype=torch.int32).unsqueeze(1)
    twin = paged_attention(q, k, v, block_table, first, seq_lens, SIZE**-0.5)["out"]
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


@pytest.mark.parametrize("layout", ["growing 128", "static 128", "paged 128", "paged 64"])
@pytest.mark.parametrize("rows", ["full", "padded"])
def test_fused_modules_agree_call_after_call(errors: dict[str, float], layout: str, rows: str) -> None:
    found = {name: error for name, error in errors.items() if name.startswith(f"{layout} {rows}")}
    assert len(found) == 7
    assert {name: error for name, error in found.items() if error > NOISE} == {}
    assert found[f"{layout} {rows} values"] == 0
