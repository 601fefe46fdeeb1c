"""A sum over ranks in one CUDA launch on each, for as little data as a decode step sums.

What Triton cannot say: loads and stores that another device sees, in words that carry their own flag.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from models.common.kernels.cuda_library import integers, start

SOURCE = Path(__file__).with_suffix(".cu")
TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
WORD_BYTES = 4
"""Of a part that travel in one word of an inbox."""

_launched = 0


def launches() -> int:
    """How often this process has launched the kernel; a captured graph counts when it is captured."""
    return _launched


@dataclass(frozen=True)
class Inbox:
    """Where ranks leave their parts for each other. One serves any number of sums one after another on one stream,
    captured in a graph or not, if every rank asks for the same ones in the same order."""

    words: Tensor
    """Of the ranks that this process is: [ranks, 2, world, capacity] int64, each a number of an exchange above 4 bytes
    of a part."""
    addresses: Tensor
    """[world] int64: where each rank's words begin, as this device sees them."""
    state: Tensor
    """[ranks, 2] int32: exchanges done, and 0 between launches."""
    first: int
    """The first rank that this process is."""

    @property
    def world(self) -> int:
        return self.words.shape[2]

    @property
    def capacity(self) -> int:
        return self.words.shape[3]

    @classmethod
    def alone(cls, world: int, capacity: int, device: torch.device) -> Inbox:
        """All ranks on one device and in one launch."""
        words = torch.zeros(world, 2, world, capacity, dtype=torch.int64, device=device)
        each = words[0].numel() * words.element_size()
        addresses = torch.arange(world, device=device) * each + words.data_ptr()
        return cls(words, addresses, torch.zeros(world, 2, dtype=torch.int32, device=device), 0)

    @classmethod
    def joined(cls, capacity: int, device: torch.device) -> Inbox:
        """One rank of the default group on each device; every rank must ask. Raises RuntimeError where devices cannot
        address each other's memory."""
        import torch.distributed._symmetric_memory as symmetric_memory

        rank, world = dist.get_rank(), dist.get_world_size()
        words = symmetric_memory.empty((1, 2, world, capacity), dtype=torch.int64, device=device).zero_()
        handle = symmetric_memory.rendezvous(words, dist.distributed_c10d._get_default_group())
        begin = words.data_ptr() - handle.buffer_ptrs[rank]
        addresses = torch.tensor([pointer + begin for pointer in handle.buffer_ptrs], device=device)
        state = torch.zeros(1, 2, dtype=torch.int32, device=device)
        # Nobody may write before everybody's words are zero.
        torch.cuda.synchronize(device)
        dist.barrier()
        return cls(words, addresses, state, rank)


_shared: ContextVar[Inbox | None] = ContextVar("shared inbox", default=None)


@contextmanager
def shared(inputs: Mapping[str, Any]) -> Iterator[None]:
    """While open, launches that are given no inbox take one and the same, ample for any case of a menu."""
    parts = inputs["parts"]
    token = _shared.set(Inbox.alone(parts.shape[0], 1 << 15, parts.device))
    try:
        yield
    finally:
        _shared.reset(token)


def words_of(x: Tensor) -> int:
    """Words of an inbox that a part [..., N] takes."""
    return -(-x.numel() * x.element_size() // WORD_BYTES)


def launch(parts: Tensor, dtype: torch.dtype, inbox: Inbox | None = None) -> dict[str, Tensor]:
    """As models.common.parallel.joins.sum_parts in one launch of all ranks, added in their order; `parts` in float32 or
    in `dtype`. Allocates an inbox where it is given none."""
    inbox = inbox or _shared.get() or Inbox.alone(parts.shape[0], words_of(parts[0]), parts.device)
    return {"out": _launch(parts, dtype, inbox)}


def all_reduce(part: Tensor, dtype: torch.dtype, inbox: Inbox) -> Tensor:
    """This rank's part [..., N], in float32 or in `dtype` -> the sum of all ranks' [..., N] in `dtype`."""
    return _launch(part.reshape(1, -1, part.shape[-1]), dtype, inbox).view(part.shape)


def _launch(parts: Tensor, dtype: torch.dtype, inbox: Inbox) -> Tensor:
    ranks, rows, columns = parts.shape
    if parts.dtype not in (torch.float32, dtype) or dtype not in TYPES:
        raise ValueError(f"parts in {parts.dtype} and a sum in {dtype}: not this kernel's")
    if parts.stride(2) != 1:
        raise ValueError("the elements of a row must lie side by side, or others would be summed")
    if ranks != inbox.words.shape[0]:
        raise ValueError(f"parts of {ranks} ranks, an inbox of {inbox.words.shape[0]}: the others would wait for ever")
    if (needed := words_of(parts[0])) > inbox.capacity:
        raise ValueError(f"a part of {needed} words, an inbox of {inbox.capacity}: it would be written past its end")
    out = torch.empty(ranks, rows, columns, dtype=dtype, device=parts.device)
    sizes = [rows * columns, columns, inbox.capacity, inbox.first, ranks, inbox.world]
    numbers = [parts.stride(0), parts.stride(1), *sizes, TYPES[parts.dtype], TYPES[dtype]]
    start(SOURCE, (parts, out, inbox.addresses, inbox.state), integers(numbers))
    global _launched
    _launched += 1
    return out
