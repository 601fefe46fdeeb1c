"""Key-value memory, always in pages [pages, kv_heads, page_tokens, head_dim]; a static cache is one page a sequence.

Row b's slot s lives in page `block_table[b, s // page_tokens]`, offset `s % page_tokens`. Rows are right-aligned by
left padding: a row's first `left_padding[b]` slots are padding, and position = slot - start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor

from harness.errors import CacheFull

T = TypeVar("T")


def once(compute: Callable[[Slots], T]) -> property:
    """A property computed at first use and kept for the other layers of the call. A tracing compiler sees the plain
    computation and shares it by itself."""

    @wraps(compute)
    def get(slots: Slots) -> T:
        if torch.compiler.is_compiling():
            return compute(slots)
        if compute.__name__ not in slots.kept:
            slots.kept[compute.__name__] = compute(slots)
        return slots.kept[compute.__name__]

    return property(get)


@dataclass(frozen=True)
class Slots:
    """Where one forward call writes and what it may read. Tensors are int32 on the cache's device."""

    block_table: Tensor
    """[B, pages per row]"""
    left_padding: Tensor
    """[B] first slot that is not padding."""
    seq_lens: Tensor
    """[B] slots in use once this call has written."""
    tokens: int
    """Query tokens per row in this call."""
    max_len: int
    """No key of this call lies at or past this slot. Known on the host; never read from the device."""
    masked: bool
    """Whether causality alone does not say what a query sees: padding, or slots below `max_len` not yet in use."""

    page_tokens: int
    in_order: bool
    """Row b is page b, whole: reads are views."""
    offsets: Tensor
    """[B] what a row's rotary positions are beyond `positions()`, for a model whose images take more or fewer positions
    than tokens; 0 for text."""
    kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @once
    def slots(self) -> Tensor:
        """[B, tokens] int64 slot of each query token."""
        return query_slots(self.seq_lens, self.tokens)

    def positions(self) -> Tensor:
        """[B, tokens] int64 rotary position of each query token; padding sits at 0."""
        return (self.slots - self.left_padding.long().unsqueeze(1)).clamp_min(0)

    @once
    def places(self) -> tuple[Tensor, Tensor]:
        """Page numbers and offsets of the query tokens' slots, both [B, tokens] int64."""
        return locate(self.block_table, self.slots, self.page_tokens)

    @once
    def visible(self) -> Tensor:
        """[B, 1, tokens, max_len] bool: which slots each query sees."""
        return visible(self.left_padding, self.slots, self.max_len)


@dataclass(frozen=True)
class LayerCache:
    """One layer's pages [pages, kv_heads, page_tokens, head_dim]."""

    keys: Tensor
    values: Tensor

    def write(self, keys: Tensor, values: Tensor, slots: Slots) -> None:
        """keys, values [B, T, kv_heads, head_dim] to the slots of this call."""
        pages, offsets = slots.places
        self.keys[pages, :, offsets] = keys
        self.values[pages, :, offsets] = values

    def read(self, slots: Slots) -> tuple[Tensor, Tensor]:
        """keys, values [B, kv_heads, max_len, head_dim]; views where the rows are whole pages in order."""
        if slots.in_order:
            return self.keys[:, :, : slots.max_len], self.values[:, :, : slots.max_len]
        return gather(self.keys, slots.block_table, slots.max_len), gather(
            self.values, slots.block_table, slots.max_len
        )


def query_slots(seq_lens: Tensor, tokens: int) -> Tensor:
    """seq_lens [B] after the call -> [B, tokens] int64: the last `tokens` slots of each row."""
    return (seq_lens.long() - tokens).unsqueeze(1) + torch.arange(tokens, device=seq_lens.device)


def visible(left_padding: Tensor, slots: Tensor, max_len: int) -> Tensor:
    """left_padding [B], query slots [B, T] -> [B, 1, T, max_len] bool: query slot i sees key slot j where
    min(start, i) <= j <= i, so that a padding query sees itself alone and stays finite."""
    query = slots.unsqueeze(-1)
    first = torch.minimum(left_padding.long().view(-1, 1, 1), query)
    key = torch.arange(max_len, device=slots.device)
    return ((key >= first) & (key <= query)).unsqueeze(1)


def locate(block_table: Tensor, slots: Tensor, page_tokens: int) -> tuple[Tensor, Tensor]:
    """slots [B, T] -> page numbers and offsets, both [B, T] int64."""
    rows = torch.arange(block_table.shape[0], device=block_table.device).unsqueeze(1)
    return block_table[rows, slots // page_tokens].long(), slots % page_tokens


def gather(pages: Tensor, block_table: Tensor, max_len: int) -> Tensor:
    """pages [P, heads, page_tokens, D], block_table [B, M] -> [B, heads, max_len, D]."""
    rows = pages[block_table.long()].transpose(1, 2).flatten(2, 3)
    return rows[:, :, :max_len]


class KVCache:
    """Base of the three layouts: who is where, and how long each row is."""

    replayable = True
    """Whether a call's memory outlives it, so that a graph captured over it may be replayed."""

    def __init__(
        self, block_table: Tensor, left_padding: Sequence[int] | None, layers: list[LayerCache], in_order: bool
    ) -> None:
        batch, device = block_table.shape[0], block_table.device
        self.block_table = block_table
        self.layers = layers
        self.in_order = in_order
        self.padded = left_padding is not None and any(left_padding)
        self.left_padding = torch.tensor(list(left_padding or [0] * batch), dtype=torch.int32, device=device)
        self.seq_lens = torch.zeros(batch, dtype=torch.int32, device=device)
        self.padding = tuple(left_padding or [0] * batch)
        self.offsets = torch.zeros(batch, dtype=torch.int32, device=device)
        self.sight: Any = None
        """What a model that sees keeps of the prompt's images; nothing here reads it."""
        self.length = 0

    @property
    def capacity(self) -> int:
        return self.block_table.shape[1] * self.layers[0].keys.shape[2]

    def check_room(self, tokens: int) -> None:
        """Raises CacheFull unless `tokens` more fit."""
        if self.length + tokens > self.capacity:
            raise CacheFull(
                f"{self.length} + {tokens} tokens do not fit into a cache of {self.capacity}: "
                "later keys would overwrite earlier ones"
            )

    def extend(self, tokens: int) -> Slots:
        """Claim the next `tokens` slots of every row; raises CacheFull before anything is written."""
        self.check_room(tokens)
        self.length += tokens
        self.seq_lens += tokens
        return self.claim(tokens)

    def claim(self, tokens: int) -> Slots:
        # One query token may be captured in a graph and replayed at any other length: the whole capacity, and always
        # under a mask, even where this call happens to fill it.
        replayed = self.replayable and tokens == 1
        max_len = self.capacity if replayed else self.length
        masked = self.padded or replayed
        page_tokens = self.layers[0].keys.shape[2]
        return Slots(
            self.block_table,
            self.left_padding,
            self.seq_lens,
            tokens,
            max_len,
            masked,
            page_tokens,
            self.in_order,
            self.offsets,
        )

    def rewind(self, length: int) -> None:
        """Forget every slot at and past `length`; at 0 also what the prompt's images said."""
        self.length = length
        self.seq_lens.fill_(length)
        if length == 0:
            self.forget()

    def forget(self) -> None:
        """What was said of a prompt's images holds no more."""
        if self.sight is not None:
            self.sight = None
            self.offsets.zero_()


class GrowingCache(KVCache):
    """Memory exactly as long as its content, up to `capacity`: every call copies what is there into new memory, as
    concatenation does."""

    replayable = False

    def __init__(
        self,
        layers: int,
        kv_heads: int,
        head_dim: int,
        batch: int,
        capacity: int,
        dtype: torch.dtype,
        device: torch.device,
        left_padding: Sequence[int] | None = None,
    ) -> None:
        block_table = torch.arange(batch, dtype=torch.int32, device=device).unsqueeze(1)
        shape = (batch, kv_heads, 0, head_dim)
        empty = [
            LayerCache(torch.empty(shape, dtype=dtype, device=device), torch.empty(shape, dtype=dtype, device=device))
            for _ in range(layers)
        ]
        super().__init__(block_table, left_padding, empty, in_order=True)
        self.most = capacity

    @property
    def capacity(self) -> int:
        return self.most

    def extend(self, tokens: int) -> Slots:
        self.check_room(tokens)
        self.layers = [LayerCache(_grown(c.keys, tokens), _grown(c.values, tokens)) for c in self.layers]
        return super().extend(tokens)

    def rewind(self, length: int) -> None:
        self.layers = [LayerCache(c.keys[:, :, :length], c.values[:, :, :length]) for c in self.layers]
        super().rewind(length)


class PagedCache(KVCache):
    """A preallocated pool of pages. With one page a row this is the static cache."""

    def __init__(
        self,
        layers: int,
        kv_heads: int,
        head_dim: int,
        batch: int,
        capacity: int,
        page_tokens: int,
        dtype: torch.dtype,
        device: torch.device,
        left_padding: Sequence[int] | None = None,
    ) -> None:
        per_row = -(-capacity // page_tokens)
        pages = batch * per_row
        if per_row == 1:
            order = torch.arange(batch, dtype=torch.int32)
        else:
            # Neighbors in time are not neighbors in memory, so that no code can rely on it.
            order = torch.arange(pages, dtype=torch.int32).view(per_row, batch).t().flip(1).flatten()
        block_table = order.view(batch, per_row).contiguous().to(device)
        shape = CacheShape(layers, kv_heads, head_dim, dtype, device)
        super().__init__(block_table, left_padding, shape.pool(pages, page_tokens), in_order=per_row == 1)


@dataclass(frozen=True)
class CacheShape:
    """What one model's cache holds, and the three layouts it may have."""

    layers: int
    kv_heads: int
    head_dim: int
    dtype: torch.dtype
    device: torch.device

    def cumulative(self, batch: int, capacity: int, left_padding: Sequence[int] | None) -> KVCache:
        """As long as its content, which the capacity bounds."""
        return GrowingCache(
            self.layers, self.kv_heads, self.head_dim, batch, capacity, self.dtype, self.device, left_padding
        )

    def static(self, batch: int, capacity: int, left_padding: Sequence[int] | None) -> KVCache:
        """One page a row, reserved at once."""
        return self._pages(batch, capacity, capacity, left_padding)

    def paged(self, page_tokens: int) -> CacheFactory:
        """Pages of `page_tokens` from one pool."""
        return lambda batch, capacity, left_padding: self._pages(batch, capacity, page_tokens, left_padding)

    def pool(self, pages: int, page_tokens: int) -> list[LayerCache]:
        """Zeroed pages for every layer."""

        def zeros() -> Tensor:
            shape = (pages, self.kv_heads, page_tokens, self.head_dim)
            return torch.zeros(shape, dtype=self.dtype, device=self.device)

        return [LayerCache(zeros(), zeros()) for _ in range(self.layers)]

    def _pages(self, batch: int, capacity: int, page_tokens: int, left_padding: Sequence[int] | None) -> KVCache:
        return PagedCache(
            self.layers,
            self.kv_heads,
            self.head_dim,
            batch,
            capacity,
            page_tokens,
            self.dtype,
            self.device,
            left_padding,
        )


CacheFactory = Callable[[int, int, Sequence[int] | None], KVCache]
"""(batch, capacity in tokens, left padding per row) -> an empty cache."""


def _grown(pages: Tensor, tokens: int) -> Tensor:
    return torch.cat((pages, pages.new_zeros(*pages.shape[:2], tokens, pages.shape[3])), dim=2)
