"""Declare a fault of a kernel in a line (see `harness.spec.mutant.Mutant`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from harness.spec.mutant import Mutant

Inputs = Mapping[str, Any]


def given(name: str, kind: str, change: Callable[[Inputs], Inputs], equivalent: str | None = None) -> Mutant:
    """A kernel that reads other arguments than it was given: `change` takes them all and gives those that differ."""

    def plant(launch: Callable[..., Mapping[str, Tensor]]) -> Callable[..., Mapping[str, Tensor]]:
        return lambda **inputs: launch(**{**inputs, **change(inputs)})

    return Mutant(name, kind, plant, equivalent)


def moved_epsilon(normed: Callable[[Inputs], Tensor]) -> Mutant:
    """Epsilon added to the root instead of under it: 1 / (root + eps) is what 1 / sqrt(square + eps') gives with
    another eps'. `normed` gives what is squared; its rows are of one size."""

    def outside(inputs: Inputs) -> Inputs:
        eps, root = inputs["eps"], normed(inputs).double().square().nanmean().sqrt()
        return {"eps": float(2 * eps * root + eps**2)}

    return given("epsilon outside the root", "epsilon", outside)


def scaled(argument: str, factor: float, name: str, kind: str) -> Mutant:
    """A number that is `factor` times what it should be."""
    return given(name, kind, lambda inputs: {argument: inputs[argument] * factor})


HALF = (torch.float16, torch.bfloat16)


def truncated(output: str, twin: Callable[..., Mapping[str, Tensor]]) -> Mutant:
    """A half-precision `output` whose low bits are cut off where they should be rounded; `twin` knows what they are."""

    def plant(launch: Callable[..., Mapping[str, Tensor]]) -> Callable[..., Mapping[str, Tensor]]:
        def faulty(**inputs: Any) -> Mapping[str, Tensor]:
            outputs = dict(launch(**inputs))
            if outputs[output].dtype in HALF:
                wide = {n: x.double() if _floating(x) else x for n, x in inputs.items()}
                outputs[output] = toward_zero(twin(**wide)[output], outputs[output].dtype)
            return outputs

        return faulty

    return Mutant(f"{output}: low bits cut off", "truncation", plant)


def toward_zero(exact: Tensor, dtype: torch.dtype) -> Tensor:
    """`exact` in a half type, rounded toward zero."""
    nearest = exact.to(dtype).contiguous()
    further = nearest.double().abs() > exact.abs()
    # One less in the bits of a float is the next number toward zero, on either side of it.
    return torch.where(further, nearest.view(torch.int16) - 1, nearest.view(torch.int16)).view(dtype)


def _floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()
