"""Qwen2 in torch alone: a module with its own cache and what `harness.spec.runtime.CausalLM` asks for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.errors import CacheFull, ConfigError, InputError
from harness.spec.hf_config import HFConfig


class Cache:
    """Keys and values [layers, B, kv_heads, capacity, head_dim], reserved at once."""

    def __init__(
        self, shape: tuple[int, ...], left_padding: Sequence[int], dtype: torch.dtype, device: torch.device
    ) -> None:
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)
        self.left_padding = torch.tensor(left_padding, device=device).unsqueeze(1)
        self.capacity, self.length = shape[3], 0

    def rewind(self, length: int) -> None:
        self.length = length

    def claim(self, tokens: int) -> Tensor:
        """[tokens] int64: the next slots of every row. Raises CacheFull where they do not fit."""
        if self.length + tokens > self.capacity:
            raise CacheFull(f"{self.length} + {tokens} tokens do not fit into a cache of {self.capacity}")
        self.length += tokens
        return torch.arange(self.length - tokens, self.length, device=self.keys.device)

    def visible(self, slots: Tensor) -> Tensor:
        """[B, 1, tokens, length] bool: a query sees its row's text up to itself, and padding itself alone."""
        keys = torch.arange(self.length, device=slots.device)
        first = torch.minimum(self.left_padding, slots).unsqueeze(-1)
        return ((keys >= first) & (keys <= slots.unsqueeze(-1))).unsqueeze(1)


class Norm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.empty(size)), eps

    def forward(self, x: Tensor) -> Tensor:
        upcast = x.float()
        return self.weight * (upcast * torch.rsqrt(upcast.pow(2).mean(-1, keepdim=True) + self.eps)).to(x.dtype)


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [B, heads, T, D] rotated by cos, sin [B, T, D]."""
    low, high = x.chunk(2, -1)
    return x * cos.unsqueeze(1) + torch.cat((-high, low), -1) * sin.unsqueeze(1)


class Block(nn.Module):
    def __init__(self, config: HFConfig) -> None:
        super().__init__()
        hidden, inner, eps = config["hidden_size"], config["intermediate_size"], config["rms_norm_eps"]
        self.heads, self.kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self.head_dim = hidden // self.heads
        self.before, self.between = Norm(hidden, eps), Norm(hidden, eps)
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, self.kv_heads * self.head_dim)
        self.value = nn.Linear(hidden, self.kv_heads * self.head_dim)
        self.out = nn.Linear(hidden, hidden, bias=False)
        self.gate = nn.Linear(hidden, inner, bias=False)
        self.up = nn.Linear(hidden, inner, bias=False)
        self.down = nn.Linear(inner, hidden, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: Cache, index: int, slots: Tensor) -> Tensor:
        """x [B, T, hidden] in the slots [T] of the cache's layer `index` -> the same after the block."""
        normed = self.before(x)
        q, k, v = (part(normed).unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for part in self.parts())
        keys, values = cache.keys[index, :, :, : cache.length], cache.values[index, :, :, : cache.length]
        keys[:, :, slots], values[:, :, slots] = turned(k, cos, sin), v
        seen = cache.visible(slots)
        mixed = F.scaled_dot_product_attention(turned(q, cos, sin), keys, values, attn_mask=seen, enable_gqa=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        normed = self.between(x)
        return x + self.down(F.silu(self.gate(normed)) * self.up(normed))

    def parts(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        return self.query, self.key, self.value


class PlainQwen2(nn.Module):
    def __init__(self, config: HFConfig) -> None:
        super().__init__()
        self.config, self.max_positions = config, config["max_position_embeddings"]
        self.table = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.layers = nn.ModuleList([Block(config) for _ in range(config["num_hidden_layers"])])
        self.last_norm = Norm(config["hidden_size"], config["rms_norm_eps"])
        self.head = nn.Linear(config["hidden_size"], config["vocab_size"], bias=False)

    def new_cache(self, batch: int, capacity: int, left_padding: Sequence[int] | None = None) -> Cache:
        if capacity > self.max_positions:
            raise ConfigError(f"{capacity} tokens: the model knows positions up to {self.max_positions}")
        weight, block = self.table.weight, self.layers[0]
        shape = (len(self.layers), batch, block.kv_heads, capacity, block.head_dim)
        return Cache(shape, left_padding or [0] * batch, weight.dtype, weight.device)

    def rotary(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        size = self.config["hidden_size"] // self.config["num_attention_heads"]
        exponents = torch.arange(0, size, 2, dtype=torch.float32, device=positions.device) / size
        angles = positions.unsqueeze(-1).float() * (1.0 / self.config["rope_theta"] ** exponents)
        angles = torch.cat((angles, angles), -1)
        return angles.cos().to(self.table.weight.dtype), angles.sin().to(self.table.weight.dtype)

    def forward(self, tokens: Tensor, cache: Cache, keep: int = 0) -> Tensor:
        if tokens.shape[1] > 1 and not bool(((tokens >= 0) & (tokens < self.table.num_embeddings)).all()):
            raise InputError(f"a token is not in the vocabulary of {self.table.num_embeddings}: it has no embedding")
        slots = cache.claim(tokens.shape[1])
        x = self.table(tokens)
        for index in range(len(self.layers)):
            x = self._block(index, x, cache, slots)
        return self.head(self.last_norm(x[:, -keep:]))

    def decode(self, tokens: Tensor, cache: Cache) -> Tensor:
        return self(tokens, cache, keep=1)[:, -1]

    def layer(self, index: int, hidden: Tensor, cache: Cache) -> Tensor:
        return self._block(index, hidden, cache, cache.claim(hidden.shape[1]))

    def _block(self, index: int, hidden: Tensor, cache: Cache, slots: Tensor) -> Tensor:
        cos, sin = self.rotary((slots - cache.left_padding).clamp_min(0))
        return self.layers[index](hidden, cos, sin, cache, index, slots)


def build(config: HFConfig, dtype: torch.dtype, device: torch.device) -> PlainQwen2:
    """ConfigError for a config that is of another model."""
    if config.get("model_type") != "qwen2" or config.get("tie_word_embeddings") or config.get("use_sliding_window"):
        raise ConfigError("plain_qwen2 is a Qwen2 whose head is its own matrix, without a sliding window")
    with device:
        return PlainQwen2(config).to(dtype).requires_grad_(False)
