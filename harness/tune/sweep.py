"""Measure every launch that a model's decode steps could be cut to, with the clock that verdicts use."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache

import torch
from triton.errors import TritonError

from harness.build import registry
from harness.errors import HarnessError, UnknownName
from harness.spec.kernel import Kernel, OpCase
from harness.spec.runtime import module_of
from harness.spec.tuning import Launch, Tuning
from harness.timing.kernel_times import time_kernel
from harness.tune.choice import Row, fastest

FAILURES = (HarnessError, TritonError, RuntimeError, ValueError)
REFINED = 2
"""How many of the fastest are tried again in variants."""
MOST_WORKERS = 12
"""Compiling processes: each holds a context of the GPU."""


@dataclass(frozen=True)
class Wanted:
    """What to tune."""

    model: str
    size: str
    dtype: str
    kernels: tuple[str, ...] = ()
    """Names; none is all of them."""

    def tunings(self) -> tuple[Tuning, ...]:
        """Return the classes of sizes that this model's decode steps have, each once. Raises UnknownName for a model, a
        size or a kernel that is not there."""
        found = _tunings(self.model, self.size, self.dtype)
        known = {tuning.kernel.name for tuning in found}
        for name in self.kernels:
            if name not in known:
                raise UnknownName(f"tuned kernel of {self.model}", name, known)
        return tuple(tuning for tuning in found if not self.kernels or tuning.kernel.name in self.kernels)


@cache
def _tunings(model: str, size: str, dtype: str) -> tuple[Tuning, ...]:
    spec, kind, meta = registry.load(model), getattr(torch, dtype), torch.device("meta")
    if size not in spec.sizes:
        raise UnknownName(f"size of {model}", size, spec.sizes)
    sources = filter(None, (spec.menu[name].tunings for name in spec.menu.names()))
    return tuple(
        tuning for source in sources for tuning in source(module_of(spec.build(spec.sizes[size], kind, meta)), kind)
    )


def sweep(wanted: Wanted) -> Iterator[list[Row]]:
    """Yield the rows of one class of sizes after the other, on the first GPU: the kernel's default, every candidate and
    variants of the fastest. Each is checked against the kernel's twin before it is timed; one that fails is a row with
    its error."""
    workers = min(MOST_WORKERS, os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for index, tuning in enumerate(wanted.tunings()):
            yield _class(pool, workers, wanted, index, tuning)


def _class(pool: Executor, workers: int, wanted: Wanted, index: int, tuning: Tuning) -> list[Row]:
    case = _case(tuning, wanted)
    _compile(pool, workers, wanted, index, tuning.launches)
    rows = [measured(tuning, None, case), *(measured(tuning, launch, case) for launch in tuning.launches)]
    best = [row.launch for row in fastest(rows, REFINED) if row.launch is not None]
    variants = [variant for launch in best for variant in tuning.refined(launch)]
    _compile(pool, workers, wanted, index, variants)
    return [*rows, *(measured(tuning, variant, case) for variant in variants)]


def measured(tuning: Tuning, launch: Launch | None, case: OpCase) -> Row:
    """Return the row of one launch, its time or why it has none."""
    row = Row(tuning.kernel.name, tuning.sizes, launch)
    try:
        found = time_kernel(cut(tuning, launch), case, _device(case))
    except FAILURES as error:
        return replace(row, error=f"{type(error).__name__}: {error}"[:500])
    return replace(row, median_us=found.median_ms * 1e3)


def cut(tuning: Tuning, launch: Launch | None) -> Kernel:
    """Return the kernel, launched so."""
    return tuning.kernel if launch is None else replace(tuning.kernel, launch=tuning.cut(launch))


def _device(case: OpCase) -> torch.device:
    return next(value.device for value in case.inputs.values() if isinstance(value, torch.Tensor))


def _case(tuning: Tuning, wanted: Wanted) -> OpCase:
    device = torch.device("cuda", 0)
    generator = torch.Generator(device).manual_seed(0)
    return tuning.case(getattr(torch, wanted.dtype), device, generator)


def _compile(pool: Executor, workers: int, wanted: Wanted, index: int, launches: Sequence[Launch]) -> None:
    shares = [tuple(launches[first::workers]) for first in range(min(workers, len(launches)))]
    for done in [pool.submit(compile_share, wanted, index, share) for share in shares]:
        done.result()


def compile_share(wanted: Wanted, index: int, launches: Sequence[Launch]) -> None:
    """In a process of its own: fill Triton's cache on disk by one launch each. What fails here fails again, where it is
    measured."""
    tuning = wanted.tunings()[index]
    case = _case(tuning, wanted)
    for launch in launches:
        try:
            tuning.cut(launch)(**case.inputs)
        except FAILURES:
            continue
    torch.cuda.synchronize()
