"""Compiling a stack's kernels for sm_90 where there is no GPU, in a process of its own.

python -m harness.parity.kernels.compile_ahead_process MODEL OPTIMIZATION [OPTIMIZATION ...]
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

from harness.errors import HarnessError
from harness.records.case import Case


def compile_elsewhere(case: Case) -> Callable[[], tuple[str, ...]]:
    """Start compiling the case's bfloat16 kernels beside whatever runs here. The returned function waits and gives a
    line per compilation; it raises HarnessError with the compiler's words if one failed."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "harness.parity.kernels.compile_ahead_process", case.model, *case.optimizations],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def wait() -> tuple[str, ...]:
        out, err = process.communicate()
        if process.returncode:
            raise HarnessError(f"a kernel does not compile for sm_90: {err.strip()[-1500:]}")
        return tuple(out.splitlines())

    return wait


def main(arguments: list[str]) -> int:
    import torch

    from harness.build import registry
    from harness.parity.kernels.compile_ahead import compile_ahead

    spec = registry.load(arguments[0])
    kernels = {kernel.name: kernel for name in arguments[1:] for kernel in spec.menu[name].kernels}
    for compiled in compile_ahead(tuple(kernels.values()), torch.bfloat16):
        print(compiled.label())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
