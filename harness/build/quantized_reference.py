"""The reference that a lossy build is held against: Hugging Face's, with the weights that the build computes with."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from harness.spec.model import ModelSpec
from harness.spec.optimization import Scheme


def lossy(spec: ModelSpec, stack: Iterable[str]) -> tuple[str, ...]:
    """The optimizations of a stack that round weights."""
    return tuple(name for name in stack if "rounded_weights" in spec.menu[name].provides)


def schemes(spec: ModelSpec, names: Iterable[str], stack: Iterable[str]) -> tuple[Scheme, ...]:
    """Every scheme once that the stack holds parameters of these names, which are ours, in."""
    stack = tuple(stack)
    return tuple({scheme.name: scheme for name in names for scheme in _schemes_of(spec, name, stack)}.values())


def rounded(spec: ModelSpec, hf: nn.Module, stack: Iterable[str]) -> nn.Module:
    """`hf` itself where nothing rounds; else a copy that shares every parameter but the rounded ones. Tied parameters
    are rounded by name, each for itself: a head may be rounded while its embedding is not."""
    stack = lossy(spec, stack)
    if not stack:
        return hf
    model = copy.deepcopy(hf, {id(tensor): tensor for tensor in (*hf.parameters(), *hf.buffers())})
    for name, value, held in _rounding(spec, hf, stack):
        made = value
        for scheme in held:
            made = scheme.rounded(made)
        path, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(path), leaf, nn.Parameter(made, requires_grad=False))
    return model


def displaced(spec: ModelSpec, hf: nn.Module, made: nn.Module, stack: Iterable[str]) -> Iterator[tuple[str, float]]:
    """Of every parameter of `hf` that `made`, its rounded copy, holds rounded: its name, and how far the element that
    moved farthest moved, in units of what its rounding may move it."""
    after = dict(_named(made))
    for name, before, held in _rounding(spec, hf, stack):
        yield name, farthest(before, after[name], torch.stack([scheme.bound(before) for scheme in held]).sum(0))


def farthest(before: Tensor, after: Tensor, room: Tensor) -> float:
    """Of three tensors of one shape: how far the element that moved farthest moved, in units of its `room`. Nothing
    that stays is 0 / 0; what may not move at all and did, and what is no number any more, is infinitely far."""
    moved = (after.float() - before.float()).abs().nan_to_num(torch.inf, torch.inf)
    return float((moved / room).nan_to_num(0.0, torch.inf).max())


def saved_bytes(spec: ModelSpec, hf: nn.Module, stack: Iterable[str]) -> int:
    """Bytes of weights that one call of the rounded build need not read. A tied head counts for itself, as it is read
    for itself."""
    return sum(
        value.nbytes - scheme.bytes(*value.shape) for _, value, held in _rounding(spec, hf, stack) for scheme in held
    )


def _rounding(spec: ModelSpec, hf: nn.Module, stack: Iterable[str]) -> Iterator[tuple[str, Tensor, tuple[Scheme, ...]]]:
    """Name, value and schemes of every parameter of `hf` that the stack rounds."""
    stack = tuple(stack)
    for name, value in _named(hf):
        if held := _schemes_of(spec, spec.rename(name), stack):
            yield name, value, held


def _schemes_of(spec: ModelSpec, name: str, stack: Iterable[str]) -> tuple[Scheme, ...]:
    roundings = (found for each in stack if (found := spec.menu[each].rounding) is not None)
    return tuple(scheme for rounding in roundings if (scheme := rounding(name)) is not None)


def _named(hf: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return hf.named_parameters(remove_duplicate=False)
