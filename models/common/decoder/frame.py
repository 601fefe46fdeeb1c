"""The frame of every decoder-only model here: a residual stream through layers of attention and feed-forward blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from harness.errors import ConfigError, InputError
from models.common.cache.kv_cache import CacheShape, KVCache, LayerCache, Slots
from models.common.linear.eager import linear
from models.common.norms.eager import AddRMSNorm


class Layer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), each addition done by the norm after it."""

    def __init__(self, input_norm: AddRMSNorm, attention: nn.Module, post_norm: AddRMSNorm, mlp: nn.Module) -> None:
        super().__init__()
        self.input_norm, self.attention, self.post_norm, self.mlp = input_norm, attention, post_norm, mlp

    def forward(
        self, delta: Tensor | None, residual: Tensor, cos: Tensor, sin: Tensor, cache: LayerCache, slots: Slots
    ) -> tuple[Tensor, Tensor]:
        """The last sub-layer's output and the residual stream, both [B, T, H], in and out."""
        x, residual = self.input_norm(delta, residual)
        x, residual = self.post_norm(self.attention(x, cos, sin, cache, slots), residual)
        return self.mlp(x), residual


def call_positions(
    delta: Tensor | None, residual: Tensor, cos: Tensor, sin: Tensor, cache: LayerCache, slots: Slots
) -> Tensor:
    """[B, T] int64: where the tokens of a `Layer` that is called so stand in their rows."""
    return slots.positions()


class Sizes(Protocol):
    """What a model's geometry says of the frame."""

    @property
    def vocab(self) -> int: ...
    @property
    def hidden(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def kv_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def eps(self) -> float: ...
    @property
    def max_positions(self) -> int: ...
    @property
    def tied(self) -> bool: ...


class Decoder(nn.Module):
    """Embedding, layers, final norm and head over a cache. `rotary` makes (cos, sin) of positions, `cache_factory`
    empty caches in one of the layouts of `caches` and may be replaced; `max_positions` is what the model was trained
    for."""

    def __init__(
        self,
        embed: nn.Embedding,
        rotary: nn.Module,
        layers: Sequence[nn.Module],
        norm: AddRMSNorm,
        lm_head: nn.Linear,
        caches: CacheShape,
        max_positions: int,
    ) -> None:
        super().__init__()
        self.embed, self.rotary, self.layers = embed, rotary, nn.ModuleList(layers)
        self.norm, self.lm_head = norm, lm_head
        self.caches, self.max_positions, self.vocab = caches, max_positions, embed.num_embeddings
        self.cache_factory = caches.cumulative
        self.requires_grad_(False)

    def new_cache(self, batch: int, capacity: int, left_padding: Sequence[int] | None = None) -> KVCache:
        """An empty cache; row b begins with left_padding[b] tokens of padding. ConfigError past the known positions."""
        if capacity > self.max_positions:
            raise ConfigError(f"{capacity} tokens: the model knows positions up to {self.max_positions}")
        return self.cache_factory(batch, capacity, left_padding)

    def forward(self, tokens: Tensor, cache: KVCache, keep: int = 0) -> Tensor:
        """tokens [B, T] continue the cache; logits [B, T, vocab], or of the last `keep` tokens when keep > 0. Raises
        InputError on a prompt's token past the vocabulary and CacheFull where it does not fit, before anything runs."""
        check_tokens(tokens, self.vocab)
        slots = cache.extend(tokens.shape[1])
        return self.compute(tokens, slots, cache, keep)

    def compute(self, tokens: Tensor, slots: Slots, cache: KVCache, keep: int) -> Tensor:
        """The forward pass proper, for slots already claimed: tensors in, tensors out, nothing on the host."""
        cos, sin = self.rotary(slots.positions())
        delta: Tensor | None = None
        residual = self.embed(tokens)
        for layer, layer_cache in zip(self.layers, cache.layers, strict=True):
            delta, residual = layer(delta, residual, cos, sin, layer_cache, slots)
        x, _ = self.norm(delta if delta is None else delta[:, -keep:], residual[:, -keep:])
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


def check_tokens(tokens: Tensor, vocab: int) -> None:
    """Raises InputError naming a token of a prompt [B, T] that has no embedding. One token a row is a decode step and
    is not read, or every step would wait for the device."""
    if tokens.shape[1] == 1:
        return
    for token in torch.stack(tokens.aminmax()).tolist():
        if not 0 <= token < vocab:
            raise InputError(f"token {token} is not in the vocabulary of {vocab}: it has no embedding")


def embedding(vocab: int, hidden: int, dtype: torch.dtype, device: torch.device) -> nn.Embedding:
    """An embedding whose table is not yet set."""
    return nn.utils.skip_init(nn.Embedding, vocab, hidden, dtype=dtype, device=device)


def head(embed: nn.Embedding, tied: bool) -> nn.Linear:
    """The projection to the vocabulary, its matrix the embedding's own where they are tied."""
    table = embed.weight
    lm_head = linear(table.shape[1], table.shape[0], False, table.dtype, table.device)
    if tied:
        lm_head.weight = table
    return lm_head


def decoder(
    g: Sizes, rotary: nn.Module, layers: Sequence[nn.Module], dtype: torch.dtype, device: torch.device
) -> Decoder:
    """Return these layers between an embedding and a head of the sizes that `g` gives, parameters unset."""
    embed = embedding(g.vocab, g.hidden, dtype, device)
    norm = AddRMSNorm(g.hidden, g.eps, dtype, device)
    caches = CacheShape(g.layers, g.kv_heads, g.head_dim, dtype, device)
    return Decoder(embed, rotary, layers, norm, head(embed, g.tied), caches, g.max_positions)


def layer(g: Sizes, attention: nn.Module, mlp: nn.Module, dtype: torch.dtype, device: torch.device) -> Layer:
    """Return one layer around these blocks, parameters of its norms unset."""
    input_norm, post_norm = (AddRMSNorm(g.hidden, g.eps, dtype, device) for _ in range(2))
    return Layer(input_norm, attention, post_norm, mlp)
