"""One process's timing of one case: every arm measured in interleaved blocks, judged again afterwards, and kernels."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from harness.build import builder
from harness.build.ranks import agreed
from harness.parity.kernels.kernel_checks import kernels_of
from harness.records.case import Case
from harness.records.record import ArmReport, Block, Ceilings, KernelTime, PhaseDispatches, Series, Work
from harness.timing import eligibility
from harness.timing.clock import clock_for
from harness.timing.contenders import Contenders
from harness.timing.kernel_times import time_kernels
from harness.timing.protocol import Progress, measure
from harness.timing.roofline import ceilings
from harness.timing.same_work import KernelDisagreement
from harness.timing.telemetry import telemetry_for


@dataclass
class Timing:
    """What one process adds to a record."""

    arms: list[ArmReport] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    work: list[Work] = field(default_factory=list)
    dispatches: list[PhaseDispatches] = field(default_factory=list)
    kernels: list[KernelTime] = field(default_factory=list)
    ceilings: Ceilings | None = None
    notes: list[str] = field(default_factory=list)


@torch.no_grad()
def time_case(case: Case, config: builder.BuildConfig, process: int, kernels: bool, progress: Progress) -> Timing:
    """Measure prefill, and decode when the workload asks for new tokens, then `kernels` one by one where they run
    compiled; nothing where no part of the stack has a speed on the target. Raises HarnessError when the outputs that
    were timed are wrong afterwards."""
    timing = Timing()
    target = config.target
    left_out = eligibility.untimed(config.spec, config.stack, target)
    stack = tuple(name for name in config.stack if name not in left_out)
    if left_out and not stack:
        timing.notes += eligibility.told("nothing to time of", left_out)
        return timing
    timing.notes += eligibility.told("timed without", left_out)
    if process == 0:
        timing.ceilings = ceilings(target.device, target.dtype)
    config = replace(config, stack=stack)
    contenders = Contenders(case, config, process)
    # Every rank is at home: all are children of one worker.
    telemetry = telemetry_for(target.device, os.getppid() if target.world > 1 else None)
    opened = contenders.open(telemetry)
    for phase in contenders.phases():
        measured = measure(
            phase,
            [contenders.timed(arm, phase) for arm in contenders.arms],
            partial(contenders.begin, phase),
            clock_for(target.device),
            case.timing,
            process,
            telemetry,
            case.seed,
            progress,
            partial(agreed, target),
        )
        timing.series += measured.series
        timing.blocks += measured.blocks
        timing.notes += measured.notes
        timing.work.append(contenders.work(phase))
        timing.dispatches.append(contenders.dispatches(phase))
        contenders.refuse_memory(phase)
    spent = contenders.joules_per_token(telemetry) if process == 0 else {}
    wrong = contenders.recheck()
    timing.series = [series for series in timing.series if series.arm not in wrong]
    # In the last process, after all arms were timed: a profiler may leave something behind that slows what follows.
    launched = contenders.kernels_per_layer() if process == case.timing.processes - 1 else {}
    timing.arms = [
        report.model_copy(
            update={
                "energy_j_per_token": spent.get(report.name),
                "decode_kernels_per_layer": launched.get(report.name),
                "judged_blocks": contenders.judged_blocks(report.name),
                "rechecked": report.absent is None and report.name not in wrong,
                "absent": wrong.get(report.name, report.absent),
            }
        )
        for report in opened
    ]
    if kernels and target.kernels == "compiled":
        contenders.close()
        _time_kernels(timing, config, case.seed)
    return timing


def _time_kernels(timing: Timing, config: builder.BuildConfig, seed: int) -> None:
    """Every kernel by itself on the first rank, then on all of them what they launch together."""
    target, every = config.target, kernels_of(config.spec, config.stack)
    asked = list(every) if target.rank == 0 else []
    asked += [kernel.multi_rank(target.device) for kernel in every if kernel.multi_rank and target.world > 1]
    for kernel in asked:
        try:
            timing.kernels += time_kernels((kernel,), target.dtype, target.device, seed)
        except KernelDisagreement as error:
            timing.notes.append(f"kernel {kernel.name} has no time: {error}")
