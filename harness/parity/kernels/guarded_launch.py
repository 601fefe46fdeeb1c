"""One launch of a kernel in guarded memory, and what may not be true of it whatever its values are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.parity.kernels.canaries import Guarded, Made, Poison, place
from harness.spec.kernel import Kernel, OpCase

Outputs = Mapping[str, Tensor]


@dataclass(frozen=True)
class Call:
    outputs: Outputs
    """As they were right after the call."""
    returned: Outputs
    """The tensors themselves."""
    guards: Mapping[str, Guarded]
    """By input."""
    overrun: Mapping[str, int]
    """Elements written beside what the launch made itself."""


def guarded(kernel: Kernel, case: OpCase, poison: Poison) -> Call:
    """Launch on copies of the case's inputs, `poison` in the memory around them and in what the launch makes."""
    arguments, guards = place(case.inputs, poison)
    made = Made(poison)
    with _unwritten_memory_filled(), made:
        returned = dict(kernel.launch(**arguments))
    outputs = {name: value.clone() for name, value in returned.items()}
    return Call(outputs, returned, guards, dict(made.overrun(returned)))


@contextmanager
def _unwritten_memory_filled() -> Iterator[None]:
    """Fresh tensors hold NaN (integers: their maximum) until written; the settings come back afterwards."""
    enabled, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    deterministic: Any = torch.utils.deterministic
    filled = deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        deterministic.fill_uninitialized_memory = filled


def misplaced(kernel: Kernel, call: Call, plain: Outputs) -> Iterator[str]:
    """Outputs that are not memory of their own, laid out as the twin's `plain` ones are."""
    for name, value in call.returned.items():
        if name in kernel.mutates:
            if name not in call.guards or not call.guards[name].holds(value):
                yield f"{name} is not the input that was to be written"
            continue
        for source, guard in call.guards.items():
            if guard.owns(value):
                yield f"{name} is a view of the input {source}"
        if name in plain and plain[name].is_contiguous() and not value.is_contiguous():
            yield f"{name} is not contiguous as the twin's is"


def reused(kernel: Kernel, first: Outputs, second: Outputs) -> Iterator[str]:
    """Both results are alive: the same memory means that the second call overwrote the first one's answer."""
    for name in first.keys() & second.keys() - set(kernel.mutates):
        memory = first[name].untyped_storage().data_ptr()
        if memory and memory == second[name].untyped_storage().data_ptr():
            yield f"{name} is returned again by the next call"
