"""A stack's kernels compiled on every core before one process judges them: each of several processes launches its share
of the op menus once, and all leave what they compiled in Triton's cache.

python -m harness.parity.kernels.precompile CASE.json SHARE SHARES [KERNEL/DTYPE ...]

Of the kernels and dtypes that are named the verdict stands: they are left out.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch

from harness.build import registry
from harness.build.dtypes import dtype_name
from harness.parity.kernels.canaries import NANS, place
from harness.parity.kernels.fixed_menu import cases
from harness.parity.kernels.kernel_checks import judged_dtypes, kernels_of, seed_after_code
from harness.records.case import Case
from harness.spec.kernel import Kernel, OpCase
from harness.spec.model import ModelSpec

MOST = 12
"""Processes at most: each holds a context of the GPU."""


def precompile(case: Path, standing: Sequence[str] = ()) -> None:
    """Compile what the op level of the case in this file will launch; the verdicts of `standing`, each `KERNEL/DTYPE`,
    are known. A share that fails is no error here: the level meets the same one where it is recorded."""
    shares = min(MOST, len(os.sched_getaffinity(0)))
    running = [
        subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "harness.parity.kernels.precompile",
                str(case),
                str(share),
                str(shares),
                *standing,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for share in range(shares)
    ]
    for process in running:
        process.wait()


def share_of(
    spec: ModelSpec, case: Case, device: torch.device, share: int, shares: int, standing: Sequence[str] = ()
) -> Iterator[tuple[Kernel, OpCase]]:
    """Every `shares`-th launch of the case's op level, from number `share` on: over all shares each launch once."""
    drawn = seed_after_code(spec, case.seed)
    launches = (
        (kernel, entry)
        for kernel in kernels_of(spec, case.optimizations)
        for dtype in judged_dtypes(kernel, getattr(torch, case.workload.dtype))
        if f"{kernel.name}/{dtype_name(dtype)}" not in standing
        for entry in cases(kernel, dtype, device, drawn)
    )
    return islice(launches, share, None, shares)


def main(arguments: list[str]) -> int:
    case = Case.model_validate_json(Path(arguments[0]).read_text())
    share, shares = int(arguments[1]), int(arguments[2])
    spec = registry.load(case.model).made_with(case.parameters)
    for kernel, entry in share_of(spec, case, torch.device("cuda"), share, shares, arguments[3:]):
        # Guarded as the op level's: what is compiled depends on how the memory is aligned.
        arguments_of, _ = place(entry.inputs, NANS)
        kernel.launch(**arguments_of)
    torch.cuda.synchronize()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
