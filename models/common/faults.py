"""How a mechanism declares a fault of its own in a line (see `harness.spec.Mutant`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from harness.spec import Mutant

Inputs = Mapping[str, Any]


def given(name: str, kind: str, change: Callable[[Inputs], Inputs], equivalent: str | None = None) -> Mutant:
    """A kernel that reads other arguments than it was given: `change` takes them all and gives those that differ."""

    def plant(launch: Callable[..., Mapping[str, Tensor]]) -> Callable[..., Mapping[str, Tensor]]:
        return lambda **inputs: launch(**{**inputs, **change(inputs)})

    return Mutant(name, kind, plant, equivalent)


def scaled(argument: str, factor: float, name: str, kind: str) -> Mutant:
    """A number that is `factor` times what it should be."""
    return given(name, kind, lambda inputs: {argument: inputs[argument] * factor})
