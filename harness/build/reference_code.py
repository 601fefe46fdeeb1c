"""Remember which functions a reference is made of, so that one put in the place of another shows."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import torch
import transformers
from torch import nn

Code = Mapping[str, tuple[object, object]]
"""Dotted name -> what it stands for, and the code that this runs; kept alive, so that identity tells of changes."""

_LIBRARIES = (*(str(Path(package.__file__ or "").parent) for package in (torch, transformers)),
              sysconfig.get_path("stdlib"))  # fmt: skip
"""Where the code of a reference lies: decorators of the standard library put methods of theirs in its classes."""
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


def code_of(reference: nn.Module) -> Code:
    """Read every function that a forward pass of `reference` may call by name: methods of its classes, functions of
    their modules and of torch, methods and hooks that one instance has of its own, attention backends."""
    found: dict[str, tuple[object, object]] = {}
    for owner, value in _owners(reference).items():
        kind = "method" if isinstance(value, type) else "function"
        found |= {f"{kind} {owner}.{name}": (each, _code(each)) for name, each in _functions(value)}
    for path, module in reference.named_modules():
        own = dict(_functions(module))
        hooks = {f"{kind}[{key}]": each for kind in _HOOKS for key, each in vars(module)[kind].items()}
        found |= {f"module {path}.{name}": (each, _code(each)) for name, each in (own | hooks).items()}
    # What the judge itself looks through is registered anew whenever it looks.
    backends = {name: each for name, each in transformers.AttentionInterface().items() if not _is_ours(each)}
    return found | {f"attention backend {name}": (each, _code(each)) for name, each in backends.items()}


def replaced(before: Code, after: Code) -> list[str]:
    """Name what stands for something else now, and what was added to a class or an instance that had it not."""
    kept = [name for name, known in before.items() if not _same(known, after.get(name))]
    # A module may import more on its way; what is new on a class or an instance hides what was inherited.
    added = [name for name in after.keys() - before.keys() if name.startswith(("method ", "module "))]
    return sorted((*kept, *added))


def foreign(reference: nn.Module) -> list[str]:
    """Name methods of torch's and transformers' classes whose code is of neither: put there before anybody looked."""
    found = []
    for owner, value in _owners(reference).items():
        if not isinstance(value, type) or value.__module__.partition(".")[0] not in ("torch", "transformers"):
            continue
        for name, each in vars(value).items():
            code = each.__code__ if isinstance(each, FunctionType) else None
            if code is not None and not code.co_filename.startswith(("<", *_LIBRARIES)):
                found.append(f"method {owner}.{name}")
    return sorted(found)


def _owners(reference: nn.Module) -> dict[str, type | ModuleType]:
    classes = dict.fromkeys(
        kind for module in reference.modules() for kind in type(module).__mro__ if kind is not object
    )
    modules = (torch, torch.nn.functional, *(sys.modules[kind.__module__] for kind in classes))
    found: dict[str, type | ModuleType] = {module.__name__: module for module in modules}
    return found | {f"{kind.__module__}.{kind.__qualname__}": kind for kind in (*classes, torch.Tensor)}


def _functions(owner: object) -> Iterator[tuple[str, object]]:
    yield from ((name, each) for name, each in vars(owner).items() if callable(each) and not isinstance(each, type))


def _is_ours(function: object) -> bool:
    return str(getattr(function, "__module__", "")).startswith("harness.")


def _code(value: Any) -> object:
    return getattr(getattr(value, "__func__", value), "__code__", None)


def _same(known: tuple[object, object], now: tuple[object, object] | None) -> bool:
    return now is not None and known[0] is now[0] and known[1] is now[1]
