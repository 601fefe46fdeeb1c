"""How torch computes what the proof trusts: attention by another way than a fused one, convolutions as asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

EXPLICIT = "explicit_products"


def exact_convolutions() -> None:
    """Convolutions of float32 in float32, in this process: they round to tf32 unless told otherwise, and are then no
    reference for anything."""
    torch.backends.cudnn.allow_tf32 = False


def attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Causal attention of q [B, heads, T, D] over k, v [B, kv_heads, T, D], softmax in float32 at least ->
    [B, heads, T, D]; as Hugging Face's `eager` backend computes it."""
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = q @ k.transpose(2, 3) * scale
    future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
    upcast = torch.promote_types(q.dtype, torch.float32)
    return scores.masked_fill(future, -torch.inf).softmax(-1, dtype=upcast).to(q.dtype) @ v


def masked(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """The same through torch's function with the mask written out, which takes another of its backends."""
    past = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
    return F.scaled_dot_product_attention(q, k, v, attn_mask=past, scale=scale, enable_gqa=True)


@contextmanager
def explicit_products(decoder: Any) -> Iterator[None]:
    """While open, the layers of a Hugging Face decoder compute attention through `attention`."""
    from transformers import AttentionInterface

    def through(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Any, scaling: float, **_: Any) -> Any:
        return attention(q, k, v, scaling).transpose(1, 2).contiguous(), None

    AttentionInterface.register(EXPLICIT, through)
    configs = {id(layer.self_attn.config): layer.self_attn.config for layer in decoder.layers}
    before = {key: config._attn_implementation for key, config in configs.items()}
    for config in configs.values():
        config._attn_implementation = EXPLICIT
    try:
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation = before[key]
