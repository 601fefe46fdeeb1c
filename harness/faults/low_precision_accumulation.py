"""A kernel that adds up in a type too small for its sums."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
ACCUMULATOR = {torch.float32: torch.bfloat16}
"""By the type that is summed; half types accumulate in themselves."""


def narrow_sums(kernel: Kernel) -> Mutant:
    """The twin of the kernel, every sum of it rounded on the way."""

    def plant(_: Launch) -> Launch:
        def faulty(**inputs: Any) -> Mapping[str, Tensor]:
            with Narrow():
                return kernel.eager(**inputs)

        return faulty

    return Mutant("sums kept in a lower type", "accumulator", plant)


def sums(kernel: Kernel, inputs: Mapping[str, Any]) -> bool:
    """Whether the twin adds anything up."""
    mode = Narrow()
    with mode:
        kernel.eager(**inputs)
    return mode.sums > 0


class Narrow(TorchFunctionMode):
    """While open, products and sums round their accumulator after every STEP terms."""

    def __init__(self) -> None:
        super().__init__()
        self.sums = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        narrowed = NARROWED.get(func)
        if narrowed is None:
            return func(*args, **(kwargs or {}))
        self.sums += 1
        return narrowed(*args, **(kwargs or {}))


def _added(parts: Iterator[Tensor], dtype: torch.dtype) -> Tensor:
    """The sum of float32 parts, in float32."""
    narrow = ACCUMULATOR.get(dtype, dtype)
    total = next(parts).to(narrow)
    for part in parts:
        total = (total.float() + part).to(narrow)
    return total.float()


def _steps(length: int) -> Iterator[slice]:
    return (slice(at, at + STEP) for at in range(0, length, STEP))


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    parts = (x[..., at].float() @ weight[:, at].float().t() for at in _steps(x.shape[-1]))
    out = _added(parts, x.dtype)
    return (out if bias is None else out + bias.float()).to(x.dtype)


def _grouped(x: Tensor, weight: Tensor, *, offs: Tensor, **_: Any) -> Tensor:
    bounds = [0, *offs.tolist()]
    return torch.cat([_linear(x[a:b], weight[e].t()) for e, (a, b) in enumerate(pairwise(bounds))])


def _attention(
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
    parts = (shares[..., at] @ v[..., at, :].float() for at in _steps(k.shape[-2]))
    return _added(parts, q.dtype).to(q.dtype).transpose(1, 2).contiguous().transpose(1, 2)


def _sum(x: Tensor, dim: int, keepdim: bool = False) -> Tensor:
    parts = (x.narrow(dim, at.start, min(STEP, x.shape[dim] - at.start)) for at in _steps(x.shape[dim]))
    return _added((part.float().sum(dim, keepdim) for part in parts), x.dtype).to(x.dtype)


def _mean(x: Tensor, dim: int, keepdim: bool = False) -> Tensor:
    return _sum(x, dim, keepdim) / x.shape[dim]


def _layer_norm(x: Tensor, _: Any, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    centered = x.float() - _mean(x.float(), -1, True)
    scale = torch.rsqrt(_mean(centered.square(), -1, True) + eps)
    return (centered * scale * weight.float() + bias.float()).to(x.dtype)


NARROWED: Mapping[Any, Callable[..., Tensor]] = {
    F.linear: _linear,
    torch._grouped_mm: _grouped,
    F.scaled_dot_product_attention: _attention,
    F.layer_norm: _layer_norm,
    Tensor.sum: _sum,
    Tensor.mean: _mean,
}
