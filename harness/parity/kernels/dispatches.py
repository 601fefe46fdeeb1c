"""Which launches a piece of work is made of: what was proven and what is timed must be the same ones.

A launch is named by its module and function, the element types of its tensors, its compile-time values, how it is
compiled, and the class of its grid: `moe_combine.combine_kernel(bfloat16 int64; SLOTS=8; num_warps=4; grid 1x2x1)`. Two
launches of one name run the same compiled code over about as many programs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from harness.build.dtypes import dtype_name
from harness.spec.kernel import Kernel

MANY = 128
"""Programs along an axis of a grid; more fill the device in waves, and are one class."""
COMPILED_BY = ("num_warps", "num_stages", "num_ctas", "maxnreg", "launch_pdl")
"""Launch options that change the code."""


@dataclass
class Dispatches:
    """Filled while work runs."""

    launched: set[str] = field(default_factory=set)

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.launched))


@contextmanager
def dispatched(kernels: Iterable[Kernel]) -> Iterator[Dispatches]:
    """While open, every launch of a Triton function in this process is named, compiled or interpreted, declared by
    `kernels` or not; of those of `kernels` that are no Triton functions, whether they were launched. A captured graph
    shows its launches when it is captured and none when it is replayed; what libraries launch is not seen."""
    from triton.runtime.interpreter import InterpretedFunction
    from triton.runtime.jit import JITFunction

    found = Dispatches()
    counted = [(kernel.name, kernel.launches, kernel.launches()) for kernel in kernels if kernel.launches is not None]
    with (
        patch.object(JITFunction, "run", _named(JITFunction.run, found.launched)),
        patch.object(InterpretedFunction, "run", _named(InterpretedFunction.run, found.launched)),
    ):
        yield found
    found.launched.update(name for name, launches, before in counted if launches() > before)


def code(name: str) -> str:
    """The name of a launch without the class of its grid, which moves with the rows whatever the code does."""
    return name.rpartition("grid ")[0] or name


def functions(kernels: Iterable[Kernel], dtype: torch.dtype) -> set[str]:
    """What the names of the launches of `kernels` begin with."""
    found = set()
    for kernel in kernels:
        found.add(kernel.name)
        for function in (compilation.function for compilation in kernel.compilations(dtype)):
            # Decorators such as triton.autotune hold the function that is launched.
            while not hasattr(function, "pre_run_hooks"):
                function = function.fn
            found.add(_called(function.fn))
    return found


def grid_class(grid: Iterable[int]) -> str:
    """Each of three axes by its programs: the least power of two that holds them, or `many`."""
    axes = (*grid, 1, 1)[:3]
    return "x".join("many" if programs > MANY else str(1 << (programs - 1).bit_length()) for programs in axes)


def _named(run: Callable[..., Any], launched: set[str]) -> Callable[..., Any]:
    def named(function: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        if not warmup:
            launched.add(_name(function, args, grid, options))
        return run(function, *args, grid=grid, warmup=warmup, **options)

    return named


def _name(function: Any, args: tuple[Any, ...], grid: Any, options: Mapping[str, Any]) -> str:
    signature, constants = _signature(function.fn)
    given = {name: value for name, value in options.items() if name in signature.parameters}
    bound = signature.bind(*args, **given)
    bound.apply_defaults()
    programs = grid(bound.arguments) if callable(grid) else grid
    types = " ".join(dtype_name(value.dtype) for value in bound.arguments.values() if isinstance(value, Tensor))
    values = " ".join(f"{name}={bound.arguments[name]}" for name in constants)
    compiled = " ".join(f"{name}={options[name]}" for name in COMPILED_BY if name in options)
    parts = (types, values, compiled, f"grid {grid_class(programs)}")
    return f"{_called(function.fn)}({'; '.join(part for part in parts if part)})"


def _called(function: Any) -> str:
    """Its module, without the packages, and its name: several modules have a `combine_kernel`."""
    return f"{function.__module__.rpartition('.')[2]}.{function.__name__}"


@cache
def _signature(function: Any) -> tuple[inspect.Signature, tuple[str, ...]]:
    """Of a Triton function, and the names of its compile-time arguments."""
    signature = inspect.signature(function)
    constants = tuple(name for name, p in signature.parameters.items() if "constexpr" in str(p.annotation))
    return signature, constants
