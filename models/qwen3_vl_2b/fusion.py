"""What a prompt's images add to its hidden states, chunk by chunk."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.errors import InputError
from harness.spec.model_inputs import Features
from models.common.cache.kv_cache import KVCache
from models.qwen3_vl_2b.positions import Places


@dataclass(frozen=True)
class ImageChunk:
    """The part of a sight that falls into one call of T tokens, on the device."""

    positions: Tensor
    """[3, B, T] int64"""
    places: Tensor
    """[n] int64: flat places, row * T + token, of the call's image tokens."""
    parts: tuple[Tensor, ...]
    """Each [n, H]: the embeddings, then the deep features; none where the call holds no image token."""

    @property
    def deep(self) -> int:
        return max(0, len(self.parts) - 1)

    def embed(self, hidden: Tensor) -> Tensor:
        """hidden [B, T, H] with the image tokens' embeddings in their places."""
        if not self.parts:
            return hidden
        return hidden.flatten(0, 1).index_copy(0, self.places, self.parts[0]).view_as(hidden)

    def deepen(self, hidden: Tensor, index: int) -> Tensor:
        """hidden [B, T, H], after decoder layer `index`, with deep feature `index` added at the image tokens."""
        flat = hidden.flatten(0, 1)
        return flat.index_copy(0, self.places, flat[self.places] + self.parts[1 + index]).view_as(hidden)


class ImageContext:
    """Where a prompt's tokens stand and what its images show, for as long as its cache."""

    def __init__(self, places: Places, features: Features | None) -> None:
        shown = int(places.features.max()) + 1
        for name, rows in _named(features):
            if rows.shape[0] != shown:
                raise InputError(f"{rows.shape[0]} rows of {name} for {shown} image tokens: they would be misplaced")
        self.places, self.features = places, features

    def glimpse(self, cache: KVCache, tokens: int) -> ImageChunk | None:
        """What the next `tokens` tokens of `cache` need; None past the prompt, where positions follow from slots."""
        first, last = cache.length, cache.length + tokens
        if first >= self.places.features.shape[1]:
            return None
        device = cache.block_table.device
        features = self.places.features[:, first:last]
        positions = self.places.positions[:, :, first:last]
        if beyond := tokens - features.shape[1]:
            features = torch.nn.functional.pad(features, (0, beyond), value=-1)
            positions = torch.cat((positions, self._beyond(cache, last - beyond, last)), dim=2)
        flat = features.flatten()
        places = (flat >= 0).nonzero().flatten()
        if len(places) and self.features is None:
            raise InputError("this call reaches image tokens, and only their places are known: give their features too")
        rows = flat[places].to(device)
        parts = tuple(part[rows] for _, part in _named(self.features)) if len(places) else ()
        return ImageChunk(positions.to(device), places.to(device), parts)

    def positions(self, cache: KVCache) -> Tensor:
        """[3, B, prompt tokens] int64 on the cache's device."""
        return self.places.positions.to(cache.block_table.device)

    def _beyond(self, cache: KVCache, first: int, last: int) -> Tensor:
        """[3, B, last - first]: text after the prompt."""
        start = torch.tensor(cache.padding).unsqueeze(1)
        positions = torch.arange(first, last) - start + self.places.offsets.unsqueeze(1)
        return positions.expand(3, -1, -1)


def _named(features: Features | None) -> list[tuple[str, Tensor]]:
    if features is None:
        return []
    return [("embeddings", features.embeddings), *((f"deep feature {i}", f) for i, f in enumerate(features.deep))]
