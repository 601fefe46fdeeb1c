"""The models: names by listing directories (light), specs by importing them (heavy)."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import models
from harness.errors import HarnessError, UnevenShares, UnknownName
from harness.spec.model import ModelSpec
from harness.spec.optimization import Menu
from harness.spec.runtime import module_of

if TYPE_CHECKING:
    from harness.planning.plan import Shares
    from harness.records.case import DType

MODELS = Path(next(iter(models.__path__)))


def names(root: Path = MODELS) -> tuple[str, ...]:
    """Directories that hold an `__init__.py`, but `common` and private ones. Imports none of them."""
    found = (path.parent.name for path in root.glob("*/__init__.py"))
    return tuple(sorted(name for name in found if name != "common" and not name.startswith("_")))


def load(name: str) -> ModelSpec:
    """Import `models.<name>` and check its SPEC. UnknownName for no such model, HarnessError for a broken one."""
    if name not in names():
        raise UnknownName("model", name, names())
    spec = getattr(importlib.import_module(f"models.{name}"), "SPEC", None)
    if not isinstance(spec, ModelSpec) or spec.name != name:
        raise HarnessError(f"models/{name} must export SPEC, a ModelSpec of that name: it could not be found by it")
    check_menu(name, spec.menu)
    return spec


def check_menu(model: str, menu: Menu) -> None:
    """A menu names only its own items, each once, and lists every requirement before what requires it. What is lossy
    says what becomes of the weights, and nothing else does."""
    offered = menu.names()
    if len(set(offered)) != len(offered):
        raise HarnessError(f"{model}: an optimization is on the menu twice, and one of them would never be applied")
    named = [("full", name) for name in menu.full]
    named += [(item.name, other) for item in menu.items for other in (*item.requires, *item.conflicts)]
    for owner, name in named:
        if name not in offered:
            raise HarnessError(f"{model}: '{owner}' names '{name}', which is not on the menu {offered}")
    for position, item in enumerate(menu.items):
        if (item.numerics in ("near_lossless", "four_bit")) != (item.rounding is not None):
            raise HarnessError(f"{model}: '{item.name}' is {item.numerics} and would be judged by another's rules")
        late = set(item.requires) - set(offered[:position])
        if late:
            raise HarnessError(f"{model}: '{item.name}' would be applied before {sorted(late)}, which it requires")


def weights_bytes(model: str, size: str, dtype: DType, weights: str | None) -> int:
    """Bytes of the parameters of one copy, of a checkpoint's own config where there is one, counted on the meta device:
    nothing is allocated."""
    import torch

    from harness.build.builder import Source

    spec = load(model)
    config = Source.of(spec, size, 0, weights).config
    with torch.device("meta"):
        module = module_of(spec.build(config, getattr(torch, dtype), torch.device("meta")))
    return sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())


def uneven(shares: Shares) -> str | None:
    """Why ranks cannot share a model evenly, tried on the meta device: nothing is allocated."""
    import torch

    from harness.build.builder import Source
    from harness.spec.optimization import Target

    spec, meta = load(shares.model), torch.device("meta")
    config = Source.of(spec, shares.size, 0, shares.weights).config
    target = Target(meta, torch.float32, "none", 0, shares.ranks)
    for cut in filter(None, (spec.menu[name].shard for name in shares.cuts)):
        try:
            cut(spec.build(config, torch.float32, meta), target)
        except UnevenShares as error:
            return str(error)
    return None
