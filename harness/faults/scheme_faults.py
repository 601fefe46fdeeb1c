"""The bound of a rounding scheme on every faulty version of it."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from harness.errors import HarnessError
from harness.faults.first_seen import first_seen, unseen
from harness.parity.levels.quantization_schemes import check_scheme, subject_of
from harness.records.checks import Check
from harness.records.kill_matrix import MutantOutcome
from harness.spec.optimization import Scheme


def judge_scheme(scheme: Scheme, dtypes: tuple[torch.dtype, ...], device: torch.device) -> Iterator[MutantOutcome]:
    """One outcome a fault. Every dtype is judged until one sees it, as the gate judges them all.

    Raises HarnessError when the scheme fails without a fault: then what the gate refuses says nothing.
    """
    subject = subject_of(scheme)
    for dtype in dtypes:
        if seen := first_seen(_level(scheme, dtype, device)):
            raise HarnessError(f"{subject} fails without a fault in {dtype}: {seen.where} {seen.crash}")
    for mutant in scheme.mutants:
        faulty = mutant.apply(scheme)
        found = ((first_seen(_level(faulty, dtype, device)), dtype) for dtype in dtypes)
        outcomes = (seen.outcome(subject, mutant, dtype) for seen, dtype in found if seen)
        yield next(outcomes, unseen(subject, mutant))


def _level(scheme: Scheme, dtype: torch.dtype, device: torch.device) -> Iterator[list[Check]]:
    yield [check_scheme(scheme, dtype, device)]
