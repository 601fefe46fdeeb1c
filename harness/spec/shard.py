"""The part of a parameter that one rank keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn


class Sliceable(Protocol):
    """A tensor, or one that is still in its file."""

    @property
    def shape(self) -> Sequence[int]: ...
    def __getitem__(self, index: slice | tuple[slice, ...], /) -> Tensor: ...


@dataclass(frozen=True)
class Shard:
    """The part of a parameter that this process keeps: `ranges` of its dimension `dim`, one after another. A parameter
    that carries one as `shard` is loaded from the whole tensor of that shape."""

    shape: tuple[int, ...]
    dim: int
    ranges: tuple[slice, ...]

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Shard:
        return cls(tuple(shape), 0, (slice(0, shape[0]),))

    def kept_shape(self) -> tuple[int, ...]:
        kept = sum(part.stop - part.start for part in self.ranges)
        return (*self.shape[: self.dim], kept, *self.shape[self.dim + 1 :])

    def take(self, tensor: Sliceable) -> Tensor:
        import torch

        before = (slice(None),) * self.dim
        parts = [tensor[(*before, part)] for part in self.ranges]
        return (parts[0] if len(parts) == 1 else torch.cat(parts, self.dim)).contiguous()


def sharded(parameter: nn.Parameter, shard: Shard | None) -> nn.Parameter:
    """The parameter, carrying `shard`; as it came where that is None."""
    if shard is not None:
        vars(parameter)["shard"] = shard
    return parameter
