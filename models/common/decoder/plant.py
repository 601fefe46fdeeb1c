"""Planting: which modules a fault touches, and how their forward is wrapped."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from harness.spec.mutant import Mutant

Forward = Callable[..., Any]
Around = Callable[[Forward, nn.Module, nn.Module], Forward]
"""(the module's forward, the module, the whole model) -> the faulty forward."""


def at(path: str, around: Around, name: str, kind: str, equivalent: str | None = None, last: bool = False) -> Mutant:
    """Wraps the module at `path` of every layer (`last`: of the last one alone)."""
    return Mutant(name, kind, lambda model: _wrap(model, _in_layers(model, path, last), around), equivalent)


def on(path: str, around: Around, name: str, kind: str, equivalent: str | None = None) -> Mutant:
    """Wraps the module at `path` of the model; the empty path is the model itself."""
    return Mutant(name, kind, lambda model: _wrap(model, [path], around), equivalent)


def held(path: str, change: Callable[[nn.Module, nn.Module], bool], name: str, kind: str) -> Mutant:
    """Changes what the module at `path` of every layer holds: `change(module, model)` says whether it did."""

    def plant(model: nn.Module) -> tuple[str, ...]:
        return tuple(p for p in _in_layers(model, path, False) if change(model.get_submodule(p), model))

    return Mutant(name, kind, plant)


def method(attribute: str, around: Around, name: str, kind: str, equivalent: str | None = None) -> Mutant:
    """Wraps a method of the model."""

    def plant(model: nn.Module) -> tuple[str, ...]:
        setattr(model, attribute, around(getattr(model, attribute), model, model))
        return (attribute,)

    return Mutant(name, kind, plant, equivalent)


def replaced(module: nn.Module, name: str, value: torch.Tensor) -> None:
    """Another parameter in the place of one that is shared with the right model."""
    setattr(module, name, nn.Parameter(value, requires_grad=False))


def _in_layers(model: Any, path: str, last: bool) -> list[str]:
    count = len(model.layers)
    indices = range(count - 1, count) if last else range(count)
    known = dict(model.named_modules())
    paths = [f"layers.{index}.{path}" if path else f"layers.{index}" for index in indices]
    return [p for p in paths if p in known]


def _wrap(model: nn.Module, paths: Iterable[str], around: Around) -> tuple[str, ...]:
    touched = []
    known = dict(model.named_modules())
    for path in paths:
        if path in known:
            module = known[path]
            module.forward = around(module.forward, module, model)
            touched.append(path or "forward")
    return tuple(touched)


def inputs(change: Callable[..., tuple[Any, ...]]) -> Around:
    """A forward that is given `change(*arguments)` instead of its arguments."""
    return lambda forward, _, __: lambda *args, **kwargs: forward(*change(*args), **kwargs)


def output(change: Callable[[Any], Any]) -> Around:
    """A forward whose result is changed."""
    return lambda forward, _, __: lambda *args, **kwargs: change(forward(*args, **kwargs))
