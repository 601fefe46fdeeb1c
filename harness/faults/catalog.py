"""Every fault that a kernel can have, planted around its launch: what it answers, what it reads, and what it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from harness.faults import wrong_outputs
from harness.faults.low_precision_accumulation import narrow_parts, narrow_sums, sums
from harness.faults.remembered import Launch, floating, like, longest, shapes, without_last_column
from harness.faults.side_effects import PROMISED, SIDE_EFFECTS
from harness.spec.kernel import Kernel
from harness.spec.mutant import Mutant

ELSEWHERE = 104_729
"""The seed of the menu that a kernel made for known shapes was made for."""


def every(kernel: Kernel, dtype: torch.dtype, device: torch.device) -> tuple[Mutant, ...]:
    """The faults of `kernel`: one of each kind per output or input that it fits, then those that it declares, which
    stand for any of the same name: so a kernel says where such a fault is none."""
    first = next(_cases(kernel, dtype, device))
    added = sums(kernel, {name: x.clone() if isinstance(x, Tensor) else x for name, x in first.items()})
    plain = kernel.eager(**first)
    outputs = [name for name, value in plain.items() if value.is_floating_point()]
    made: list[Mutant] = []
    for name in outputs:
        made += wrong_outputs.of_output(kernel, name)
    for name in _read(kernel, dtype, device):
        made += [Mutant(f"{name} {fault}", "input", _reading(name, change)) for fault, change in INPUTS]
    fresh = [name for name in outputs if name not in kernel.mutates]
    made += [Mutant(fault, kind, partial(make, kernel=kernel, fresh=fresh)) for fault, kind, make in SIDE_EFFECTS]
    if kernel.batch_invariant:
        made += [Mutant(fault, kind, partial(make, kernel=kernel, fresh=fresh)) for fault, kind, make in PROMISED]
    made += [narrow_sums(kernel)] if added else []
    made += [narrow_parts(kernel)] if added and kernel.absolute else []
    made.append(Mutant("made for known shapes", "special case", _for_known(kernel, dtype, device)))
    declared = {mutant.name for mutant in kernel.mutants}
    return (*(mutant for mutant in made if mutant.name not in declared), *kernel.mutants)


def _cases(kernel: Kernel, dtype: torch.dtype, device: torch.device) -> Iterator[dict[str, Any]]:
    generator = torch.Generator(device).manual_seed(ELSEWHERE)
    return (dict(case.inputs) for case in kernel.cases(dtype, device, generator))


def _read(kernel: Kernel, dtype: torch.dtype, device: torch.device) -> list[str]:
    """The floating-point inputs that some case gives and that are not written."""
    names = {name: None for case in _cases(kernel, dtype, device) for name, x in case.items() if floating(x)}
    return [name for name in names if name not in kernel.mutates]


def _reading(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[Launch], Launch]:
    def plant(launch: Launch) -> Launch:
        def faulty(**inputs: Any) -> Mapping[str, Tensor]:
            if not floating(inputs.get(name)):
                return launch(**inputs)
            return launch(**{**inputs, name: like(inputs[name], change(inputs[name]))})

        return faulty

    return plant


def _rolled(x: Tensor) -> Tensor:
    return x.roll(1, longest(x))


INPUTS: tuple[tuple[str, Callable[[Tensor], Tensor]], ...] = (
    ("not read", torch.zeros_like),
    ("read without its last column", without_last_column),
    ("read one place away", _rolled),
)


def _for_known(kernel: Kernel, dtype: torch.dtype, device: torch.device) -> Callable[[Launch], Launch]:
    """Right on every shape of a menu that was drawn before the gate drew its own; zeros on any other."""
    known = {shapes(case) for case in _cases(kernel, dtype, device)}

    def plant(launch: Launch) -> Launch:
        def faulty(**inputs: Any) -> Mapping[str, Tensor]:
            outputs = dict(launch(**inputs))
            if shapes(inputs) in known:
                return outputs
            return {name: y if name in kernel.mutates else torch.zeros_like(y) for name, y in outputs.items()}

        return faulty

    return plant
