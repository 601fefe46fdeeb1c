"""Hash what tensors hold, fast enough for the weights of a whole model on a device."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

ROW = 1 << 16
"""Numbers that share a factor's place; a tensor is read as rows of so many."""
CHUNK_ROWS = 256
"""Read at once: what is multiplied takes memory of its own."""


class ContentHash:
    """A linear hash of bits under factors that are drawn anew for every instance, so that nothing can be written to
    have a hash that is known beforehand. All factors are odd: contents that differ in one number never hash alike."""

    def __init__(self) -> None:
        drawn = torch.Generator().manual_seed(secrets.randbits(63))
        self.factors = torch.randint(-(2**31), 2**31, (ROW,), generator=drawn, dtype=torch.int64) | 1
        self.rows = torch.randint(-(2**31), 2**31, (1 << 12,), generator=drawn, dtype=torch.int64) | 1
        self.on: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def of(self, tensor: Tensor) -> int:
        """Hash the shape, type and bits of one tensor."""
        bits = _bits(tensor.detach())
        factors, row_factors = self._factors(bits.device)
        total = torch.zeros((), dtype=torch.int64, device=bits.device)
        whole = bits.numel() // ROW * ROW
        for number, chunk in enumerate(bits[:whole].view(-1, ROW).split(CHUNK_ROWS)):
            sums = (chunk.long() * factors).sum(1)
            first = number * CHUNK_ROWS
            places = torch.arange(first, first + len(sums), device=bits.device)
            total += (sums * row_factors[places % len(row_factors)] * (2 * places + 1)).sum()
        rest = bits[whole:].long()
        total += (rest * factors[: len(rest)]).sum() * 3
        return hash((int(total), str(tensor.dtype), tuple(tensor.shape)))

    def of_all(self, tensors: Iterable[tuple[str, Tensor]]) -> dict[str, int]:
        """Hash tensors by name."""
        return {name: self.of(tensor) for name, tensor in tensors}

    def _factors(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if device not in self.on:
            self.on[device] = (self.factors.to(device), self.rows.to(device))
        return self.on[device]


def differing(before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    """Name what was hashed otherwise, or is there on one side alone."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def _bits(tensor: Tensor) -> Tensor:
    """The memory of a tensor as a flat int32, int16 or uint8 view; a copy where it does not lie densely."""
    flat = tensor.contiguous().flatten()
    if flat.dtype == torch.bool or flat.element_size() == 1:
        return flat.view(torch.uint8)
    if flat.element_size() == 2:
        paired = flat.numel() % 2 == 0 and flat.storage_offset() % 2 == 0
        return flat.view(torch.int32 if paired else torch.int16)
    return flat.view(torch.int32)
