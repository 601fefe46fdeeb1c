"""Tensors in the middle of poisoned memory: what a kernel reads or writes beside its inputs, and beside what it makes
itself, shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from harness.errors import HarnessError
from harness.parity.tolerance.bitwise import bits

MIN_HALO_ELEMENTS = 4096
MAX_HALO_ELEMENTS = 1 << 20
ALIGNMENT_BYTES = 64


@dataclass(frozen=True)
class Poison:
    """What lies around an input. Integers stay small: an index read from the halo must not fault before it shows."""

    floating: float
    integer: int

    def fill(self, buffer: Tensor) -> None:
        if not buffer.is_floating_point():
            buffer.fill_(self.integer)
        elif self.floating != self.floating:
            buffer.fill_(torch.nan)
        else:
            buffer.fill_(self.floating * torch.finfo(buffer.dtype).max)


NANS = Poison(floating=torch.nan, integer=1)
LARGE = Poison(floating=0.5, integer=0)
"""Half the largest finite value: shows reads that a NaN-ignoring maximum or comparison would swallow."""


class Guarded:
    """A copy of a tensor with its strides, its alignment and poison on both sides and in the gaps between its rows.

    Elements that share memory in the source share it in the copy.
    """

    def __init__(self, source: Tensor, poison: Poison) -> None:
        extent = (
            1 + sum((n - 1) * s for n, s in zip(source.shape, source.stride(), strict=True)) if source.numel() else 0
        )
        farthest = max([MIN_HALO_ELEMENTS, *source.stride()])
        halo = -(-min(farthest, MAX_HALO_ELEMENTS) // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        start = halo + source.data_ptr() % ALIGNMENT_BYTES // source.element_size()
        self._buffer = torch.empty(start + extent + halo, dtype=source.dtype, device=source.device)
        poison.fill(self._buffer)
        self._start = start
        self.tensor = self._view(self._buffer, source)
        _stored(self.tensor).copy_(_stored(source))
        self._before = self._buffer.clone()

    def _view(self, buffer: Tensor, like: Tensor) -> Tensor:
        return buffer.as_strided(like.shape, like.stride(), self._start)

    def owns(self, tensor: Tensor) -> bool:
        """Whether `tensor` lies in this buffer."""
        return tensor.untyped_storage().data_ptr() == self._buffer.untyped_storage().data_ptr()

    def holds(self, tensor: Tensor) -> bool:
        """Whether `tensor` is this input itself: same memory, same layout."""
        mine = self.tensor
        return (tensor.data_ptr(), tensor.shape, tensor.stride()) == (mine.data_ptr(), mine.shape, mine.stride())

    def changes(self) -> tuple[int, int]:
        """Elements whose bits changed since construction: (inside the tensor, in the poison around it)."""
        changed = bits(self._buffer) != bits(self._before)
        mine = _stored(self._view(changed, self.tensor))
        inside = int(mine.count_nonzero())
        mine.fill_(False)
        return inside, int(changed.count_nonzero())


class Made(TorchDispatchMode):
    """While open, every tensor made empty or of one value is a guarded one: outputs and workspaces of a kernel."""

    _makers = frozenset(
        {
            torch.ops.aten.empty.memory_format,
            torch.ops.aten.empty_strided.default,
            torch.ops.aten.empty_like.default,
            torch.ops.aten.new_empty.default,
            torch.ops.aten.new_empty_strided.default,
            torch.ops.aten.zeros.default,
            torch.ops.aten.zeros_like.default,
            torch.ops.aten.new_zeros.default,
            torch.ops.aten.full.default,
            torch.ops.aten.full_like.default,
            torch.ops.aten.new_full.default,
        }
    )

    def __init__(self, poison: Poison) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.poison = poison
        self.guards: list[Guarded] = []

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func not in self._makers or not out.numel() or out.device.type == "meta":
            return out
        self.guards.append(Guarded(out, self.poison))
        return self.guards[-1].tensor

    def overrun(self, outputs: Mapping[str, Tensor]) -> Iterator[tuple[str, int]]:
        """What was written beside a tensor, as far as any was: the name of the output that lies in it, or its shape,
        and how many elements."""
        for guard in self.guards:
            if outside := guard.changes()[1]:
                names = [name for name, output in outputs.items() if guard.owns(output)]
                yield names[0] if names else f"workspace {tuple(guard.tensor.shape)}", outside


def place(inputs: Mapping[str, Any], poison: Poison) -> tuple[dict[str, Any], dict[str, Guarded]]:
    """Every tensor of `inputs` copied into its own guarded buffer: (arguments to pass, guards by name). Other values
    pass as they are; a container of tensors raises HarnessError, since nothing would guard what is inside."""
    for name, value in inputs.items():
        if isinstance(value, list | tuple | dict) and any(isinstance(item, Tensor) for item in _items(value)):
            raise HarnessError(f"input {name} is a {type(value).__name__} of tensors, which no halo would guard")
    guards = {name: Guarded(value, poison) for name, value in inputs.items() if isinstance(value, Tensor)}
    return {**inputs, **{name: guard.tensor for name, guard in guards.items()}}, guards


def _items(value: list[Any] | tuple[Any, ...] | dict[Any, Any]) -> list[Any]:
    return list(value.values() if isinstance(value, dict) else value)


def _stored(tensor: Tensor) -> Tensor:
    """Each stored element once: axes of stride zero cut to their first index."""
    for axis, (length, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        if stride == 0 and length > 1:
            tensor = tensor.narrow(axis, 0, 1)
    return tensor
