"""Inputs of a kernel as buffers: copied, put back, rewritten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

Inputs = dict[str, Any]
REWRITTEN = (torch.float32, torch.float16, torch.bfloat16)
"""Values of these types may be any; others are indices or packed weights."""


def copies_of(inputs: Mapping[str, Any], count: int) -> tuple[Inputs, ...]:
    return tuple({name: _copy(value) for name, value in inputs.items()} for _ in range(count))


def restore(mutated: Sequence[str], pristine: Mapping[str, Any], copies: Sequence[Inputs]) -> None:
    for inputs in copies:
        for name in mutated:
            for target, source in zip(tensors(inputs[name]), tensors(pristine[name]), strict=True):
                target.copy_(source)


def _copy(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone()
    return type(value)(_copy(item) for item in value) if type(value) in (list, tuple) else value


def tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [tensor for item in value for tensor in tensors(item)] if type(value) in (list, tuple) else []


def rewrite(inputs: Inputs) -> None:
    """Move all values of the last axis on by one place: they stay as likely as they were. Indices and packed weights
    are left as they are."""
    for value in inputs.values():
        for tensor in tensors(value):
            if tensor.dtype in REWRITTEN and tensor.dim():
                tensor.copy_(tensor.roll(1, -1))
