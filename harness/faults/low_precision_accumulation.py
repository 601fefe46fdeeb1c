"""A kernel that adds up in a type too small for its sums, all along or where its programs leave their parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from harness.faults.remembered import Launch
from harness.spec.kernel import Kernel
from harness.spec.mutant import Mutant

STEP = 16
"""Terms that are added exactly before the accumulator rounds: what a matrix unit does at once."""
SPLITS = 4
"""Programs that share a sum."""


@dataclass(frozen=True)
class Way:
    """How a long sum is added up."""

    terms: Callable[[int], int]
    """The length of a sum -> how many terms are added exactly."""
    total: Callable[[Iterator[Tensor], torch.dtype], Tensor]
    """Float32 sums of so many terms, and the type that is summed -> their sum in float32."""

    def shares(self, length: int) -> Iterator[slice]:
        size = self.terms(length)
        return (slice(at, min(at + size, length)) for at in range(0, length, size))


def _accumulated(parts: Iterator[Tensor], dtype: torch.dtype) -> Tensor:
    """In an accumulator that rounds each time: of half types itself, of float32 bfloat16."""
    narrow = torch.bfloat16 if dtype == torch.float32 else dtype
    total = next(parts).to(narrow)
    for part in parts:
        total = (total.float() + part).to(narrow)
    return total.float()


def _left_in_half(parts: Iterator[Tensor], dtype: torch.dtype) -> Tensor:
    """In float32, each part left in memory in the type that is summed: right where that is float32."""
    return torch.stack([part.to(dtype).float() for part in parts]).sum(0)


ACCUMULATED = Way(lambda length: STEP, _accumulated)
SPLIT = Way(lambda length: max(1, -(-length // SPLITS)), _left_in_half)


def narrow_sums(kernel: Kernel) -> Mutant:
    """The twin of the kernel, every sum of it rounded on the way."""
    return Mutant("sums kept in a lower type", "accumulator", _added_up(kernel, ACCUMULATED))


def narrow_parts(kernel: Kernel) -> Mutant:
    """The twin of the kernel, the parts of every sum left in a half type where that is what is summed."""
    return Mutant("partial sums left in a half type", "accumulator", _added_up(kernel, SPLIT))


def _added_up(kernel: Kernel, way: Way) -> Callable[[Launch], Launch]:
    def plant(_: Launch) -> Launch:
        def faulty(**inputs: Any) -> Mapping[str, Tensor]:
            with Narrow(way):
                return kernel.eager(**inputs)

        return faulty

    return plant


def sums(kernel: Kernel, inputs: Mapping[str, Any]) -> bool:
    """Whether the twin adds anything up."""
    mode = Narrow(ACCUMULATED)
    with mode:
        kernel.eager(**inputs)
    return mode.sums > 0


class Narrow(TorchFunctionMode):
    """While open, products and sums are added up in `way`."""

    def __init__(self, way: Way) -> None:
        super().__init__()
        self.way, self.sums = way, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        narrowed = NARROWED.get(func)
        if narrowed is None:
            return func(*args, **(kwargs or {}))
        self.sums += 1
        return narrowed(self.way, *args, **(kwargs or {}))


def _linear(way: Way, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    parts = (x[..., at].float() @ weight[:, at].float().t() for at in way.shares(x.shape[-1]))
    out = way.total(parts, x.dtype)
    return (out if bias is None else out + bias.float()).to(x.dtype)


def _grouped(way: Way, x: Tensor, weight: Tensor, *, offs: Tensor, **_: Any) -> Tensor:
    bounds = [0, *offs.tolist()]
    return torch.cat([_linear(way, x[a:b], weight[e].t()) for e, (a, b) in enumerate(pairwise(bounds))])


def _attention(
    way: Way,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    scores = q.float() @ k.float().mT * (scale or q.shape[-1] ** -0.5)
    shares = (scores if attn_mask is None else scores.masked_fill(~attn_mask, -torch.inf)).softmax(-1)
    parts = (shares[..., at] @ v[..., at, :].float() for at in way.shares(k.shape[-2]))
    return way.total(parts, q.dtype).to(q.dtype).transpose(1, 2).contiguous().transpose(1, 2)


def _sum(way: Way, x: Tensor, dim: int, keepdim: bool = False) -> Tensor:
    parts = (x.narrow(dim, at.start, at.stop - at.start) for at in way.shares(x.shape[dim]))
    return way.total((part.float().sum(dim, keepdim) for part in parts), x.dtype).to(x.dtype)


def _mean(way: Way, x: Tensor, dim: int, keepdim: bool = False) -> Tensor:
    return _sum(way, x, dim, keepdim) / x.shape[dim]


def _layer_norm(way: Way, x: Tensor, _: Any, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    centered = x.float() - _mean(way, x.float(), -1, True)
    scale = torch.rsqrt(_mean(way, centered.square(), -1, True) + eps)
    return (centered * scale * weight.float() + bias.float()).to(x.dtype)


NARROWED: Mapping[Any, Callable[..., Tensor]] = {
    F.linear: _linear,
    torch._grouped_mm: _grouped,
    F.scaled_dot_product_attention: _attention,
    F.layer_norm: _layer_norm,
    Tensor.sum: _sum,
    Tensor.mean: _mean,
}
