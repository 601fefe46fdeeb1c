"""The whole proof of one build: fp32 first, then the target dtype, from single kernels up to generation."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from harness.build import builder
from harness.build.dtypes import dtype_name
from harness.parity.kernels.dispatches import dispatched
from harness.parity.kernels.input_kinds import check_input_kinds
from harness.parity.kernels.kernel_checks import (
    check_far,
    check_kernel,
    corrupts_memory,
    judged_dtypes,
    kernels_of,
    seed_after_code,
)
from harness.parity.levels.quantization_loss import unjudged_loss
from harness.parity.parity_run import ParityRun, first_broken
from harness.parity.paths.timed_size import check_timed_size
from harness.records.checks import Check, Level, NotJudged, Parity
from harness.records.proof_size import ProofSize
from harness.spec.kernel import Kernel
from harness.spec.optimization import Receipt, Target

Progress = Callable[[float, str], None]
OPS_SHARE = 0.3
"""Of the work of a proof."""


@dataclass(frozen=True)
class Proof:
    parity: Parity
    receipts: tuple[Receipt, ...]


@torch.no_grad()
def prove(
    config: builder.BuildConfig,
    proof_size: ProofSize,
    progress: Progress,
    started: Mapping[str, str] | None = None,
    keep: Callable[[Sequence[Check]], None] = lambda _: None,
) -> Proof:
    """Judge the stack on every level. A failure does not stop the levels after it: the report shows them all. `started`
    is the state of the process before the model's code was imported (`harness.build.process_state`); `keep` is given
    checks as soon as they are made."""
    began = time.perf_counter()
    target = config.target
    checks: list[Check] = []

    def take(made: Iterable[list[Check]]) -> None:
        for found in made:
            checks.extend(found)
            keep(found)

    take(_ops(config, progress))
    if ill := [check for check in checks if corrupts_memory(check)]:
        # Launched inside the model it may end this process, and the evidence with it.
        return Proof(_unlaunched(config, checks, ill, time.perf_counter() - began), ())
    progress(OPS_SHARE, "fp32 layers and logits")
    single = ParityRun.fp32(config, proof_size, started)
    take(single.in_fp32())
    found = single.divergence
    del single
    _release(target)
    progress(0.6, f"{dtype_name(target.dtype)} layers, logits, generation and paths")
    counted = kernels_of(config.spec, config.stack) if target.kernels != "none" else ()
    with dispatched(counted) as launched:
        run = ParityRun(config, proof_size, started)
        take(run.in_target())
        if proof_size.timed is not None:
            progress(0.9, "the timed size and the edges of dispatch before it")
            take(check_timed_size(run, proof_size.timed))
    parity = Parity(
        checks=tuple(checks),
        not_judged=(*_not_judged(target), *unjudged_loss(config)),
        drift=None if all(check.passed for check in checks) else run.drift(),
        first_divergence=found or run.divergence or first_broken(checks),
        wall_s=time.perf_counter() - began,
        dispatches=launched.names(),
    )
    return Proof(parity, run.receipts)


def _unlaunched(config: builder.BuildConfig, checks: Sequence[Check], ill: Sequence[Check], wall_s: float) -> Parity:
    kernels = ", ".join(dict.fromkeys(check.subject for check in ill))
    reason = f"{kernels} writes memory that is not its own, and is not launched again"
    left: tuple[Level, ...] = ("layer", "logits", "generation", "path")
    unlaunched = (NotJudged(level=each, subject="the build", reason=reason) for each in left)
    return Parity(
        checks=tuple(checks),
        not_judged=(*_not_judged(config.target), *unlaunched),
        first_divergence=first_broken(ill),
        wall_s=wall_s,
    )


def _release(target: Target) -> None:
    """Give back the device memory of models that only reference cycles still hold: the next two may need all of it."""
    gc.collect()
    if target.device.type == "cuda":
        torch.cuda.empty_cache()


def _ops(config: builder.BuildConfig, progress: Progress) -> Iterator[list[Check]]:
    target = config.target
    if target.kernels == "none" or target.rank:
        # Ranks launch the same kernels: one judges them.
        return
    drawn = seed_after_code(config.spec, config.source.seed)
    kernels = kernels_of(config.spec, config.stack)
    for done, kernel in enumerate(kernels):
        progress(OPS_SHARE * done / len(kernels), f"kernel {kernel.name} against its eager twin")
        for dtype in judged_dtypes(kernel, target.dtype):
            yield _on_every_case(kernel, dtype, target, drawn)


def _on_every_case(kernel: Kernel, dtype: torch.dtype, target: Target, seed: int) -> list[Check]:
    """Far offsets take gigabytes of a device: once, in the target dtype."""
    checks = [check_input_kinds(kernel, dtype, target.device, seed), *check_kernel(kernel, dtype, target.device, seed)]
    if dtype == target.dtype and not any(map(corrupts_memory, checks)):
        checks += check_far(kernel, dtype, target.device, seed)
        if target.device.type == "cuda":
            torch.cuda.empty_cache()
    return checks


def _not_judged(target: Target) -> tuple[NotJudged, ...]:
    if target.kernels == "interpreted":
        reason = "Triton's interpreter computes bfloat16 wrongly; bfloat16 kernels are compiled for sm_90, not run"
        return (NotJudged(level="op", subject="bfloat16 kernels", reason=reason),)
    return ()
