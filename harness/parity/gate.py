"""The whole proof of one build: fp32 first, then the target dtype, from single kernels up to generation."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain

import torch

from harness.build import builder
from harness.build.dtypes import dtype_name
from harness.parity.kernels.kernel_checks import check_far, check_kernel, judged_dtypes, kernels_of, seed_after_code
from harness.parity.levels.quantization_loss import unjudged_loss
from harness.parity.parity_run import ParityRun, first_broken
from harness.records.checks import Check, NotJudged, Parity
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
    config: builder.BuildConfig, proof_size: ProofSize, progress: Progress, started: Mapping[str, str] | None = None
) -> Proof:
    """Judge the stack on every level. A failure does not stop the levels after it: the report shows them all. `started`
    is the state of the process before the model's code was imported (`harness.build.process_state`)."""
    began = time.perf_counter()
    target = config.target
    checks = _ops(config, progress)
    progress(OPS_SHARE, "fp32 layers and logits")
    single = ParityRun.fp32(config, proof_size, started)
    checks += chain.from_iterable(single.in_fp32())
    found = single.divergence
    del single
    _release(target)
    progress(0.6, f"{dtype_name(target.dtype)} layers, logits, generation and paths")
    run = ParityRun(config, proof_size, started)
    checks += chain.from_iterable(run.in_target())
    parity = Parity(
        checks=tuple(checks),
        not_judged=(*_not_judged(target), *unjudged_loss(config)),
        drift=None if all(check.passed for check in checks) else run.drift(),
        first_divergence=found or run.divergence or first_broken(checks),
        wall_s=time.perf_counter() - began,
    )
    return Proof(parity, run.receipts)


def _release(target: Target) -> None:
    """Give back the device memory of models that only reference cycles still hold: the next two may need all of it."""
    gc.collect()
    if target.device.type == "cuda":
        torch.cuda.empty_cache()


def _ops(config: builder.BuildConfig, progress: Progress) -> list[Check]:
    target = config.target
    if target.kernels == "none" or target.rank:
        # Ranks launch the same kernels: one judges them.
        return []
    drawn, checks = seed_after_code(config.spec, config.source.seed), list[Check]()
    kernels = kernels_of(config.spec, config.stack)
    for done, kernel in enumerate(kernels):
        progress(OPS_SHARE * done / len(kernels), f"kernel {kernel.name} against its eager twin")
        for dtype in judged_dtypes(kernel, target.dtype):
            checks += _on_every_case(kernel, dtype, target, drawn)
    return checks


def _on_every_case(kernel: Kernel, dtype: torch.dtype, target: Target, seed: int) -> list[Check]:
    """Far offsets take gigabytes of a device: once, in the target dtype."""
    checks = check_kernel(kernel, dtype, target.device, seed)
    if dtype == target.dtype:
        checks += check_far(kernel, dtype, target.device, seed)
        if target.device.type == "cuda":
            torch.cuda.empty_cache()
    return checks


def _not_judged(target: Target) -> tuple[NotJudged, ...]:
    if target.kernels == "interpreted":
        reason = "Triton's interpreter computes bfloat16 wrongly; bfloat16 kernels are compiled for sm_90, not run"
        return (NotJudged(level="op", subject="bfloat16 kernels", reason=reason),)
    return ()
