"""Caches over one pool: what is shared is never written, what is closed is never used, what is full says so."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness.errors import CacheFull, SharedSlots
from models.common.cache.kv_cache import CacheShape
from models.common.cache.prefixes import Prefixes, SharedCache

CPU = torch.device("cpu")
PROMPT = torch.arange(10).view(1, 10)


def empty(pages: int = 12) -> Prefixes:
    return Prefixes(CacheShape(2, 1, 8, torch.float32, CPU), pages, 4, Tensor.tolist)


def keys_of(tokens: Tensor) -> Tensor:
    """[B, T, 1, 8] keys that tell their token."""
    return tokens[..., None, None].float().expand(*tokens.shape, 1, 8)


def feed(cache: SharedCache, tokens: Tensor) -> Tensor:
    """Write the tokens' keys, and the keys [B, slots] as they are then read."""
    slots = cache.extend(tokens.shape[1])
    for layer in cache.layers:
        layer.write(keys_of(tokens), -keys_of(tokens), slots)
    return cache.layers[1].read(slots)[0][:, 0, : cache.length, 0]


def computed(prefixes: Prefixes, tokens: Tensor) -> int:
    """Open, feed what is not cached, close; how many tokens were reused."""
    cache, matched = prefixes.open(tokens, tokens.shape[1])
    assert feed(cache, tokens[:, matched:]).tolist() == tokens.tolist()
    prefixes.close(cache)
    return matched


def test_a_second_prompt_reads_the_first_ones_keys() -> None:
    prefixes = empty()
    assert computed(prefixes, PROMPT) == 0
    assert computed(prefixes, PROMPT) == 9
    assert computed(prefixes, torch.cat((PROMPT, PROMPT), dim=1)) == 10


def test_two_open_rows_that_part_inside_a_page_do_not_see_each_other() -> None:
    prefixes = empty()
    computed(prefixes, PROMPT)
    one, other = PROMPT.clone(), PROMPT.clone()
    one[:, 6:], other[:, 7:] = 70, 80
    first, at_first = prefixes.open(one, 12)
    second, at_second = prefixes.open(other, 12)
    assert (at_first, at_second) == (6, 7)
    assert feed(second, other[:, 7:]).tolist() == other.tolist()
    assert feed(first, one[:, 6:]).tolist() == one.tolist()
    prefixes.close(first)
    prefixes.close(second)
    assert [computed(prefixes, tokens) for tokens in (PROMPT, one, other)] == [9, 9, 9]


def test_generated_tokens_are_reused_when_they_are_named() -> None:
    prefixes = empty()
    generated = torch.tensor([[31, 32, 33]])
    cache, matched = prefixes.open(PROMPT, 16)
    feed(cache, torch.cat((PROMPT[:, matched:], generated), dim=1))
    prefixes.close(cache, generated)
    assert computed(prefixes, torch.cat((PROMPT, generated, PROMPT), dim=1)) == 13


def test_padding_is_part_of_a_prefix() -> None:
    prefixes = empty(24)
    rows = PROMPT.expand(2, -1)
    cache, _ = prefixes.open(rows, 10, left_padding=(0, 2))
    feed(cache, rows)
    prefixes.close(cache)
    assert prefixes.open(rows, 10, left_padding=(0, 2))[1] == 9
    assert prefixes.open(rows, 10, left_padding=(2, 0))[1] == 9
    assert prefixes.open(rows, 10, left_padding=(0, 3))[1] == 2


def test_the_cache_of_a_closed_batch_serves_the_next_one_of_its_shape() -> None:
    prefixes = empty()
    first, _ = prefixes.open(PROMPT, 10)
    prefixes.close(first)
    second, _ = prefixes.open(PROMPT + 1, 12)
    assert second is first
    assert prefixes.open(PROMPT, 13)[0] is not first


def test_a_closed_cache_is_refused() -> None:
    prefixes = empty()
    cache, _ = prefixes.open(PROMPT, 10)
    prefixes.close(cache)
    with pytest.raises(SharedSlots, match="closed"):
        feed(cache, PROMPT)
    with pytest.raises(SharedSlots, match="closed"):
        prefixes.close(cache)


def test_shared_slots_are_never_written_again() -> None:
    prefixes = empty()
    computed(prefixes, PROMPT)
    cache, matched = prefixes.open(PROMPT, 12)
    assert matched == 9
    cache.rewind(9)
    with pytest.raises(SharedSlots, match="back to slot 8: the first 9 are shared"):
        cache.rewind(8)


def test_a_pool_whose_pages_are_all_open_refuses_and_serves_again_once_one_is_closed() -> None:
    prefixes = empty(pages=6)
    first, _ = prefixes.open(PROMPT, 12)
    second, _ = prefixes.open(PROMPT + 20, 12)
    with pytest.raises(CacheFull, match="3 pages are asked for, 0 of 6 are free"):
        prefixes.open(PROMPT + 40, 12)
    feed(first, PROMPT)
    prefixes.close(first)
    assert computed(prefixes, PROMPT + 40) == 0
    prefixes.close(second)
