"""Faults that any kernel can have, planted around its launch: what it answers, and what it does to memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from harness.mutants.memory import beside, like, written
from harness.spec import Kernel, Mutant

Launch = Callable[..., Mapping[str, Tensor]]
Change = Callable[[Tensor, Tensor], Tensor]
"""(an answer, which of its elements the kernel wrote) -> a wrong answer."""

LOWER = {torch.float32: torch.bfloat16, torch.float16: torch.float8_e4m3fn, torch.bfloat16: torch.float8_e5m2}
"""The type that a silent downgrade computes in."""
ELSEWHERE = 104_729
"""The seed of the menu that a kernel made for known shapes was made for."""


def every(kernel: Kernel, dtype: torch.dtype, device: torch.device) -> tuple[Mutant, ...]:
    """The faults of `kernel`: one of each kind per output or input that it fits, then those that it declares, which
    stand for any of the same name: so a kernel says where such a fault is none."""
    plain = kernel.twin(**next(_menu(kernel, dtype, device)))
    outputs = [name for name, value in plain.items() if value.is_floating_point()]
    made: list[Mutant] = []
    for name in outputs:
        made += [
            Mutant(f"{name}: {fault}", kind, _answer(kernel, name, change)) for fault, kind, change in ANSWERS[:-2]
        ]
        if name not in kernel.copies:
            fault, factor = SHRUNK if kernel.computes(torch.float32) else SHRUNK_IN_HALF
            made.append(Mutant(f"{name}: {fault}", "scale", _shrunk(kernel, name, factor)))
        made += [
            Mutant(f"{name}: {fault}", kind, _answer(kernel, name, change))
            for fault, kind, change in ANSWERS[-2:]
            if name not in kernel.mutates
        ]
    for name in _read(kernel, dtype, device):
        made += [Mutant(f"{name} {fault}", "input", _reading(name, change)) for fault, change in INPUTS]
    fresh = [name for name in outputs if name not in kernel.mutates]
    made += [Mutant(fault, kind, partial(make, kernel=kernel, fresh=fresh)) for fault, kind, make in DEEDS]
    made.append(Mutant("made for known shapes", "special case", _for_known(kernel, dtype, device)))
    declared = {mutant.name for mutant in kernel.mutants}
    return (*(mutant for mutant in made if mutant.name not in declared), *kernel.mutants)


def _menu(kernel: Kernel, dtype: torch.dtype, device: torch.device) -> Iterator[dict[str, Any]]:
    generator = torch.Generator(device).manual_seed(ELSEWHERE)
    return (dict(case.inputs) for case in kernel.menu(dtype, device, generator))


def _read(kernel: Kernel, dtype: torch.dtype, device: torch.device) -> list[str]:
    """The floating-point inputs that some case gives and that are not written."""
    names = {name: None for case in _menu(kernel, dtype, device) for name, x in case.items() if _floating(x)}
    return [name for name in names if name not in kernel.mutates]


def _floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim > 0


# What it answers. A fault in memory that it writes in place touches only what it wrote.


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
            exact = kernel.twin(**{key: _wide(value) for key, value in inputs.items()})[name]
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


def _longest(y: Tensor) -> int:
    return max(range(y.ndim), key=lambda axis: (y.shape[axis], axis))


def _zeros(y: Tensor, _: Tensor) -> Tensor:
    return torch.zeros_like(y)


def _tail_dropped(y: Tensor, _: Tensor) -> Tensor:
    return _without_last_column(y)


def _without_last_column(y: Tensor) -> Tensor:
    wrong = y.clone()
    wrong.select(-1, -1).zero_()
    return wrong


def _stale(y: Tensor, _: Tensor) -> Tensor:
    """The last index of the first axis that has several holds what the one before it holds."""
    axis = next((axis for axis in range(y.ndim) if y.shape[axis] > 1), 0)
    wrong = y.clone()
    wrong.select(axis, -1).copy_(y.select(axis, -2 if y.shape[axis] > 1 else -1))
    return wrong


def _unwritten(y: Tensor, _: Tensor) -> Tensor:
    """The last index of the longest axis was never written."""
    wrong, axis = torch.empty_like(y), _longest(y)
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
    ("tail never written", "tail", _unwritten),
    ("strides of the transpose", "stride", _transposed),
)


# What it reads.


def _reading(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[Launch], Launch]:
    def plant(launch: Launch) -> Launch:
        def faulty(**inputs: Any) -> Mapping[str, Tensor]:
            if not _floating(inputs.get(name)):
                return launch(**inputs)
            return launch(**{**inputs, name: like(inputs[name], change(inputs[name]))})

        return faulty

    return plant


def _rolled(x: Tensor) -> Tensor:
    return x.roll(1, _longest(x))


INPUTS: tuple[tuple[str, Callable[[Tensor], Tensor]], ...] = (
    ("not read", torch.zeros_like),
    ("read without its last column", _without_last_column),
    ("read one place away", _rolled),
)


# What it does to memory, to its structure, and between calls.


def _first(inputs: Mapping[str, Any], kernel: Kernel) -> Tensor:
    found: Tensor = next(x for name, x in inputs.items() if _floating(x) and name not in kernel.mutates)
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
        if name not in kernel.mutates and _floating(x) and x.dtype == y.dtype and x.shape == y.shape:
            x.copy_(y)
            outputs[fresh[0]] = x
            return
    _mutates(outputs, inputs, kernel, fresh)


def _cached(launch: Launch, kernel: Kernel, fresh: list[str]) -> Launch:
    """The first answer for a shape is given again for every later input of that shape."""
    kept: dict[Any, dict[str, Tensor]] = {}

    def faulty(**inputs: Any) -> Mapping[str, Tensor]:
        outputs = dict(launch(**inputs))
        first = kept.setdefault(_shapes(inputs), {name: outputs[name].clone() for name in fresh})
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
            if _floating(x) and name not in kernel.mutates
        }
        return launch(**{**inputs, **packed})

    return faulty


DEEDS: tuple[tuple[str, str, Callable[..., Launch]], ...] = (
    ("input mutated", "memory", _around(_mutates)),
    ("writes out of bounds", "memory", _around(_writes_beside)),
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


def _shapes(inputs: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple((name, tuple(x.shape)) for name, x in sorted(inputs.items()) if isinstance(x, Tensor))


def _for_known(kernel: Kernel, dtype: torch.dtype, device: torch.device) -> Callable[[Launch], Launch]:
    """Right on every shape of a menu that was drawn before the gate drew its own; zeros on any other."""
    known = {_shapes(case) for case in _menu(kernel, dtype, device)}

    def plant(launch: Launch) -> Launch:
        def faulty(**inputs: Any) -> Mapping[str, Tensor]:
            outputs = dict(launch(**inputs))
            if _shapes(inputs) in known:
                return outputs
            return {name: y if name in kernel.mutates else torch.zeros_like(y) for name, y in outputs.items()}

        return faulty

    return plant
