"""Beginnings of sequences that are computed once and read by everyone: a prefix tree over the pages of one pool.

    cache, matched = prefixes.open(tokens, capacity)
    logits = model(tokens[:, matched:], cache)
    prefixes.close(cache)

Rows of one batch share one length, so they reuse what the row that finds least finds. Left padding is part of a
prefix: a row shares with rows that are padded alike.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from harness.errors import SharedSlots
from harness.spec.model_inputs import ModelInputs
from harness.spec.mutant import Mutant
from harness.spec.optimization import Optimization, Receipt, Target
from harness.spec.parameter import Parameter
from harness.spec.runtime import OpenedPrefix
from models.common.cache.kv_cache import CacheShape, KVCache, LayerCache
from models.common.cache.optimization import PAGE_SIZES
from models.common.cache.prefix_tree import BlockKey, PrefixMatch, PrefixTree
from models.common.decoder.frame import Decoder
from models.common.decoder.swap import attach

PADDING = "padding"
"""The symbol of a slot of left padding, equal to that of no token."""


class SharedCache(KVCache):
    """A cache over pages of a common pool. It keeps its memory and its shape when it is opened again for other rows,
    so that a graph captured over it serves them too."""

    def __init__(self, batch: int, columns: int, layers: list[LayerCache]) -> None:
        block_table = torch.zeros(batch, columns, dtype=torch.int32, device=layers[0].keys.device)
        super().__init__(block_table, None, layers, in_order=False)
        self.leases: list[PrefixMatch] = []
        self.symbols: list[list[BlockKey]] = []
        self.matched = 0

    def begin(
        self, leases: list[PrefixMatch], symbols: list[list[BlockKey]], matched: int, left_padding: Sequence[int]
    ) -> None:
        """Stand on the leased pages, `matched` slots of every row already filled."""
        self.leases, self.symbols, self.matched = leases, symbols, matched
        self.padded, self.padding = any(left_padding), tuple(left_padding)
        self.forget()
        self.block_table.copy_(torch.tensor([lease.pages for lease in leases], dtype=torch.int32))
        self.left_padding.copy_(torch.tensor(left_padding, dtype=torch.int32))
        super().rewind(matched)

    def check_room(self, tokens: int) -> None:
        """Raises SharedSlots once closed, CacheFull unless `tokens` more fit."""
        self.check_open()
        super().check_room(tokens)

    def check_open(self) -> None:
        if not self.leases:
            raise SharedSlots("this cache was closed: its pages belong to other sequences, which it would overwrite")

    def rewind(self, length: int) -> None:
        """Forget every slot at and past `length`, and what the prompt says of them: other tokens may follow there.
        Raises SharedSlots for slots that were reused, not computed here."""
        if length < self.matched:
            raise SharedSlots(
                f"back to slot {length}: the first {self.matched} are shared, other sequences read what would be "
                "written there"
            )
        self.symbols = [row[:length] for row in self.symbols]
        super().rewind(length)


class Prefixes:
    """The pool, its tree, and the caches that are open on it. Memory is reserved at first use.

    `symbols` says what makes two prefixes equal: (tokens [B, T], and by name the prompt `inputs` whose images they
    show) -> a row of symbols for each row, a token's own being its id.
    """

    def __init__(
        self, caches: CacheShape, pages: int, page_tokens: int, symbols: Callable[..., list[list[BlockKey]]]
    ) -> None:
        self.caches, self.page_tokens, self.symbols = caches, page_tokens, symbols
        self.tree = PrefixTree(pages, page_tokens)
        self.layers: list[LayerCache] = []
        self.closed: dict[tuple[int, int], list[SharedCache]] = {}

    def open(
        self,
        tokens: Tensor,
        capacity: int,
        left_padding: Sequence[int] | None = None,
        *,
        inputs: ModelInputs | None = None,
    ) -> OpenedPrefix:
        """A cache for the rows of tokens [B, T] with room for `capacity` slots a row, and how many of the T tokens it
        already holds: the model is to be called on the rest, which is never empty. Row b begins with
        left_padding[b] tokens of padding. Raises CacheFull, nothing changed, when the pool has too few pages left."""
        batch = tokens.shape[0]
        left_padding = left_padding or [0] * batch
        rows = self.symbols(tokens) if inputs is None else self.symbols(tokens, inputs=inputs)
        rows = [[PADDING] * start + row[start:] for row, start in zip(rows, left_padding, strict=True)]
        columns = -(-max(capacity, tokens.shape[1]) // self.page_tokens)
        leases, matched = self.tree.open(rows, columns)
        self.layers = self.layers or self.caches.pool(self.tree.pages, self.page_tokens)
        self._copy_tails(leases)
        waiting = self.closed.get((batch, columns))
        cache = waiting.pop() if waiting else SharedCache(batch, columns, self.layers)
        cache.begin(leases, rows, matched, left_padding)
        return OpenedPrefix(cache, matched)

    def close(self, cache: SharedCache, generated: Tensor | None = None) -> None:
        """Give the pages back and keep what was computed for later prompts: the prompt, as far as it was not rewound,
        and, where given, the tokens generated [B, N] that were fed after that. The cache must not be used
        afterwards."""
        cache.check_open()
        more = [[] for _ in cache.leases] if generated is None else generated.tolist()
        for lease, symbols, new in zip(cache.leases, cache.symbols, more, strict=True):
            self.tree.close(lease, [*symbols, *new][: cache.length])
        cache.leases = []
        batch, columns = cache.block_table.shape
        self.closed.setdefault((batch, columns), []).append(cache)

    def blocks(self) -> dict[Hashable, Tensor]:
        """A copy [layers, 2, kv_heads, page_tokens, head_dim] of the page of every node of the tree."""
        return {
            node: torch.stack([torch.stack((layer.keys[node.page], layer.values[node.page])) for layer in self.layers])
            for node in self.tree.nodes()
        }

    def resized(self, pages: int, page_tokens: int) -> Prefixes:
        """An empty one for the same model, with a pool of its own of another size."""
        return Prefixes(self.caches, pages, page_tokens, self.symbols)

    def _copy_tails(self, leases: list[PrefixMatch]) -> None:
        """Copy on write: rows go on inside a block that others may read, each in a page of its own."""
        copies = [(lease.copied, lease.pages[len(lease.shared)]) for lease in leases if lease.copied is not None]
        if not copies:
            return
        sources, targets = torch.tensor(copies, device=self.caches.device).unbind(1)
        for layer in self.layers:
            layer.keys[targets] = layer.keys[sources]
            layer.values[targets] = layer.values[sources]


def token_symbols(tokens: Tensor) -> list[list[BlockKey]]:
    """Return a row of token ids for each row of tokens [B, T]: nothing else makes two prefixes of text equal."""
    rows: list[list[BlockKey]] = tokens.tolist()
    return rows


def prefix_caching(
    symbols: Callable[..., list[list[BlockKey]]], default_tokens: int, pool_tokens: int, mutants: tuple[Mutant, ...]
) -> Optimization:
    """Give the model `prefixes`, a pool of its own beside the caches of `new_cache`, which stay what they are. Its
    blocks hold `default_tokens` where nothing else is asked for."""

    def apply(model: Decoder, target: Target, block_tokens: int = default_tokens) -> Receipt:
        pages = min(pool_tokens, model.max_positions) // block_tokens
        touched = attach(model, "prefixes", Prefixes(model.caches, pages, block_tokens, symbols))
        return Receipt("prefix_caching", touched, (f"{pages} blocks of {block_tokens} tokens",))

    return Optimization(
        name="prefix_caching",
        summary="prompts that begin alike share the pages of their beginning; only the rest is computed",
        # The pages are the same bits; the rest of a prompt is a shorter product, whose sums may be cut otherwise.
        numerics="reordered",
        apply=apply,
        provides=frozenset({"prefix_cache"}),
        mutants=mutants,
        parameters=(
            Parameter(
                "block_tokens",
                default_tokens,
                PAGE_SIZES,
                "Tokens in a block of the prefix pool.",
            ),
        ),
    )
