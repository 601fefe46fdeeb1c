"""Qwen3-4B-Instruct-2507, eager. Reads top to bottom as the diagram of the model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harness.errors import ConfigError
from harness.spec import HFConfig
from models.common.kv_cache import KVCache, LayerCache, Slots
from models.common.linear import linear
from models.common.mlp import SplitGateUp, SwiGLU
from models.common.norms import AddRMSNorm
from models.qwen3_4b_instruct_2507.attention import Attention
from models.qwen3_4b_instruct_2507.config import Geometry, geometry
from models.qwen3_4b_instruct_2507.kv_cache import growing
from models.qwen3_4b_instruct_2507.rotary import rotary_table


class Layer(nn.Module):
    def __init__(self, g: Geometry, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.input_norm = AddRMSNorm(g.hidden, g.eps, dtype, device)
        self.attention = Attention(g, dtype, device)
        self.post_norm = AddRMSNorm(g.hidden, g.eps, dtype, device)
        self.mlp = SwiGLU(
            SplitGateUp(
                linear(g.hidden, g.intermediate, False, dtype, device),
                linear(g.hidden, g.intermediate, False, dtype, device),
            ),
            linear(g.intermediate, g.hidden, False, dtype, device),
        )

    def forward(
        self, delta: Tensor | None, residual: Tensor, cos: Tensor, sin: Tensor, cache: LayerCache, slots: Slots
    ) -> tuple[Tensor, Tensor]:
        """The last sub-layer's output and the residual stream, both [B, T, H], in and out."""
        x, residual = self.input_norm(delta, residual)
        x, residual = self.post_norm(self.attention(x, cos, sin, cache, slots), residual)
        return self.mlp(x), residual


class Qwen3(nn.Module):
    def __init__(self, g: Geometry, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.geometry = g
        self.cache_factory = growing(g, dtype, device)
        self.embed = nn.utils.skip_init(nn.Embedding, g.vocab, g.hidden, dtype=dtype, device=device)
        self.rotary = rotary_table(g, dtype, device)
        self.layers = nn.ModuleList([Layer(g, dtype, device) for _ in range(g.layers)])
        self.norm = AddRMSNorm(g.hidden, g.eps, dtype, device)
        self.lm_head = linear(g.hidden, g.vocab, False, dtype, device)
        if g.tied:
            self.lm_head.weight = self.embed.weight
        self.requires_grad_(False)

    def new_cache(self, batch: int, capacity: int, starts: Sequence[int] | None = None) -> KVCache:
        """An empty cache; row b's first starts[b] tokens are left padding."""
        if capacity > self.geometry.max_positions:
            raise ConfigError(f"{capacity} tokens: the model knows positions up to {self.geometry.max_positions}")
        return self.cache_factory(batch, capacity, starts)

    def forward(self, tokens: Tensor, cache: KVCache, keep: int = 0) -> Tensor:
        """tokens [B, T] continue the cache; logits [B, T, vocab], or of the last `keep` tokens when keep > 0."""
        slots = cache.extend(tokens.shape[1])
        return self.compute(tokens, slots, cache.layers, keep)

    def compute(self, tokens: Tensor, slots: Slots, caches: list[LayerCache], keep: int) -> Tensor:
        """The forward pass proper, for slots already claimed: tensors in, tensors out, nothing on the host."""
        cos, sin = self.rotary(slots.positions())
        delta, residual = None, self.embed(tokens)
        for layer, layer_cache in zip(self.layers, caches, strict=True):
            delta, residual = layer(delta, residual, cos, sin, layer_cache, slots)
        x, _ = self.norm(delta[:, -keep:], residual[:, -keep:])
        return self.lm_head(x)

    def layer(self, index: int, hidden: Tensor, cache: KVCache) -> Tensor:
        """Layer `index` alone on the residual stream `hidden` [B, T, H], at the start of an empty cache."""
        slots = cache.extend(hidden.shape[1])
        cos, sin = self.rotary(slots.positions())
        delta, residual = self.layers[index](None, hidden, cos, sin, cache.layers[index], slots)
        return residual + delta

    def decode(self, tokens: Tensor, cache: KVCache) -> Tensor:
        """One token per row: tokens [B, 1] -> logits [B, vocab]."""
        return self(tokens, cache, keep=1)[:, -1]


def build(config: HFConfig, dtype: torch.dtype, device: torch.device) -> Qwen3:
    return Qwen3(geometry(config), dtype, device)
