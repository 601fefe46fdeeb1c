"""Fused rotation, cache write and attention beside the eager ones, call after call, on caches of every layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.common.attention.eager import Attend, NormRotateWrite
from models.common.attention.fused import FlashAttend
from models.common.cache.kv_cache import GrowingCache, KVCache, PagedCache
from models.common.kernels.workspace import Workspaces
from models.common.norms.eager import RMSNorm
from models.common.rotary.eager import RotaryTable
from models.common.rotary.fused import FusedNormRotateWrite
from models.tests.module_judge import error

CPU, DTYPE = torch.device("cpu"), torch.float32
BATCH, HEADS, KV_HEADS, SIZE, CAPACITY = 2, 4, 2, 128, 48
LAYOUTS = ("growing", "static", "paged")
CALLS = (9, 4, 1, 1)
"""Query tokens of each call: a prompt, a chunk after it, two decode steps."""


@dataclass(frozen=True)
class Step:
    """The attention part of a layer, between its projections."""

    rotary: nn.Module
    attend: nn.Module
    table: RotaryTable

    def run(self, cache: KVCache, qkv: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        slots = cache.extend(qkv[0].shape[1])
        cos, sin = self.table(slots.positions())
        return self.attend(self.rotary(*qkv, cos, sin, cache.layers[0], slots), cache.layers[0], slots)


def norm(kind: type[RMSNorm], size: int) -> RMSNorm:
    made = kind(size, 1e-6, DTYPE, CPU)
    nn.init.normal_(made.weight, 1.0, 0.1)
    return made


def empty(layout: str, left_padding: tuple[int, ...]) -> KVCache:
    if layout == "growing":
        return GrowingCache(1, KV_HEADS, SIZE, BATCH, CAPACITY, DTYPE, CPU, left_padding)
    return PagedCache(
        1, KV_HEADS, SIZE, BATCH, CAPACITY, 16 if layout == "paged" else CAPACITY, DTYPE, CPU, left_padding
    )


def packed(tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v as views of one packed projection."""
    x = torch.randn(BATCH, tokens, HEADS + 2 * KV_HEADS, SIZE)
    q, k, v = x.split([HEADS, KV_HEADS, KV_HEADS], dim=2)
    return q, k, v


def attention(width: int, layouts: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    """The layouts with and without padding, call after call, and the keys left in the cache at the end."""
    rotary, attend = NormRotateWrite(norm(RMSNorm, SIZE), norm(RMSNorm, SIZE)), Attend(SIZE**-0.5)
    table = RotaryTable(1e4, width, DTYPE, CPU)
    eager = Step(rotary, attend, table)
    fused = Step(FusedNormRotateWrite(rotary), FlashAttend(attend, Workspaces()), table)
    for layout in layouts:
        for left_padding in ((0, 0), (0, 7)):
            caches = [empty(layout, left_padding) for _ in range(2)]
            name = f"{layout} {width} {'padded' if any(left_padding) else 'full'}"
            for i, tokens in enumerate((*CALLS, CALLS[1])):
                if i == len(CALLS):
                    for cache in caches:
                        cache.rewind(CALLS[0])
                qkv = packed(tokens)
                ours, theirs = (step.run(cache, qkv) for step, cache in zip((fused, eager), caches, strict=True))
                yield f"{name} call {i}", error(ours, theirs)
            yield f"{name} keys", error(caches[0].layers[0].keys, caches[1].layers[0].keys)
            yield f"{name} values", error(caches[0].layers[0].values, caches[1].layers[0].values)


def comparisons() -> Iterator[tuple[str, float]]:
    """Every layout with whole heads rotated, and pages with half of each head."""
    yield from attention(SIZE, LAYOUTS)
    yield from attention(SIZE // 2, LAYOUTS[-1:])
