"""A pytest plugin: micro-benchmarks that are judged before they are timed, and synchronized while they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.parity.tolerance.rules import relative_frobenius

AGREEMENT = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}
"""Relative Frobenius distance to the eager twin: that the two compute the same thing. The gate judges how well."""

Judged = Callable[[Callable[[], Tensor], Callable[[], Tensor]], Any]


@pytest.fixture
def judged(benchmark: Any) -> Judged:
    """`judged(candidate, twin)`: fails unless both return the same tensor, then times the candidate through
    pytest-benchmark with the device idle before and after every call."""

    def time(candidate: Callable[[], Tensor], twin: Callable[[], Tensor]) -> Any:
        ours, theirs = candidate(), twin()
        distance, limit = relative_frobenius(ours, theirs), AGREEMENT[ours.dtype]
        if not distance <= limit:
            pytest.fail(f"{distance:.3g} from its eager twin (limit {limit:g}): its speed would mean nothing")

        def run() -> Tensor:
            out = candidate()
            if out.device.type == "cuda":
                torch.cuda.synchronize(out.device)
            return out

        return benchmark(run)

    return time
