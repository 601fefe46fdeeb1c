"""Small questions about tensors in memory, and honest answers kept for the next fault on the same question."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from harness.parity.tolerance.bitwise import bits
from harness.spec.kernel import Kernel

Launch = Callable[..., Mapping[str, Tensor]]
MOST_KEPT_BYTES = 1 << 28


def floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim > 0


def shapes(inputs: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple((name, tuple(x.shape)) for name, x in sorted(inputs.items()) if isinstance(x, Tensor))


def longest(y: Tensor) -> int:
    """The longest axis, the last of several."""
    return max(range(y.ndim), key=lambda axis: (y.shape[axis], axis))


def without_last_column(y: Tensor) -> Tensor:
    wrong = y.clone()
    wrong.select(-1, -1).zero_()
    return wrong


def like(source: Tensor, values: Tensor) -> Tensor:
    """`values` in new memory laid out as `source` is; where its elements share memory, those of the first index."""
    extent = 1 + sum((n - 1) * s for n, s in zip(source.shape, source.stride(), strict=True))
    buffer = torch.zeros(extent, dtype=source.dtype, device=source.device)
    copy = buffer.as_strided(source.shape, source.stride())
    shared = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in source.stride())
    copy[shared].copy_(values[shared])
    return copy


def beside(x: Tensor) -> Tensor:
    """The one element that lies after the last of `x`."""
    extent = 1 + sum((n - 1) * s for n, s in zip(x.shape, x.stride(), strict=True))
    return x.as_strided((1,), (1,), x.storage_offset() + extent)


def written(before: Tensor, after: Tensor) -> Tensor:
    """Boolean, per element: the bits changed."""
    return bits(before.contiguous()).ne(bits(after.contiguous()))


class Remembered:
    """A kernel's launch that runs once per input: many faults look at the same honest answer. Each call gives copies,
    and writes what the launch wrote. The memory beside the inputs is not looked at, so that a launch which reads there
    must not be wrapped; the honest one does not, as its own guards prove."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.kept: dict[str, Mapping[str, Tensor]] = {}
        self.bytes = 0

    def __call__(self, **inputs: Any) -> Mapping[str, Tensor]:
        key = _digest(inputs)
        if key not in self.kept:
            outputs = self.kernel.launch(**inputs)
            size = sum(y.numel() * y.element_size() for y in outputs.values())
            if self.bytes + size > MOST_KEPT_BYTES:
                return outputs
            self.bytes += size
            self.kept[key] = {name: y.clone() for name, y in outputs.items()}
            return outputs
        known = self.kept[key]
        return {name: inputs[name].copy_(y) if name in self.kernel.mutates else y.clone() for name, y in known.items()}


def _digest(inputs: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(inputs.items()):
        digest.update(name.encode())
        if isinstance(value, Tensor):
            digest.update(repr((tuple(value.shape), value.stride(), value.dtype)).encode())
            digest.update(_raw(value))
        else:
            digest.update(repr(value).encode())
    return digest.hexdigest()


def _raw(x: Tensor) -> bytes:
    if not x.numel():
        return b""
    raw: Callable[[], bytes] = x.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes
    return raw()
