"""Replacing modules on an instance, with a receipt of every path touched."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def swap(model: nn.Module, kind: type[nn.Module], make: Callable[[nn.Module], nn.Module]) -> tuple[str, ...]:
    """Replace every submodule whose type is exactly `kind` by `make(module)`; returns the dotted paths replaced."""
    paths = tuple(path for path, module in model.named_modules() if type(module) is kind)
    for path in paths:
        parent, _, leaf = path.rpartition(".")
        setattr(model.get_submodule(parent), leaf, make(model.get_submodule(path)))
    return paths
