"""Causal grouped-query attention over cached keys: the eager twin of the attention kernels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from harness.spec.model import Attending
from harness.spec.runtime import AttentionInputs
from models.common.cache.kv_cache import LayerCache, Slots, gather, locate, query_slots, visible
from models.common.norms.eager import RMSNorm, rms_norm
from models.common.rotary.eager import rotate


def attend(q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, causal: bool, scale: float) -> Tensor:
    """q [B, T, heads, D], keys and values [B, kv_heads, S, D] -> [B, T, heads, D]."""
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2), keys, values, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=True
    )
    return out.transpose(1, 2)


def paged_attention(
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    block_table: Tensor,
    left_padding: Tensor,
    seq_lens: Tensor,
    scale: float,
) -> dict[str, Tensor]:
    """q [B, T, heads, D] against pages [P, kv_heads, page_tokens, D] through block_table [B, M] -> {"out": like q}."""
    max_len = min(int(seq_lens.max()), block_table.shape[1] * k_pages.shape[2])
    keys, values = gather(k_pages, block_table, max_len), gather(v_pages, block_table, max_len)
    mask = visible(left_padding, query_slots(seq_lens, q.shape[1]), max_len)
    groups = q.shape[2] // keys.shape[1]
    keys, values = keys.repeat_interleave(groups, 1), values.repeat_interleave(groups, 1)
    # Slots that no query sees hold whatever was there before; a masked NaN would still poison the sum.
    used = mask.any(2).unsqueeze(-1)
    out = attend(q, keys.where(used, 0), values.where(used, 0), mask, False, scale)
    return {"out": out}


def rotate_write(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cos: Tensor,
    sin: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    block_table: Tensor,
    seq_lens: Tensor,
) -> dict[str, Tensor]:
    """Rotation of q [B, T, heads, D] and k [B, T, kv_heads, D] by cos, sin [B, T, R], and k, v written to slots
    seq_lens - T ... seq_lens - 1 of the pages. Returns {"q", "k_pages", "v_pages"}, the pages in place."""
    tokens = q.shape[1]
    pages, offsets = locate(block_table, query_slots(seq_lens, tokens), k_pages.shape[2])
    k_pages[pages, :, offsets] = rotate(k, cos, sin)
    v_pages[pages, :, offsets] = v
    return {"q": rotate(q, cos, sin), "k_pages": k_pages, "v_pages": v_pages}


def norm_rotate_write(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    cos: Tensor,
    sin: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    block_table: Tensor,
    seq_lens: Tensor,
    eps: float,
) -> dict[str, Tensor]:
    """Per-head norm of q [B, T, heads, D] and k [B, T, kv_heads, D], and rotate_write of them."""
    normed_q, normed_k = rms_norm(q, q_weight, eps), rms_norm(k, k_weight, eps)
    return rotate_write(normed_q, normed_k, v, cos, sin, k_pages, v_pages, block_table, seq_lens)


def decode_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    cos: Tensor,
    sin: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    block_table: Tensor,
    left_padding: Tensor,
    seq_lens: Tensor,
    eps: float,
    scale: float,
) -> dict[str, Tensor]:
    """norm_rotate_write and paged_attention after it: {"out": like q, "k_pages", "v_pages"}, the pages in place."""
    done = norm_rotate_write(q, k, v, q_weight, k_weight, cos, sin, k_pages, v_pages, block_table, seq_lens, eps)
    out = paged_attention(done["q"], k_pages, v_pages, block_table, left_padding, seq_lens, scale)["out"]
    return {"out": out, "k_pages": k_pages, "v_pages": v_pages}


def attention_inputs(q: Tensor, cache: LayerCache, slots: Slots) -> AttentionInputs:
    """What `Attend`, called so, and what may take its place attend to."""
    keys, values = cache.read(slots)
    return AttentionInputs(q, keys.transpose(1, 2), values.transpose(1, 2))


ATTENDING = Attending("attention.attend", attention_inputs)
"""Of a decoder layer whose attention is an `Attention`."""


class NormRotateWrite(nn.Module):
    """QK-norm, rotation, and the write of the new keys and values into the cache. A model that norms no head passes
    identities."""

    def __init__(self, q_norm: nn.Module, k_norm: nn.Module) -> None:
        super().__init__()
        self.q_norm, self.k_norm = q_norm, k_norm

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, cache: LayerCache, slots: Slots
    ) -> Tensor:
        """q [B, T, heads, D] -> the same, normalized and rotated; k, v [B, T, kv_heads, D] go into the cache."""
        cache.write(rotate(self.k_norm(k), cos, sin), v, slots)
        return rotate(self.q_norm(q), cos, sin)


def rms_norms(eager: NormRotateWrite) -> tuple[RMSNorm, RMSNorm]:
    """The norms of queries and of keys. Raises TypeError for a model whose heads are normed otherwise or not at all."""
    q_norm, k_norm = eager.q_norm, eager.k_norm
    if not isinstance(q_norm, RMSNorm) or not isinstance(k_norm, RMSNorm):
        raise TypeError(f"this kernel norms heads as RMSNorm does, and the model has a {type(q_norm).__name__}")
    return q_norm, k_norm


class Attention(nn.Module):
    """Projections, what happens to heads before they meet the cache, attention over the cache, output projection."""

    def __init__(self, qkv: nn.Module, rotary: NormRotateWrite, attend: Attend, o_proj: nn.Module) -> None:
        super().__init__()
        self.qkv, self.rotary, self.attend, self.o_proj = qkv, rotary, attend, o_proj

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: LayerCache, slots: Slots) -> Tensor:
        """x [B, T, H] -> [B, T, H]; the keys and values of x go into the cache first."""
        q, k, v = self.qkv(x)
        return self.o_proj(self.mix(q, k, v, cos, sin, cache, slots).flatten(2))

    def mix(self, q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, cache: LayerCache, slots: Slots) -> Tensor:
        """q [B, T, heads, D], k and v [B, T, kv_heads, D] -> [B, T, heads, D]."""
        return self.attend(self.rotary(q, k, v, cos, sin, cache, slots), cache, slots)


class Attend(nn.Module):
    """Attention of one call's queries over the cache, through torch's scaled_dot_product_attention."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, q: Tensor, cache: LayerCache, slots: Slots) -> Tensor:
        """q [B, T, heads, D] -> [B, T, heads, D]."""
        keys, values = cache.read(slots)
        if not slots.masked and slots.tokens in (1, slots.max_len):
            return attend(q, keys, values, None, slots.tokens > 1, self.scale)
        return attend(q, keys, values, slots.visible, False, self.scale)
