"""Three layouts, one behavior: what is written is what is read, and a full cache refuses before it writes."""

from collections.abc import Callable

import pytest
import torch

from harness.errors import CacheFull
from models.common.kv_cache import GrowingCache, KVCache, PagedCache

CPU = torch.device("cpu")
F32 = torch.float32
LAYOUTS: dict[str, Callable[[list[int] | None], KVCache]] = {
    "growing": lambda starts: GrowingCache(1, 2, 4, 3, F32, CPU, starts),
    "static": lambda starts: PagedCache(1, 2, 4, 3, 12, 12, F32, CPU, starts),
    "paged": lambda starts: PagedCache(1, 2, 4, 3, 12, 4, F32, CPU, starts),
}
EACH = pytest.mark.parametrize("layout", LAYOUTS)


def tokens(count: int) -> torch.Tensor:
    return torch.randn(3, count, 2, 4, generator=torch.Generator().manual_seed(count))


@EACH
def test_reads_what_was_written_in_order(layout: str) -> None:
    cache = LAYOUTS[layout](None)
    keys = [tokens(5), tokens(3)]
    for part in keys:
        slots = cache.extend(part.shape[1])
        cache.layers[0].write(part, -part, slots)
    read, values = cache.layers[0].read(slots)
    assert torch.equal(read.transpose(1, 2)[:, :8], torch.cat(keys, 1))
    assert torch.equal(values, -read)


@EACH
def test_rewind_forgets_the_tail_and_writes_over_it(layout: str) -> None:
    cache = LAYOUTS[layout](None)
    first, second = tokens(6), tokens(2)
    slots = cache.extend(6)
    cache.layers[0].write(first, first, slots)
    cache.rewind(4)
    slots = cache.extend(2)
    cache.layers[0].write(second, second, slots)
    read, _ = cache.layers[0].read(slots)
    assert torch.equal(read.transpose(1, 2)[:, :6], torch.cat((first[:, :4], second), 1))
    assert cache.lengths.tolist() == [6, 6, 6]


@EACH
def test_positions_count_from_the_end_of_the_padding(layout: str) -> None:
    cache = LAYOUTS[layout]([0, 2, 3])
    assert cache.extend(4).positions().tolist() == [[0, 1, 2, 3], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert cache.extend(1).positions().tolist() == [[4], [2], [1]]


@pytest.mark.parametrize("layout", ["static", "paged"])
def test_a_full_cache_refuses_before_it_changes(layout: str) -> None:
    cache = LAYOUTS[layout](None)
    cache.extend(11)
    with pytest.raises(CacheFull, match="12"):
        cache.extend(2)
    assert cache.length == 11
    assert cache.lengths.tolist() == [11, 11, 11]


def test_pages_of_a_row_are_not_neighbors() -> None:
    table = LAYOUTS["paged"](None).table
    assert sorted(table.flatten().tolist()) == list(range(9))
    assert not bool((table.diff(dim=1) == 1).any())
