"""Growing, static and paged caches hold the same keys under the same slots, and refuse what does not fit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness.errors import CacheFull
from models.common.cache.kv_cache import GrowingCache, KVCache, PagedCache, Slots, visible

CPU = torch.device("cpu")
BATCH, KV_HEADS, SIZE, CAPACITY, LAYERS = 3, 2, 8, 24, 2
LAYOUTS = ("growing", "static", "paged")


def empty(layout: str, left_padding: tuple[int, ...] | None = None) -> KVCache:
    if layout == "growing":
        return GrowingCache(LAYERS, KV_HEADS, SIZE, BATCH, CAPACITY, torch.float32, CPU, left_padding)
    page_tokens = CAPACITY if layout == "static" else 4
    return PagedCache(LAYERS, KV_HEADS, SIZE, BATCH, CAPACITY, page_tokens, torch.float32, CPU, left_padding)


def drawn(tokens: int, seed: int) -> Tensor:
    return torch.randn((BATCH, tokens, KV_HEADS, SIZE), generator=torch.Generator().manual_seed(seed))


def write(cache: KVCache, tokens: int, seed: int) -> Slots:
    """Layer i gets keys drawn from seed + i and values that are their negatives."""
    slots = cache.extend(tokens)
    for i, layer in enumerate(cache.layers):
        layer.write(drawn(tokens, seed + i), -drawn(tokens, seed + i), slots)
    return slots


def expected(*calls: tuple[int, int]) -> Tensor:
    """[B, kv_heads, S, D]: the keys of layer 0 after calls of (tokens, seed)."""
    return torch.cat([drawn(tokens, seed) for tokens, seed in calls], dim=1).transpose(1, 2)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_written_is_read_in_order_whatever_the_layout(layout: str) -> None:
    cache = empty(layout)
    write(cache, 7, seed=0)
    write(cache, 1, seed=10)
    slots = write(cache, 6, seed=20)
    keys, values = cache.layers[0].read(slots)
    assert torch.equal(keys, expected((7, 0), (1, 10), (6, 20)))
    assert torch.equal(values, -keys)
    other, _ = cache.layers[1].read(slots)
    assert torch.equal(other, expected((7, 1), (1, 11), (6, 21)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rewound_slots_are_written_again_and_earlier_ones_kept(layout: str) -> None:
    cache = empty(layout)
    write(cache, 9, seed=0)
    cache.rewind(5)
    slots = write(cache, 3, seed=30)
    assert cache.length == 8
    assert cache.seq_lens.tolist() == [8] * BATCH
    keys, _ = cache.layers[0].read(slots)
    assert torch.equal(keys, torch.cat((expected((9, 0))[:, :, :5], expected((3, 30))), dim=2))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_call_that_does_not_fit_changes_nothing(layout: str) -> None:
    cache = empty(layout)
    write(cache, CAPACITY - 2, seed=0)
    before = [(layer.keys.clone(), layer.values.clone()) for layer in cache.layers]
    with pytest.raises(CacheFull, match=f"{CAPACITY - 2} \\+ 3 tokens do not fit into a cache of {CAPACITY}"):
        write(cache, 3, seed=40)
    assert cache.length == CAPACITY - 2
    assert cache.seq_lens.tolist() == [CAPACITY - 2] * BATCH
    for layer, (keys, values) in zip(cache.layers, before, strict=True):
        assert torch.equal(layer.keys, keys)
        assert torch.equal(layer.values, values)
    write(cache, 2, seed=50)
    assert cache.length == CAPACITY


def test_a_growing_cache_is_as_long_as_its_content() -> None:
    cache = empty("growing")
    for length in (3, 4, 8):
        write(cache, length - cache.length, seed=0)
        assert [layer.keys.shape[2] for layer in cache.layers] == [length] * LAYERS


def test_pages_of_a_row_are_neither_neighbors_nor_shared() -> None:
    block_table = empty("paged").block_table
    assert sorted(block_table.flatten().tolist()) == list(range(BATCH * CAPACITY // 4))
    assert (block_table.diff(dim=1) != 1).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_positions_count_from_the_first_real_token(layout: str) -> None:
    cache = empty(layout, left_padding=(0, 2, 5))
    assert cache.extend(6).positions().tolist() == [[0, 1, 2, 3, 4, 5], [0, 0, 0, 1, 2, 3], [0, 0, 0, 0, 0, 0]]
    assert cache.extend(2).positions().tolist() == [[6, 7], [4, 5], [1, 2]]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_query_sees_its_own_sequence_and_padding_only_itself(layout: str) -> None:
    cache = empty(layout, left_padding=(0, 2, 3))
    slots = cache.extend(4)
    seen = slots.visible[:, 0].int().tolist()
    assert seen[0] == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    assert seen[1] == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    assert seen[2] == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def test_one_token_may_see_any_later_length_because_a_graph_replays_it() -> None:
    cache = empty("static")
    cache.extend(5)
    slots = cache.extend(1)
    assert (slots.max_len, slots.masked) == (CAPACITY, True)
    assert slots.visible.sum(-1).flatten().tolist() == [6] * BATCH
    cache.seq_lens += 3
    assert (
        visible(slots.left_padding, slots.seq_lens.long().unsqueeze(1) - 1, slots.max_len).sum(-1).flatten().tolist()
        == [9] * 3
    )


@pytest.mark.parametrize("layout", ["static", "paged"])
def test_the_token_that_fills_a_cache_is_masked_because_a_graph_replays_it_at_a_shorter_length(layout: str) -> None:
    cache = empty(layout)
    cache.extend(CAPACITY - 1)
    assert cache.extend(1).masked


def test_a_growing_cache_needs_no_mask_for_one_token() -> None:
    cache = empty("growing")
    cache.extend(5)
    slots = cache.extend(1)
    assert (slots.max_len, slots.masked) == (6, False)


def test_a_prompt_needs_no_mask_unless_a_row_is_padded() -> None:
    assert not empty("static").extend(5).masked
    assert not empty("static", left_padding=(0, 0, 0)).extend(5).masked
    assert empty("static", left_padding=(0, 1, 0)).extend(5).masked
