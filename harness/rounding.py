"""The reference that a lossy build is held against: Hugging Face's, with the weights that the build computes with."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from harness.spec.model import ModelSpec
from harness.spec.optimization import Rounding


def lossy(spec: ModelSpec, stack: Iterable[str]) -> tuple[str, ...]:
    """The optimizations of a stack that round weights."""
    return tuple(name for name in stack if spec.menu[name].rounding is not None)


def rounded(spec: ModelSpec, hf: nn.Module, stack: Iterable[str]) -> nn.Module:
    """`hf` itself where nothing rounds; else a copy that shares every parameter but the rounded ones. Tied parameters
    are rounded by name, each for itself: a head may be rounded while its embedding is not."""
    roundings = _roundings(spec, stack)
    if not roundings:
        return hf
    model = copy.deepcopy(hf, {id(tensor): tensor for tensor in (*hf.parameters(), *hf.buffers())})
    for name, value in _named(hf):
        made = value
        for rounding in roundings:
            made = rounding.weight(spec.rename(name), made)
        if made is not value:
            path, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(path), leaf, nn.Parameter(made, requires_grad=False))
    return model


def displaced(spec: ModelSpec, hf: nn.Module, made: nn.Module, stack: Iterable[str]) -> Iterator[tuple[str, float]]:
    """Of every parameter of `hf` that `made`, its rounded copy, holds rounded: its name, and how far the element that
    moved farthest moved, in units of what its rounding may move it."""
    after = dict(_named(made))
    for name, before in _named(hf):
        bounds = [each.bound(spec.rename(name), before) for each in _roundings(spec, stack)]
        room = [bound for bound in bounds if bound is not None]
        if not room:
            continue
        moved = (after[name].float() - before.float()).abs()
        # Nothing that stays is 0 / 0; what may not move at all and did is infinitely far.
        yield name, float((moved / torch.stack(room).sum(0)).nan_to_num(0.0, torch.inf).max())


def saved_bytes(spec: ModelSpec, hf: nn.Module, stack: Iterable[str]) -> int:
    """Bytes of weights that one call of the rounded build need not read. A tied head counts for itself, as it is read
    for itself."""
    return sum(
        value.nbytes - rounding.held_bytes(spec.rename(name), value)
        for rounding in _roundings(spec, stack)
        for name, value in _named(hf)
    )


def _roundings(spec: ModelSpec, stack: Iterable[str]) -> list[Rounding]:
    return [found for name in stack if (found := spec.menu[name].rounding) is not None]


def _named(hf: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return hf.named_parameters(remove_duplicate=False)
