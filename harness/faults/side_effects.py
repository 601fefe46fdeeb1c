"""What a faulty kernel does to memory, to the structure of its answer, and between its calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from harness.faults.remembered import Launch, beside, floating, shapes
from harness.spec.kernel import Kernel


def _first(inputs: Mapping[str, Any], kernel: Kernel) -> Tensor:
    found: Tensor = next(x for name, x in inputs.items() if floating(x) and name not in kernel.mutates)
    return found


def _around(
    after: Callable[[dict[str, Tensor], Mapping[str, Any], Kernel, list[str]], None],
) -> Callable[[Launch, Kernel, list[str]], Launch]:
    """A fault that lets the kernel run, then does something."""

    def make(launch: Launch, kernel: Kernel, fresh: list[str]) -> Launch:
        def faulty(**inputs: Any) -> Mapping[str, Tensor]:
            outputs = dict(launch(**inputs))
            after(outputs, inputs, kernel, fresh)
            return outputs

        return faulty

    return make


def _mutates(_: dict[str, Tensor], inputs: Mapping[str, Any], kernel: Kernel, __: list[str]) -> None:
    _first(inputs, kernel).select(-1, -1).fill_(3.0)


def _writes_beside(_: dict[str, Tensor], inputs: Mapping[str, Any], kernel: Kernel, __: list[str]) -> None:
    beside(_first(inputs, kernel)).fill_(3.0)


def _writes_past(outputs: dict[str, Tensor], _: Mapping[str, Any], __: Kernel, fresh: list[str]) -> None:
    """Into memory that is someone else's where nothing guards the answer: an answer made anew here is guarded."""
    y = torch.empty_like(outputs[fresh[0]]).copy_(outputs[fresh[0]])
    beside(y).fill_(3.0)
    outputs[fresh[0]] = y


def _reads_beside(outputs: dict[str, Tensor], inputs: Mapping[str, Any], kernel: Kernel, fresh: list[str]) -> None:
    outputs[fresh[0]].view(-1)[-1:] += 0 * beside(_first(inputs, kernel))


def _reads_quietly(outputs: dict[str, Tensor], inputs: Mapping[str, Any], kernel: Kernel, fresh: list[str]) -> None:
    last = outputs[fresh[0]].view(-1)[-1:]
    last.copy_(torch.maximum(last, beside(_first(inputs, kernel)).nan_to_num(-torch.inf)))


def _wrong_type(outputs: dict[str, Tensor], _: Mapping[str, Any], __: Kernel, fresh: list[str]) -> None:
    outputs[fresh[0]] = outputs[fresh[0]].to(torch.float64)


def _wrong_shape(outputs: dict[str, Tensor], _: Mapping[str, Any], __: Kernel, fresh: list[str]) -> None:
    outputs[fresh[0]] = outputs[fresh[0]].unsqueeze(0)


def _missing(outputs: dict[str, Tensor], _: Mapping[str, Any], __: Kernel, fresh: list[str]) -> None:
    del outputs[fresh[0]]


def _aliased(outputs: dict[str, Tensor], inputs: Mapping[str, Any], kernel: Kernel, fresh: list[str]) -> None:
    """The answer lies in the memory of an input large enough for it, where the right one is kept apart."""
    for name, x in inputs.items():
        y = outputs[fresh[0]]
        if name not in kernel.mutates and floating(x) and x.dtype == y.dtype and x.shape == y.shape:
            x.copy_(y)
            outputs[fresh[0]] = x
            return
    _mutates(outputs, inputs, kernel, fresh)


def _cached(launch: Launch, kernel: Kernel, fresh: list[str]) -> Launch:
    """The first answer for a shape is given again for every later input of that shape."""
    kept: dict[Any, dict[str, Tensor]] = {}

    def faulty(**inputs: Any) -> Mapping[str, Tensor]:
        outputs = dict(launch(**inputs))
        first = kept.setdefault(shapes(inputs), {name: outputs[name].clone() for name in fresh})
        return outputs | {name: value.clone() for name, value in first.items()}

    return faulty


def _reused(launch: Launch, kernel: Kernel, fresh: list[str]) -> Launch:
    """One buffer per shape: the next call overwrites what the last one answered."""
    kept: dict[Any, Tensor] = {}

    def faulty(**inputs: Any) -> Mapping[str, Tensor]:
        outputs = dict(launch(**inputs))
        y = outputs[fresh[0]]
        outputs[fresh[0]] = kept.setdefault(tuple(y.shape), torch.empty_like(y)).copy_(y)
        return outputs

    return faulty


def _unsteady(launch: Launch, kernel: Kernel, fresh: list[str]) -> Launch:
    """Every call ends one unit in the last place away from the last."""
    calls = [0]

    def faulty(**inputs: Any) -> Mapping[str, Tensor]:
        outputs, name = dict(launch(**inputs)), fresh[0]
        calls[0] += 1
        y = outputs[name]
        outputs[name] = y * (1 + (calls[0] % 3) * torch.finfo(y.dtype).eps)
        return outputs

    return faulty


def _company(launch: Launch, kernel: Kernel, fresh: list[str]) -> Launch:
    """Rows in company are rounded otherwise than a row alone."""

    def faulty(**inputs: Any) -> Mapping[str, Tensor]:
        outputs, name = dict(launch(**inputs)), fresh[0]
        y = outputs[name]
        outputs[name] = y if y.shape[0] == 1 else torch.nextafter(y, torch.zeros_like(y))
        return outputs

    return faulty


def _freed(launch: Launch, kernel: Kernel, fresh: list[str]) -> Launch:
    """It computes nothing and hopes to find the right answer in memory that was just given back."""

    def faulty(**inputs: Any) -> Mapping[str, Tensor]:
        outputs = dict(launch(**inputs))
        return outputs | {name: torch.empty_like(outputs[name]) for name in fresh}

    return faulty


def _contiguous(launch: Launch, kernel: Kernel, fresh: list[str]) -> Launch:
    """Strides are ignored: every input is read as if its elements lay side by side."""

    def faulty(**inputs: Any) -> Mapping[str, Tensor]:
        packed = {
            name: x.as_strided(x.shape, torch.empty(x.shape, device="meta").stride(), x.storage_offset())
            for name, x in inputs.items()
            if floating(x) and name not in kernel.mutates
        }
        return launch(**{**inputs, **packed})

    return faulty


SIDE_EFFECTS: tuple[tuple[str, str, Callable[..., Launch]], ...] = (
    ("input mutated", "memory", _around(_mutates)),
    ("writes out of bounds", "memory", _around(_writes_beside)),
    ("writes past its answer", "memory", _around(_writes_past)),
    ("reads out of bounds", "memory", _around(_reads_beside)),
    ("reads out of bounds, ignoring NaN", "memory", _around(_reads_quietly)),
    ("answer in an input's memory", "memory", _around(_aliased)),
    ("buffer of the answer reused", "memory", _reused),
    ("answer from freed memory", "memory", _freed),
    ("answer cached by shape", "cached", _cached),
    ("another answer every time", "unsteady", _unsteady),
    ("another type returned", "downgrade", _around(_wrong_type)),
    ("another shape returned", "structure", _around(_wrong_shape)),
    ("an output missing", "structure", _around(_missing)),
    ("strides ignored", "stride", _contiguous),
)
PROMISED: tuple[tuple[str, str, Callable[..., Launch]], ...] = (("rounded otherwise in company", "batch", _company),)
"""Of a kernel that promises rows their bits."""
