"""The op level of the gate on every faulty version of a kernel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from harness.errors import HarnessError
from harness.faults.catalog import every
from harness.faults.first_seen import first_seen, unseen
from harness.faults.remembered import Remembered
from harness.parity.kernels.kernel_checks import judged_cases
from harness.records.checks import Check
from harness.records.kill_matrix import MutantOutcome
from harness.spec.kernel import Kernel


def judge_kernel(
    kernel: Kernel, dtypes: tuple[torch.dtype, ...], device: torch.device, seed: int
) -> Iterator[MutantOutcome]:
    """One outcome a fault. Every dtype is judged until one sees it, as the gate judges them all.

    Raises HarnessError when the kernel fails without a fault: then what the gate refuses says nothing.
    """
    right = {dtype: replace(kernel, launch=Remembered(kernel)) for dtype in dtypes}
    for dtype in dtypes:
        if seen := first_seen(_levels(right[dtype], dtype, device, seed)):
            found = f"{seen.rule} {seen.where} {seen.crash}"
            raise HarnessError(f"kernel {kernel.name} fails without a fault in {dtype}: {found}")
    for number in range(len(every(kernel, dtypes[0], device))):
        yield _judge(kernel, right, number, device, seed)


def _judge(
    kernel: Kernel, right: dict[torch.dtype, Kernel], number: int, device: torch.device, seed: int
) -> MutantOutcome:
    for dtype in right:
        mutant = every(kernel, dtype, device)[number]
        # What a kernel declares may read beside its inputs, where a remembered answer would not.
        launch = kernel.launch if mutant in kernel.mutants else right[dtype].launch
        seen = first_seen(_levels(replace(kernel, launch=mutant.apply(launch)), dtype, device, seed))
        if seen is not None:
            return seen.outcome(kernel.name, mutant, dtype)
    return unseen(kernel.name, mutant)


def _levels(kernel: Kernel, dtype: torch.dtype, device: torch.device, seed: int) -> Iterator[list[Check]]:
    return judged_cases(kernel, dtype, device, seed)
