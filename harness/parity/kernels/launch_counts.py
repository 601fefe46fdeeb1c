"""Whether what an optimization put in place ever ran: the modules it swapped in, the kernels it declares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from harness.records.checks import KERNELS_IN_PLACE, Check
from harness.spec.kernel import Kernel
from harness.spec.optimization import Receipt
from harness.spec.runtime import CausalLM, module_of


@dataclass
class Ran:
    """Filled while a model runs."""

    kernels: dict[str, Callable[[], int]] = field(default_factory=dict)
    """Kernel name -> launches so far."""
    modules: dict[tuple[str, str], int] = field(default_factory=dict)
    """(optimization, path) of every module that was swapped in and is still there -> calls."""

    def calls_of(self, optimization: str) -> int:
        """Count the calls of all modules that it put in place."""
        return sum(calls for (owner, _), calls in self.modules.items() if owner == optimization)

    def checks(self) -> list[Check]:
        """Two per build that has something to show: a kernel or a module that never ran was proven for nothing."""
        idle = [name for name, launches in self.kernels.items() if not launches()]
        dead = [f"{path} ({name})" for (name, path), calls in self.modules.items() if not calls]
        return [
            Check(level="path", subject=subject, name=f"{total} in place", rule="never ran", error=len(found), noise=0,
                  limit=0, where=", ".join(found[:4]))
            for subject, found, total in (
                (KERNELS_IN_PLACE, idle, len(self.kernels)), ("swapped modules", dead, len(self.modules)))
            if total
        ]  # fmt: skip


@contextmanager
def watched(
    model: CausalLM, receipts: Sequence[Receipt], kernels: Mapping[str, Sequence[Kernel]], dtype: torch.dtype
) -> Iterator[Ran]:
    """While open, calls of the modules that `receipts` name and launches of the `kernels` of each optimization are
    counted. A captured graph counts when it is captured. A kernel that is neither Triton's nor counts its own launches
    (a library's function, a compiled one) has run when a module did that its optimization put in place."""
    ran = Ran()
    modules = dict(module_of(model).named_modules())
    with ExitStack() as stack:
        for receipt in receipts:
            for path in receipt.touched:
                if path in modules:
                    stack.callback(_count_calls(ran, (receipt.optimization, path), modules[path]).remove)
        for optimization, kernel in ((o, k) for o, every in kernels.items() for k in every if k.computes(dtype)):
            functions = {id(each.function): each.function for each in kernel.compilations(dtype)}
            if kernel.launches is not None:
                ran.kernels[kernel.name] = partial(_since, kernel.launches, kernel.launches())
            elif not functions:
                ran.kernels.setdefault(kernel.name, partial(ran.calls_of, optimization))
            elif kernel.name not in ran.kernels:
                calls: list[None] = []
                ran.kernels[kernel.name] = partial(len, calls)
                for function in functions.values():
                    _count_launches(calls, function, stack)
        yield ran


def _count_calls(ran: Ran, key: tuple[str, str], module: nn.Module) -> RemovableHandle:
    ran.modules[key] = 0

    def hook(*_: Any) -> None:
        ran.modules[key] += 1

    return module.register_forward_pre_hook(hook)


def _since(launches: Callable[[], int], before: int) -> int:
    return launches() - before


def _count_launches(calls: list[None], function: Any, stack: ExitStack) -> None:
    # Decorators such as triton.autotune hold the function that is launched.
    while not hasattr(function, "pre_run_hooks"):
        function = function.fn

    def hook(*_: Any, **__: Any) -> None:
        calls.append(None)

    function.add_pre_run_hook(hook)
    stack.callback(function.pre_run_hooks.remove, hook)
