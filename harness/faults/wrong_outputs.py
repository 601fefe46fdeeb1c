"""Wrong answers of a kernel: a fault in memory that it writes in place touches only what it wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from harness.faults.remembered import Launch, longest, without_last_column, written
from harness.spec.kernel import Kernel
from harness.spec.mutant import Mutant

Change = Callable[[Tensor, Tensor], Tensor]
"""(an answer, which of its elements the kernel wrote) -> a wrong answer."""
LOWER = {torch.float32: torch.bfloat16, torch.float16: torch.float8_e4m3fn, torch.bfloat16: torch.float8_e5m2}
"""The type that a silent downgrade computes in."""


def of_output(kernel: Kernel, name: str) -> list[Mutant]:
    """The wrong answers that fit this output."""
    fitting = ANSWERS if name in kernel.mutates else (*ANSWERS, *FRESH)
    made = [Mutant(f"{name}: {fault}", kind, _answer(kernel, name, change)) for fault, kind, change in fitting]
    if name not in kernel.bitwise_outputs:
        fault, factor = SHRUNK if kernel.computes(torch.float32) else SHRUNK_IN_HALF
        made.append(Mutant(f"{name}: {fault}", "scale", _shrunk(kernel, name, factor)))
    return made


def _answer(kernel: Kernel, name: str, change: Change) -> Callable[[Launch], Launch]:
    def plant(launch: Launch) -> Launch:
        def faulty(**inputs: Any) -> Mapping[str, Tensor]:
            before = inputs[name].clone() if name in kernel.mutates else None
            outputs = dict(launch(**inputs))
            right = outputs[name]
            if before is None:
                outputs[name] = change(right, torch.ones_like(right, dtype=torch.bool))
            else:
                own = written(before, right)
                right.copy_(torch.where(own, change(right, own), right))
            return outputs

        return faulty

    return plant


def _shrunk(kernel: Kernel, name: str, factor: float) -> Callable[[Launch], Launch]:
    """Lost before the answer is rounded: afterwards half a unit in the last place may be more than that."""

    def plant(launch: Launch) -> Launch:
        def faulty(**inputs: Any) -> Mapping[str, Tensor]:
            exact = kernel.eager(**{key: _wide(value) for key, value in inputs.items()})[name]
            return _answer(kernel, name, lambda y, _: (exact * factor).to(y.dtype))(launch)(**inputs)

        return faulty

    return plant


def _wide(value: Any) -> Any:
    """A float64 copy of floating-point tensors, a plain one of others."""
    if not isinstance(value, Tensor):
        return value
    return value.double() if value.is_floating_point() else value.clone()


def _grown(y: Tensor, _: Tensor) -> Tensor:
    return (y.double() * 1.01).to(y.dtype)


def _offset(y: Tensor, own: Tensor) -> Tensor:
    clean = y.double().nan_to_num(0, 0, 0)[own]
    return (y.double() + 0.02 * clean.square().mean().sqrt()).to(y.dtype)


def _downgraded(y: Tensor, _: Tensor) -> Tensor:
    return y.to(LOWER[y.dtype]).to(y.dtype)


def _one_wrong(y: Tensor, own: Tensor) -> Tensor:
    """The largest finite element is off by a sixteenth."""
    wrong = y.clone()
    at = y.double().nan_to_num(0, 0, 0).abs().where(own, 0).flatten().argmax()
    wrong.view(-1)[at] *= 1 + 1 / 16
    return wrong


def _zeros(y: Tensor, _: Tensor) -> Tensor:
    return torch.zeros_like(y)


def _tail_dropped(y: Tensor, _: Tensor) -> Tensor:
    return without_last_column(y)


def _stale(y: Tensor, _: Tensor) -> Tensor:
    """The last index of the first axis that has several holds what the one before it holds."""
    axis = next((axis for axis in range(y.ndim) if y.shape[axis] > 1), 0)
    wrong = y.clone()
    wrong.select(axis, -1).copy_(y.select(axis, -2 if y.shape[axis] > 1 else -1))
    return wrong


def _unwritten(y: Tensor, _: Tensor) -> Tensor:
    """The last index of the longest axis was never written."""
    wrong, axis = torch.empty_like(y), longest(y)
    wrong.narrow(axis, 0, y.shape[axis] - 1).copy_(y.narrow(axis, 0, y.shape[axis] - 1))
    return wrong


def _transposed(y: Tensor, _: Tensor) -> Tensor:
    """The right values in the order of a transposed result."""
    return y.mT.contiguous().view(y.shape)


SHRUNK = ("one thousandth too small", 0.999)
SHRUNK_IN_HALF = ("half a percent too small", 0.995)
"""Of a kernel that computes no float32: plain code in bfloat16 may itself be a thousandth off on average."""
ANSWERS: tuple[tuple[str, str, Change], ...] = (
    ("zeros", "answer", _zeros),
    ("one percent too large", "scale", _grown),
    ("a small constant added", "offset", _offset),
    ("computed in a lower type", "downgrade", _downgraded),
    ("one element wrong", "element", _one_wrong),
    ("tail dropped", "tail", _tail_dropped),
    ("last row stale", "stale", _stale),
)
FRESH: tuple[tuple[str, str, Change], ...] = (
    ("tail never written", "tail", _unwritten),
    ("strides of the transpose", "stride", _transposed),
)
"""Of an output in memory of its own."""
