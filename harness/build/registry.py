"""The models: names by listing directories and entry points (light), specs by importing them (heavy)."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Collection
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING

import models
from harness.errors import HarnessError, IndivisibleShares, UnknownName, UserError
from harness.planning.plugins import model_plugins, told
from harness.records.stack_name import StackNames
from harness.spec.model import ModelSpec
from harness.spec.optimization import Menu, Optimization
from harness.spec.runtime import module_of

if TYPE_CHECKING:
    from harness.planning.plan import Shares
    from harness.records.case import DType

MODELS = Path(next(iter(models.__path__)))


def names(root: Path = MODELS) -> tuple[str, ...]:
    """Directories that hold an `__init__.py`, but `common` and private ones, and the plugins of other distributions.
    Imports none of them. Raises UserError for a plugin that takes the name of another or of a directory."""
    found = (path.parent.name for path in root.glob("*/__init__.py"))
    own = {name for name in found if name != "common" and not name.startswith("_")}
    plugins = model_plugins()
    for name in sorted(own & plugins.keys()):
        raise UserError(f"two models are named '{name}': models/{name} and {told(plugins[name])}: uninstall the plugin")
    return tuple(sorted(own | plugins.keys()))


def load(name: str) -> ModelSpec:
    """Import the model and check its SPEC. UnknownName for no such model, UserError for a plugin that cannot be
    imported, HarnessError for a broken one."""
    if name not in names():
        raise UnknownName("model", name, names())
    plugin = model_plugins().get(name)
    place = f"models/{name}" if plugin is None else told(plugin)
    spec = getattr(importlib.import_module(f"models.{name}"), "SPEC", None) if plugin is None else _imported(plugin)
    if not isinstance(spec, ModelSpec) or spec.name != name:
        raise HarnessError(f"{place} must be SPEC, a ModelSpec named '{name}': it could not be found by that name")
    check_menu(name, spec.menu)
    return spec


def _imported(plugin: EntryPoint) -> object:
    try:
        return plugin.load()
    except (ImportError, AttributeError, SyntaxError) as error:
        raise UserError(f"the plugin '{plugin.name}' ({told(plugin)}) cannot be imported: {error}") from error


def source(name: str) -> Path:
    """The directory that holds the model's sources, or the one file that does."""
    plugin = model_plugins().get(name)
    if plugin is None:
        return MODELS / name
    file = Path(str(importlib.import_module(plugin.module).__file__))
    return file.parent if file.name == "__init__.py" else file


def stack_names(models: Collection[str]) -> StackNames:
    """The short names of stacks of these models, by their menus of today; models that are gone have none."""
    return StackNames.of_menus({name: load(name).menu for name in names() if name in models})


def check_menu(model: str, menu: Menu) -> None:
    """A menu names only its own items, each once, and lists every requirement before what requires it. What is lossy
    says what becomes of the weights, and nothing else does. A parameter is one that `apply` takes."""
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
        _check_parameters(model, item)


def _check_parameters(model: str, item: Optimization) -> None:
    taken = {name: given.default for name, given in inspect.signature(item.apply).parameters.items()}
    for parameter in item.parameters:
        owner = f"{model}: parameter '{parameter.name}' of '{item.name}'"
        if taken.get(parameter.name, inspect.Parameter.empty) != parameter.default:
            raise HarnessError(f"{owner} is no argument of its `apply` with that default: it would be ignored")
        if parameter.default not in parameter.allowed:
            raise HarnessError(f"{owner} is {parameter.default} by default, which is not among {parameter.span()}")
        words = [parameter.name, *(value for value in parameter.allowed if isinstance(value, str))]
        if not all(re.fullmatch(r"\w+", word) for word in words):
            raise HarnessError(f"{owner}: names and choices are words of letters, digits and underscores")


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


def indivisible(shares: Shares) -> str | None:
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
        except IndivisibleShares as error:
            return str(error)
    return None
