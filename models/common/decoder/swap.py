"""Replacing modules and methods on an instance, with a receipt of every path touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from torch import nn

Replaced = TypeVar("Replaced", bound=nn.Module)


def swap(model: nn.Module, kind: type[Replaced], make: Callable[[Replaced], nn.Module]) -> tuple[str, ...]:
    """Replace every submodule whose type is exactly `kind` by `make(module)`; returns the dotted paths replaced."""
    paths = tuple(path for path, module in model.named_modules() if type(module) is kind)
    for path in paths:
        parent, _, leaf = path.rpartition(".")
        setattr(model.get_submodule(parent), leaf, make(cast(Replaced, model.get_submodule(path))))
    return paths


def attach(model: nn.Module, name: str, value: object) -> tuple[str, ...]:
    """Set `value` on the instance, whatever its class has under that name; returns the name."""
    setattr(model, name, value)
    return (name,)
