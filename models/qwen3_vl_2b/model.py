"""Qwen3-VL-2B-Instruct, eager. Reads top to bottom as the diagram of the model."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.errors import InputError
from harness.spec.hf_config import HFConfig
from harness.spec.model_inputs import Features, ModelInputs
from models.common.attention.build import unbiased_attention
from models.common.cache.kv_cache import CacheShape, KVCache, Slots
from models.common.decoder.frame import Decoder, Layer, check_tokens, embedding, head
from models.common.decoder.frame import layer as frame_layer
from models.common.linear.eager import gated_block
from models.common.norms.eager import AddRMSNorm
from models.qwen3_vl_2b.config import Geometry, TextGeometry, geometry
from models.qwen3_vl_2b.fusion import ImageChunk, ImageContext
from models.qwen3_vl_2b.positions import places
from models.qwen3_vl_2b.rotary import AxisRotary
from models.qwen3_vl_2b.vision import Tower


def dense_layer(g: TextGeometry, dtype: torch.dtype, device: torch.device) -> Layer:
    attention = unbiased_attention(g.hidden, g.heads, g.kv_heads, g.head_dim, g.eps, dtype, device)
    return frame_layer(g, attention, gated_block(g.hidden, g.intermediate, dtype, device), dtype, device)


class Qwen3VL(Decoder):
    """A decoder whose prompts may hold images. What a prompt shows is told to its cache once; tokens then come as they
    do to any decoder, whole, in chunks or one by one."""

    def __init__(self, g: Geometry, dtype: torch.dtype, device: torch.device) -> None:
        text = g.text
        embed = embedding(text.vocab, text.hidden, dtype, device)
        super().__init__(
            embed,
            AxisRotary(text, dtype, device),
            [dense_layer(text, dtype, device) for _ in range(text.layers)],
            AddRMSNorm(text.hidden, text.eps, dtype, device),
            head(embed, text.tied),
            CacheShape(text.layers, text.kv_heads, text.head_dim, dtype, device),
            text.max_positions,
        )
        self.geometry = g
        self.tower = Tower(g.vision, dtype, device).requires_grad_(False)

    def see(self, inputs: ModelInputs) -> Features:
        """The vision tower on all images of the batch."""
        if inputs.pixels is None:
            raise InputError("there are no images to see: a prompt without any needs no features")
        return self.tower(inputs.pixels, [grid for row in inputs.grids for grid in row])

    def place(self, cache: KVCache, inputs: ModelInputs, features: Features | None) -> None:
        """Tell a cache where the tokens of a prompt with images stand, and what the images show; what it holds already
        is the prompt's beginning. The rest may then come whole or in chunks. Raises InputError where images and image
        tokens do not match."""
        if cache.length >= inputs.tokens.shape[1]:
            raise InputError(f"the cache holds {cache.length} tokens: nothing of this prompt is left to come")
        found = places(inputs, cache.padding, self.geometry)
        cache.sight = ImageContext(found, features)
        cache.offsets.copy_(found.offsets)

    def positions(self, cache: KVCache) -> Tensor:
        """[3, B, prompt tokens] int64: where the prompt that `cache` was told of stands."""
        return cache.sight.positions(cache)

    def forward(self, tokens: Tensor, cache: KVCache, keep: int = 0) -> Tensor:
        """As Decoder.forward; what the cache was told of a prompt's images joins its tokens. Raises InputError where
        image tokens come and nothing is known of their images."""
        check_tokens(tokens, self.vocab)
        glimpse = self._glimpse(tokens, cache)
        slots = cache.extend(tokens.shape[1])
        return self.compute(tokens, slots, cache, keep, glimpse)

    def _glimpse(self, tokens: Tensor, cache: KVCache) -> ImageChunk | None:
        if cache.sight is not None:
            return cache.sight.glimpse(cache, tokens.shape[1])
        # One token is a decode step, which must not wait for the device.
        if tokens.shape[1] > 1 and bool((tokens == self.geometry.image_token).any()):
            raise InputError(
                f"the prompt holds image tokens ({self.geometry.image_token}) and no images were given: "
                "their embedding alone means nothing"
            )
        return None

    def compute(
        self, tokens: Tensor, slots: Slots, cache: KVCache, keep: int, glimpse: ImageChunk | None = None
    ) -> Tensor:
        """The forward pass proper, for slots already claimed: tensors in, tensors out, nothing on the host."""
        cos, sin = self._turns(slots, glimpse)
        delta, residual = None, self.embed(tokens)
        if glimpse is not None:
            residual = glimpse.embed(residual)
        for index, (layer, layer_cache) in enumerate(zip(self.layers, cache.layers, strict=True)):
            delta, residual = layer(delta, residual, cos, sin, layer_cache, slots)
            if glimpse is not None and index < glimpse.deep:
                delta, residual = None, glimpse.deepen(residual + delta, index)
        if delta is not None:
            delta = delta[:, -keep:]
        x, _ = self.norm(delta, residual[:, -keep:])
        return self.lm_head(x)

    def _turns(self, slots: Slots, glimpse: ImageChunk | None) -> tuple[Tensor, Tensor]:
        """cos, sin [B, T, head_dim]. Past the prompt all axes are equal, and one stands for three."""
        if glimpse is not None:
            return self.rotary(glimpse.positions)
        return self.rotary(slots.positions() + slots.offsets.long().unsqueeze(1))

    def layer(self, index: int, hidden: Tensor, cache: KVCache) -> Tensor:
        """Layer `index` alone on the residual stream `hidden` [B, T, H], at the start of an empty cache; deep features
        are added behind it, by `compute`."""
        positions = None if cache.sight is None else cache.sight.positions(cache)
        slots = cache.extend(hidden.shape[1])
        cos, sin = self._turns(slots, None) if positions is None else self.rotary(positions)
        delta, residual = self.layers[index](None, hidden, cos, sin, cache.layers[index], slots)
        return residual + delta


def build(config: HFConfig, dtype: torch.dtype, device: torch.device) -> Qwen3VL:
    return Qwen3VL(geometry(config), dtype, device)
