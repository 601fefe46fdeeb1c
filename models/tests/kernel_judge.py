"""Run by the tests in a process of its own: `interpret DTYPE MODULE:NAME ...` judges kernels, or tuples of them, in
Triton's interpreter; `compile` compiles them for a GPU. Prints JSON."""

from __future__ import annotations

import json
import sys
from importlib import import_module

import torch

from harness.parity.kernels.compile_ahead import compile_ahead
from harness.parity.kernels.kernel_checks import check_kernel
from harness.spec.kernel import Kernel

CPU = torch.device("cpu")
FEWEST_CHECKS = 10


def kernels(places: list[str]) -> list[Kernel]:
    found: list[Kernel] = []
    for place in places:
        module, _, name = place.partition(":")
        value = getattr(import_module(module), name)
        found += [value] if isinstance(value, Kernel) else value
    return found


def failed(kernel: Kernel, dtype: torch.dtype) -> list[str]:
    """The checks that failed. Raises AssertionError where there were so few that a menu must be empty."""
    checks = check_kernel(kernel, dtype, CPU, seed=1)
    assert len(checks) > FEWEST_CHECKS, f"{kernel.name}: {len(checks)} checks"
    return [repr(check) for check in checks if not check.passed]


def main(mode: str, dtype: torch.dtype, places: list[str]) -> None:
    torch.set_num_threads(1)
    if mode == "compile":
        print(json.dumps([built.label() for built in compile_ahead(kernels(places), dtype)]))
        return
    print(json.dumps({kernel.name: failed(kernel, dtype) for kernel in kernels(places)}))


if __name__ == "__main__":
    main(sys.argv[1], getattr(torch, sys.argv[2]), sys.argv[3:])
