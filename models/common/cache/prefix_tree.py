"""Which pages hold which beginnings of sequences: a tree of blocks, one page each. Bookkeeping only, no tensors.

A sequence is a row of symbols: whatever two prefixes must share to be equal, such as token ids. A block is
`page_tokens` of them, or fewer at a row's end. Its key chains its parent's key with its symbols, so that equal keys
mean equal prefixes but for collisions, and those are settled by comparing the symbols themselves.
Hash chains of blocks are vLLM's; reference counts and eviction of unreferenced leaves are those of SGLang's radix tree.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import chain, takewhile

from harness.errors import CacheFull

BlockKey = Hashable
Symbols = Sequence[BlockKey]
Digest = Callable[[int, tuple[BlockKey, ...]], int]
"""(key of the parent, symbols of the block) -> key of the block."""


def chained(parent: int, symbols: tuple[BlockKey, ...]) -> int:
    return hash((parent, symbols))


@dataclass(eq=False)
class Node:
    """One block in its page. `holds` counts the open leases that read it; whoever holds a block holds its parents."""

    parent: Node | None
    symbols: tuple[BlockKey, ...]
    key: int
    page: int
    holds: int = 0
    used: int = 0
    children: dict[Node, None] = field(default_factory=dict)


@dataclass(eq=False)
class PrefixMatch:
    """The pages of one open row, in order: those of `shared` blocks, which it may only read, then its own."""

    shared: tuple[Node, ...]
    pages: tuple[int, ...]
    copied: int | None
    """The page whose first slots must be copied into the first page of its own before anything is written there."""


@dataclass(frozen=True)
class _Found:
    """Whole blocks that begin a row, and the block that agrees with the next `extra` symbols but not with all."""

    blocks: tuple[Node, ...]
    tail: Node | None
    extra: int


class PrefixTree:
    """Pages 0 ... pages - 1, each in exactly one place: free, in the tree, or an open lease's own."""

    def __init__(self, pages: int, page_tokens: int, digest: Digest = chained) -> None:
        self.pages, self.page_tokens, self.digest = pages, page_tokens, digest
        self.root = Node(None, (), 0, -1)
        self.index: dict[int, list[Node]] = {}
        self.free = list(range(pages))
        self.clock = 0

    def nodes(self) -> Iterator[Node]:
        return chain.from_iterable(self.index.values())

    def match(self, symbols: Symbols) -> int:
        """How many symbols at the beginning of the row are cached."""
        found = self._walk(symbols)
        return len(found.blocks) * self.page_tokens + found.extra

    def open(self, rows: Sequence[Symbols], columns: int) -> tuple[list[PrefixMatch], int]:
        """A lease of `columns` pages for every row, and the number of symbols that all of them find cached (of the
        row that finds least). The last symbol of a row never counts: something must be left to compute. Where pages
        are so scarce that the block to copy from is needed itself, only whole blocks are reused.

        Raises CacheFull, with nothing changed, when free pages and evictable blocks do not suffice.
        """
        found = [self._walk(row[:-1]) for row in rows]
        least = min(len(each.blocks) * self.page_tokens + each.extra for each in found)
        whole = least - least % self.page_tokens
        try:
            return self._lease(found, least, columns), least
        except CacheFull:
            if whole == least:
                raise
            return self._lease(found, whole, columns), whole

    def _lease(self, found: Sequence[_Found], matched: int, columns: int) -> list[PrefixMatch]:
        whole, part = divmod(matched, self.page_tokens)
        shared = [each.blocks[:whole] for each in found]
        tails = [(*each.blocks, each.tail)[whole] for each in found] if part else [None] * len(found)
        # A tail is held until no page of this call can be taken from it; the copy comes before any other call.
        held = [*chain.from_iterable(shared), *(tail for tail in tails if tail)]
        self._hold(held)
        try:
            own = self._take(len(found) * (columns - whole))
        except CacheFull:
            self._release(held)
            raise
        self._stamp(held)
        self._release([tail for tail in tails if tail])
        leases = []
        for blocks, tail in zip(shared, tails, strict=True):
            mine, own = own[: columns - whole], own[columns - whole :]
            pages = (*(node.page for node in blocks), *mine)
            leases.append(PrefixMatch(blocks, pages, tail.page if tail else None))
        return leases

    def close(self, lease: PrefixMatch, symbols: Symbols) -> None:
        """Keep what the lease's pages hold, `symbols` slot by slot; pages that hold nothing new become free."""
        self._stamp(lease.shared)
        parent = lease.shared[-1] if lease.shared else self.root
        for column in range(len(lease.shared), len(lease.pages)):
            block = tuple(symbols[column * self.page_tokens : (column + 1) * self.page_tokens])
            known = self._covering(parent, block)
            if known is None:
                known = self._add(parent, block, lease.pages[column])
            else:
                self.free.append(lease.pages[column])
            known.used, parent = self.clock, known
        self._release(lease.shared)

    def _walk(self, symbols: Symbols) -> _Found:
        node, blocks = self.root, []
        for at in range(0, len(symbols) - self.page_tokens + 1, self.page_tokens):
            child = self._child(node, tuple(symbols[at : at + self.page_tokens]))
            if child is None:
                break
            blocks.append(child)
            node = child
        rest = symbols[len(blocks) * self.page_tokens :]
        tail = max(node.children, key=lambda child: _agreeing(child.symbols, rest), default=None)
        extra = _agreeing(tail.symbols, rest) if tail else 0
        return _Found(tuple(blocks), tail if extra else None, extra)

    def _child(self, parent: Node, symbols: tuple[BlockKey, ...]) -> Node | None:
        found = self.index.get(self.digest(parent.key, symbols), [])
        return next((node for node in found if node.parent is parent and node.symbols == symbols), None)

    def _covering(self, parent: Node, block: tuple[BlockKey, ...]) -> Node | None:
        """The child of `parent` that already holds the block, alone or as its own beginning."""
        if len(block) == self.page_tokens:
            return self._child(parent, block)
        if not block:
            return parent
        return next((node for node in parent.children if node.symbols[: len(block)] == block), None)

    def _add(self, parent: Node, symbols: tuple[BlockKey, ...], page: int) -> Node:
        node = Node(parent, symbols, self.digest(parent.key, symbols), page)
        self.index.setdefault(node.key, []).append(node)
        parent.children[node] = None
        return node

    def _stamp(self, nodes: Sequence[Node]) -> None:
        self.clock += 1
        for node in nodes:
            node.used = self.clock

    def _hold(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            node.holds += 1

    def _release(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            node.holds -= 1

    def _take(self, count: int) -> list[int]:
        idle = sum(not node.holds for node in self.nodes())
        if count > len(self.free) + idle:
            raise CacheFull(
                f"{count} pages are asked for, {len(self.free)} of {self.pages} are free and {idle} hold prefixes that "
                "nobody reads: the rest belongs to open caches, which must be closed first, or the pool is too small"
            )
        self._evict(count - len(self.free))
        self.free, taken = self.free[count:], self.free[:count]
        return taken

    def _evict(self, count: int) -> None:
        """Free `count` pages, each time that of the leaf that nobody holds and that was used longest ago."""
        if count <= 0:
            return
        leaves = [(node.used, node.page, node) for node in self.nodes() if not node.holds and not node.children]
        heapify(leaves)
        for _ in range(count):
            _, _, oldest = heappop(leaves)
            parent = self._remove(oldest)
            if parent is not self.root and not parent.holds and not parent.children:
                heappush(leaves, (parent.used, parent.page, parent))

    def _remove(self, leaf: Node) -> Node:
        """Free the leaf's page; returns its parent."""
        same_key = self.index[leaf.key]
        same_key.remove(leaf)
        if not same_key:
            del self.index[leaf.key]
        assert leaf.parent is not None
        del leaf.parent.children[leaf]
        self.free.append(leaf.page)
        return leaf.parent


def _agreeing(one: Symbols, other: Symbols) -> int:
    """Length of the longest common beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
