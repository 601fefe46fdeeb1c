"""Random openings and closings of a prefix tree, held against a set of tuples that knows no hashes and no pages."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from harness.errors import CacheFull
from models.common.cache.prefix_tree import Digest, Node, PrefixMatch, PrefixTree, chained

PAGE_TOKENS = 3
Row = tuple[int, ...]


def colliding(parent: int, symbols: tuple[object, ...]) -> int:
    return 7


def path(node: Node) -> tuple[object, ...]:
    """All symbols from the beginning of the sequence to the block's end."""
    return (*path(node.parent), *node.symbols) if node.parent else ()


def common(one: Row, other: Row) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


@dataclass
class Play:
    """A tree, its oracle `cached` (every cached beginning as one tuple), and the rows that are open."""

    tree: PrefixTree
    draw: random.Random
    cached: set[Row] = field(default_factory=set)
    opened: list[tuple[PrefixMatch, Row]] = field(default_factory=list)
    refused: int = 0
    evicted: int = 0
    reused: int = 0

    def row(self, length: int) -> Row:
        """Often the beginning of something cached, so that hits and partings happen."""
        base: Row = self.draw.choice(sorted(self.cached)) if self.cached and self.draw.random() < 0.7 else ()
        base = base[: self.draw.randint(0, len(base))]
        return (*base, *(self.draw.randrange(2) for _ in range(length)))[:length]

    def longest(self, row: Row) -> int:
        return max((common(row, known) for known in self.cached), default=0)

    def open(self) -> None:
        length, columns = self.draw.randint(1, 10), self.draw.randint(4, 5)
        rows = [self.row(length) for _ in range(self.draw.randint(1, 2))]
        expected = min(self.longest(row[:-1]) for row in rows)
        state = self.state()
        free, before = state
        try:
            leases, matched = self.tree.open(rows, columns)
        except CacheFull:
            assert state == self.state()
            assert self.short(rows, expected // PAGE_TOKENS, columns, free, before, beside=0)
            self.refused += 1
            return
        if matched != expected:
            assert matched == expected - expected % PAGE_TOKENS
            assert self.short(rows, expected // PAGE_TOKENS, columns, free, before, beside=len(rows))
        self.reused += matched
        self.opened += zip(leases, rows, strict=True)
        self.check_evictions(before)

    def state(self) -> tuple[list[int], dict[Row, tuple[int, int]]]:
        return list(self.tree.free), {path(node): (node.used, node.holds) for node in self.tree.nodes()}

    def short(
        self,
        rows: list[Row],
        whole: int,
        columns: int,
        free: list[int],
        before: dict[Row, tuple[int, int]],
        beside: int,
    ) -> bool:
        """Whether the pool cannot give `columns` pages a row, `whole` of them shared, and keep `beside` more."""
        shared = {row[: (block + 1) * PAGE_TOKENS] for row in rows for block in range(whole)}
        idle = sum(not holds for known, (_, holds) in before.items() if known not in shared)
        return len(rows) * (columns - whole) > len(free) + idle - beside

    def check_evictions(self, before: dict[Row, tuple[int, int]]) -> None:
        """What is gone was read by nobody, was a leaf when it went, and was not used after anything that could have
        gone instead."""
        after = {path(node): node for node in self.tree.nodes()}
        gone = set(before) - set(after)
        self.evicted += len(gone)
        self.cached -= gone
        for known in gone:
            used, holds = before[known]
            assert holds == 0
            assert not any(other != known and other[: len(known)] == known for other in after if len(known) % 3 == 0)
            idle = [node.used for node in after.values() if not node.holds and not node.children]
            assert all(used <= other for other in idle)

    def close(self) -> None:
        lease, row = self.opened.pop(self.draw.randrange(len(self.opened)))
        room = len(lease.pages) * PAGE_TOKENS - len(row)
        fed = (*row, *(self.draw.randrange(2) for _ in range(self.draw.randint(0, room))))
        self.tree.close(lease, fed)
        for end in (*range(PAGE_TOKENS, len(fed) + 1, PAGE_TOKENS), len(fed)):
            if end % PAGE_TOKENS == 0 or self.longest(fed) < end:
                self.cached.add(fed[:end])

    def check(self) -> None:
        nodes = list(self.tree.nodes())
        own = [page for lease, _ in self.opened for page in lease.pages[len(lease.shared) :]]
        assert sorted([*self.tree.free, *own, *(node.page for node in nodes)]) == list(range(self.tree.pages))
        holds = Counter(node for lease, _ in self.opened for node in lease.shared)
        assert all(node.holds == holds[node] for node in nodes)
        assert {path(node) for node in nodes} == self.cached
        for node in nodes:
            assert node.parent is not None
            assert node in node.parent.children
            assert len(node.symbols) == PAGE_TOKENS or not node.children
        for lease, row in self.opened:
            shared = tuple(symbol for node in lease.shared for symbol in node.symbols)
            assert row[: len(shared)] == shared


@pytest.mark.parametrize("digest", [chained, colliding], ids=["chained", "colliding"])
@pytest.mark.parametrize("seed", range(12))
def test_random_openings_and_closings_agree_with_the_oracle(seed: int, digest: Digest) -> None:
    draw = random.Random(seed)
    play = Play(PrefixTree(draw.choice([14, 24, 60]), PAGE_TOKENS, digest), draw)
    for _ in range(150):
        if play.opened and draw.random() < 0.5:
            play.close()
        else:
            play.open()
        play.check()
    assert play.reused


def test_the_random_runs_meet_refusals_and_evictions() -> None:
    draw = random.Random(0)
    play = Play(PrefixTree(14, PAGE_TOKENS), draw)
    for _ in range(300):
        play.close() if play.opened and draw.random() < 0.5 else play.open()
    assert play.refused > 5
    assert play.evicted > 20


def test_a_row_reads_whole_blocks_and_copies_the_one_it_leaves_midway() -> None:
    tree = PrefixTree(8, PAGE_TOKENS)
    (first,), _ = tree.open([(1, 2, 3, 4, 5, 6)], 2)
    tree.close(first, (1, 2, 3, 4, 5, 6))
    (second,), matched = tree.open([(1, 2, 3, 4, 5, 9)], 2)
    assert matched == 5
    assert second.pages[0] == first.pages[0]
    assert second.copied == first.pages[1] != second.pages[1]


def test_equal_keys_of_unequal_prefixes_are_told_apart() -> None:
    tree = PrefixTree(8, PAGE_TOKENS, colliding)
    (lease,), _ = tree.open([(1, 2, 3)], 1)
    tree.close(lease, (1, 2, 3))
    assert tree.match((4, 5, 6)) == 0
    assert tree.match((1, 2, 3, 1, 2, 3)) == 3


def test_rows_of_one_batch_reuse_what_the_least_cached_row_finds() -> None:
    tree = PrefixTree(8, PAGE_TOKENS)
    (lease,), _ = tree.open([(1, 1, 1, 1, 1, 1)], 2)
    tree.close(lease, (1, 1, 1, 1, 1, 1))
    leases, matched = tree.open([(1, 1, 1, 1, 1, 1, 1), (1, 1, 1, 1, 2, 2, 2)], 3)
    assert matched == 4
    assert [len(each.shared) for each in leases] == [1, 1]


def test_at_least_one_symbol_is_left_to_compute() -> None:
    tree = PrefixTree(8, PAGE_TOKENS)
    (lease,), _ = tree.open([(1, 2, 3)], 1)
    tree.close(lease, (1, 2, 3))
    _, matched = tree.open([(1, 2, 3)], 1)
    assert matched == 2
