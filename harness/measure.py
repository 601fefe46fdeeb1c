"""One process's timing of one case: every arm opened, measured in interleaved blocks, and judged again afterwards."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from harness import build, inputs, native, recheck
from harness.arms.arm import Arm, ArmAbsent, Shape, last_tokens, timed_s
from harness.arms.candidate import Candidate
from harness.arms.eager import EAGER, Eager
from harness.arms.menu import PEERS
from harness.arms.prefix_hit import COLD, PrefixHit
from harness.case import Case
from harness.errors import HarnessError
from harness.parity.op import kernels_of
from harness.parity.plain import Plain
from harness.ranks import agreed, meet, summed
from harness.recheck import Outputs, WrongAfterwards
from harness.record import (
    AGAIN,
    CANDIDATE,
    REFERENCE,
    ArmReport,
    Block,
    Ceilings,
    KernelTime,
    Phase,
    Series,
    Work,
)
from harness.rounding import lossy, rounded, saved_bytes
from harness.spec.inputs import ModelInputs
from harness.spec.model import ModelSpec, Workload
from harness.spec.optimization import Target
from harness.timing import memory
from harness.timing.clock import clock_for
from harness.timing.energy import joules_per_call
from harness.timing.kernels import time_kernels
from harness.timing.launched import kernels_launched
from harness.timing.protocol import Progress, Timed, measure
from harness.timing.roofline import ceilings
from harness.timing.same_work import KernelDisagreement
from harness.timing.telemetry import Telemetry, telemetry_for

DECODE_STEPS = {"cpu": 8, "cuda": 4}
"""Tokens per decode sample: long enough to time, short enough that the context stays what the case says."""
OURS = frozenset({CANDIDATE, AGAIN, COLD})
"""Arms that compute with the stack's own weights, rounded where it rounds."""


@dataclass
class Timing:
    """What one process adds to a record."""

    arms: list[ArmReport] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    work: list[Work] = field(default_factory=list)
    kernels: list[KernelTime] = field(default_factory=list)
    ceilings: Ceilings | None = None
    notes: list[str] = field(default_factory=list)


@torch.no_grad()
def time_case(
    case: Case,
    spec: ModelSpec,
    source: build.Source,
    target: Target,
    process: int,
    kernels: bool,
    progress: Progress,
) -> Timing:
    """Measure prefill, and decode when the workload asks for new tokens, then `kernels` one by one where they run
    compiled; nothing where no part of the stack has a speed on the target. Raises HarnessError when the outputs that
    were timed are wrong afterwards."""
    timing = Timing()
    left_out = native.untimed(spec, case.optimizations, target)
    stack = tuple(name for name in case.optimizations if name not in left_out)
    if left_out and not stack:
        timing.notes += native.told("nothing to time of", left_out)
        return timing
    timing.notes += native.told("timed without", left_out)
    if process == 0:
        timing.ceilings = ceilings(target.device, target.dtype)
    bench = _Bench(case, spec, source, stack, target, process)
    # Every rank is at home: all are children of one worker.
    telemetry = telemetry_for(target.device, os.getppid() if target.world > 1 else None)
    bench.open(timing, telemetry)
    for phase in bench.phases():
        measured = measure(
            phase,
            [bench.timed(arm, phase) for arm in bench.arms],
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
        timing.work.append(bench.work(phase))
        bench.keep()
    if process == 0:
        bench.weigh(timing, telemetry)
    bench.recheck(timing)
    if process == case.timing.processes - 1:
        # In the last process, after all arms were timed: a profiler may leave something behind that slows what follows.
        bench.count(timing)
    if kernels and target.rank == 0 and target.kernels == "compiled":
        bench.close()
        for kernel in kernels_of(spec, stack):
            try:
                timing.kernels += time_kernels((kernel,), target.dtype, target.device, case.seed)
            except KernelDisagreement as error:
                timing.notes.append(f"kernel {kernel.name} has no time: {error}")
    return timing


class _Bench:
    """All arms of a case on one device, on the same prompt."""

    def __init__(
        self,
        case: Case,
        spec: ModelSpec,
        source: build.Source,
        stack: tuple[str, ...],
        target: Target,
        process: int,
    ) -> None:
        self.case, self.spec, self.source, self.stack, self.target = case, spec, source, stack, target
        self.process = process
        shape = case.workload
        prompt = self._prompt("timing")
        self.shape = Shape(prompt, min(DECODE_STEPS[target.device.type], shape.new_tokens))
        self.first = last_tokens(prompt.tokens)
        self.arms: list[Arm] = []
        self.last: dict[str, Tensor] = {}
        self.kept: dict[str, list[Tensor]] = {}

    def _prompt(self, purpose: str) -> ModelInputs:
        """Rows that begin alike where the workload says so, and with the same tokens whatever the purpose."""
        shape = self.case.workload
        text, pictures = self.source.text, self.source.pictures
        draw = partial(inputs.draw, self.spec, self.source.config, seed=self.case.seed, text=text, pictures=pictures)
        prompt = draw(shape.prompt_tokens, [shape.images] * shape.batch, purpose=f"{purpose} {self.process}")
        shared = min(shape.shared_prefix_tokens, shape.prompt_tokens)
        if shared:
            beginning = draw(shared, [0], purpose=f"shared prefix {self.process}").tokens
            tokens = prompt.tokens[:, :shared]
            tokens.copy_(tokens.where(prompt.shows()[:, :shared], beginning))
        return prompt.to(self.target.device, self.target.dtype)

    def open(self, timing: Timing, telemetry: Telemetry) -> None:
        """Build both models and open every arm; one that cannot run here leaves its reason."""
        began = time.perf_counter()
        hf = build.reference(self.spec, self.source, self.target.dtype, self.target.device)
        hf_s = timed_s(self.target.device, began)
        self.hf = hf
        began = time.perf_counter()
        ours, _ = build.candidate(self.spec, self.source, hf, self.stack, self.target)
        ours_s = timed_s(self.target.device, began)
        label = "+".join(self.stack) or "eager build"
        arms: list[tuple[Arm, float]] = [(self._peer(name), hf_s) for name in self.case.arms]
        if self.reuses(ours):
            shared = self.case.workload.shared_prefix_tokens
            arms += [(Candidate(ours, COLD, f"{label}, nothing cached"), ours_s)]
            arms += [(PrefixHit(ours, name, label, shared), ours_s) for name in (CANDIDATE, AGAIN)]
        else:
            arms += [(Candidate(ours, name, label), ours_s) for name in (CANDIDATE, AGAIN)]
        for arm, load_s in arms:
            self._open(arm, load_s, timing, telemetry)
        if not {CANDIDATE, REFERENCE} <= {arm.name for arm in self.arms}:
            raise HarnessError("the reference and the candidate must both run, or there is nothing to compare")

    def _peer(self, name: str) -> Arm:
        if name == EAGER:
            return Eager(self.spec, self.source, self.hf, self.stack, self.target)
        return PEERS[name](self.hf)

    def _open(self, arm: Arm, load_s: float, timing: Timing, telemetry: Telemetry) -> None:
        before = memory.allocated(self.target.device)
        used_before = telemetry.memory_bytes()
        absent = None
        try:
            arm.open(self.shape)
            self.arms.append(arm)
        except ArmAbsent as reason:
            absent = str(reason)
        used = telemetry.memory_bytes()
        timing.arms.append(
            ArmReport(
                name=arm.name,
                label=arm.label,
                process=self.process,
                load_s=load_s,
                compile_s=arm.compile_s,
                capture_s=arm.capture_s,
                peak_memory_bytes=memory.peak(self.target.device) - before,
                device_memory_bytes=None if used is None or used_before is None else max(0, used - used_before),
                absent=absent,
            )
        )

    def reuses(self, model: Any) -> bool:
        """Whether the candidate finds the beginning of its prompt cached."""
        return bool(self.case.workload.shared_prefix_tokens) and "prefixes" in vars(model)

    def phases(self) -> Iterator[Phase]:
        yield "prefill"
        if self.shape.decode_steps:
            yield "decode"

    def timed(self, arm: Arm, phase: Phase) -> Timed:
        def prefill() -> None:
            self.last[arm.name] = arm.prefill(self.shape.inputs)

        def decode() -> None:
            self.last[arm.name] = arm.decode(self.first, self.shape.decode_steps)

        def reset() -> None:
            if phase == "decode":
                arm.rewind()
            meet(self.target)

        if phase == "prefill":
            return Timed(arm.name, prefill, reset, 1)
        return Timed(arm.name, decode, reset, self.shape.decode_steps)

    def work(self, phase: Phase) -> Work:
        shape = self.case.workload
        cached = shape.shared_prefix_tokens if COLD in {arm.name for arm in self.arms} else 0
        tokens = max(1, shape.prompt_tokens - cached) if phase == "prefill" else 1
        context = shape.prompt_tokens + (0 if phase == "prefill" else (self.shape.decode_steps + 1) // 2)
        cost = self.spec.work(self.source.config, self.target.dtype, Workload(phase, shape.batch, tokens, context))
        unread = saved_bytes(self.spec, self.hf, self.stack)
        # Ranks do their shares at the same time.
        world = self.target.world
        return Work(phase=phase, bytes=(cost.bytes - unread) // world, flops=cost.flops // world)

    def weigh(self, timing: Timing, telemetry: Telemetry) -> None:
        """The energy of a token, in the last phase: of new tokens where there are any. Seconds an arm: one process does
        it for all."""
        phase = tuple(self.phases())[-1]
        tokens = self.shape.batch * (1 if phase == "decode" else self.shape.prompt.shape[1])
        clock = clock_for(self.target.device)
        spent: dict[str, float] = {}
        for arm in self.arms:
            joules = joules_per_call(self.timed(arm, phase), clock, telemetry, partial(agreed, self.target))
            if joules is not None:
                spent[arm.name] = summed(self.target, joules) / tokens
        timing.arms = [
            report.model_copy(update={"energy_j_per_token": spent.get(report.name)}) for report in timing.arms
        ]

    def count(self, timing: Timing) -> None:
        """The kernels of a decode step, where the workload has one."""
        if not self.shape.decode_steps:
            return
        layers = len(Plain(self.hf, decoder=self.spec.decoder))
        found: dict[str, int | None] = {}
        for arm in self.arms:
            arm.rewind()
            found[arm.name] = kernels_launched(partial(arm.decode, self.first, 1), self.target.device)
        timing.arms = [
            report.model_copy(update={"decode_kernels_per_layer": kernels / layers})
            if (kernels := found.get(report.name)) is not None
            else report
            for report in timing.arms
        ]

    def keep(self) -> None:
        """Copies of what each arm gave in the phase that was just timed: its next call may use the same buffer."""
        for name, output in self.last.items():
            self.kept.setdefault(name, []).append(output.clone())

    def recheck(self, timing: Timing) -> None:
        """Every arm on the very buffers that were timed, on inputs rewritten in place, against a reference that was not
        timed. A peer that is wrong has no speed; WrongAfterwards where the candidate or the reference is."""
        self.shape.inputs.overwrite(self._prompt("afterwards"))
        self.first.copy_(self.shape.prompt[:, :1])
        plain = recheck.judge_of(PEERS[REFERENCE](self.hf), self.shape, self.first)
        ours = plain
        if lossy(self.spec, self.stack):
            held = rounded(self.spec, self.hf, self.stack)
            ours = recheck.judge_of(PEERS[REFERENCE](held), self.shape, self.first)
        wrong: dict[str, str] = {}
        for arm in self.arms:
            try:
                self._judge_again(arm, ours if arm.name in OURS else plain)
            except WrongAfterwards as error:
                if arm.name in OURS or arm.name == REFERENCE:
                    raise
                wrong[arm.name] = str(error)
        right = {arm.name for arm in self.arms} - wrong.keys()
        timing.series = [series for series in timing.series if series.arm not in wrong]
        timing.arms = [
            report.model_copy(
                update={"rechecked": report.name in right, "absent": wrong.get(report.name, report.absent)}
            )
            for report in timing.arms
        ]

    def _judge_again(self, arm: Arm, expected: Outputs) -> None:
        found = recheck.outputs(arm, self.shape, self.first)
        recheck.require_computed(arm.name, found, self.kept[arm.name])
        recheck.require_model(arm.name, found, expected, recheck.limit_of(self.spec, self.target.dtype))

    def close(self) -> None:
        """Give the device's memory back before kernels are timed on it."""
        del self.hf
        self.arms.clear()
        self.last.clear()
        self.kept.clear()
        gc.collect()
        if self.target.device.type == "cuda":
            torch.cuda.empty_cache()
