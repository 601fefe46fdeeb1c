"""Qwen3-VL-2B-Instruct, eager. Reads top to bottom as the diagram of the model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harness.errors import ConfigError, InputError
from harness.spec import Features, HFConfig, ModelInputs
from models.common.kv_cache import KVCache, LayerCache, Slots
from models.common.linear import linear
from models.common.mlp import SplitGateUp, SwiGLU
from models.common.norms import AddRMSNorm
from models.qwen3_vl_2b.attention import Attention
from models.qwen3_vl_2b.config import Geometry, TextGeometry, geometry
from models.qwen3_vl_2b.fusion import Glimpse, Sight
from models.qwen3_vl_2b.kv_cache import growing
from models.qwen3_vl_2b.positions import places
from models.qwen3_vl_2b.rotary import AxisRotary
from models.qwen3_vl_2b.vision import Tower


class Layer(nn.Module):
    def __init__(self, g: TextGeometry, dtype: torch.dtype, device: torch.device) -> None:
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


class Qwen3VL(nn.Module):
    def __init__(self, g: Geometry, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.geometry = g
        text = g.text
        self.cache_factory = growing(text, dtype, device)
        self.tower = Tower(g.vision, dtype, device)
        self.embed = nn.utils.skip_init(nn.Embedding, text.vocab, text.hidden, dtype=dtype, device=device)
        self.rotary = AxisRotary(text, dtype, device)
        self.layers = nn.ModuleList([Layer(text, dtype, device) for _ in range(text.layers)])
        self.norm = AddRMSNorm(text.hidden, text.eps, dtype, device)
        self.lm_head = linear(text.hidden, text.vocab, False, dtype, device)
        if text.tied:
            self.lm_head.weight = self.embed.weight
        self.requires_grad_(False)

    def new_cache(self, batch: int, capacity: int, starts: Sequence[int] | None = None) -> KVCache:
        """An empty cache; row b's first starts[b] tokens are left padding."""
        most = self.geometry.text.max_positions
        if capacity > most:
            raise ConfigError(f"{capacity} tokens: the model knows positions up to {most}")
        return self.cache_factory(batch, capacity, starts)

    def see(self, inputs: ModelInputs) -> Features:
        """The vision tower on all images of the batch."""
        if inputs.pixels is None:
            raise InputError("there are no images to see: a prompt without any needs no features")
        return self.tower(inputs.pixels, [grid for row in inputs.grids for grid in row])

    def place(self, cache: KVCache, inputs: ModelInputs, features: Features | None) -> None:
        """Tell an empty cache where the tokens of a prompt with images stand, and what the images show. The prompt may
        then come whole or in chunks. Raises InputError where images and image tokens do not match."""
        if cache.length:
            raise InputError(f"the cache holds {cache.length} tokens already: their positions would change")
        found = places(inputs, cache.padding, self.geometry)
        cache.sight = Sight(found, features)
        cache.offsets.copy_(found.offsets)

    def positions(self, cache: KVCache) -> Tensor:
        """[3, B, prompt tokens] int64: where the prompt that `cache` was told of stands."""
        return cache.sight.positions(cache)

    def forward(self, tokens: Tensor, cache: KVCache, keep: int = 0) -> Tensor:
        """tokens [B, T] continue the cache; logits [B, T, vocab], or of the last `keep` tokens when keep > 0."""
        glimpse = self._glimpse(tokens, cache)
        slots = cache.extend(tokens.shape[1])
        return self.compute(tokens, slots, cache.layers, keep, glimpse)

    def _glimpse(self, tokens: Tensor, cache: KVCache) -> Glimpse | None:
        if cache.sight is not None:
            return cache.sight.glimpse(cache, tokens.shape[1])
        # One token is a decode step, which must not wait for the device.
        if tokens.shape[1] > 1 and bool(((tokens == self.geometry.image_token)).any()):
            raise InputError(
                f"the prompt holds image tokens ({self.geometry.image_token}) and no images were given: "
                "their embedding alone means nothing"
            )
        return None

    def compute(
        self, tokens: Tensor, slots: Slots, caches: list[LayerCache], keep: int, glimpse: Glimpse | None = None
    ) -> Tensor:
        """The forward pass proper, for slots already claimed: tensors in, tensors out, nothing on the host."""
        cos, sin = self._turns(slots, glimpse)
        delta, residual = None, self.embed(tokens)
        if glimpse is not None:
            residual = glimpse.embed(residual)
        for index, (layer, layer_cache) in enumerate(zip(self.layers, caches, strict=True)):
            delta, residual = layer(delta, residual, cos, sin, layer_cache, slots)
            if glimpse is not None and index < glimpse.deep:
                delta, residual = None, glimpse.deepen(residual + delta, index)
        if delta is not None:
            delta = delta[:, -keep:]
        x, _ = self.norm(delta, residual[:, -keep:])
        return self.lm_head(x)

    def _turns(self, slots: Slots, glimpse: Glimpse | None) -> tuple[Tensor, Tensor]:
        """cos, sin [B, T, head_dim]. Past the prompt all axes are equal, and one stands for three."""
        if glimpse is not None:
            return self.rotary.three(glimpse.positions)
        return self.rotary(slots.positions() + slots.offsets.long().unsqueeze(1))

    def layer(self, index: int, hidden: Tensor, cache: KVCache) -> Tensor:
        """Layer `index` alone on the residual stream `hidden` [B, T, H], at the start of an empty cache; deep features
        are added behind it, by `compute`."""
        positions = None if cache.sight is None else cache.sight.positions(cache)
        slots = cache.extend(hidden.shape[1])
        cos, sin = self._turns(slots, None) if positions is None else self.rotary.three(positions)
        delta, residual = self.layers[index](None, hidden, cos, sin, cache.layers[index], slots)
        return residual + delta

    def decode(self, tokens: Tensor, cache: KVCache) -> Tensor:
        """One token per row: tokens [B, 1] -> logits [B, vocab]."""
        return self(tokens, cache, keep=1)[:, -1]


def build(config: HFConfig, dtype: torch.dtype, device: torch.device) -> Qwen3VL:
    return Qwen3VL(geometry(config), dtype, device)
