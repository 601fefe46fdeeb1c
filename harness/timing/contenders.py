"""The arms of one case side by side: built, opened on one prompt, asked for a phase, and judged again afterwards."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from harness.build import builder, inputs
from harness.build.quantized_reference import lossy, rounded, saved_bytes
from harness.build.ranks import agreed, meet, summed
from harness.build.reference_integrity import ReferenceIntegrity
from harness.errors import HarnessError
from harness.parity.reference.reference_model import ReferenceModel
from harness.records.case import Case
from harness.records.record import CANDIDATE, CONTROL, REFERENCE, ArmReport, Phase, Work
from harness.spec.model import Workload
from harness.spec.model_inputs import ModelInputs
from harness.spec.runtime import hugging_face_lm, prefix_lm
from harness.timing import memory, recheck
from harness.timing.arms.arm import Arm, ArmAbsent, Shape, last_tokens, timed_s
from harness.timing.arms.by_name import PEERS
from harness.timing.arms.candidate import Candidate
from harness.timing.arms.prefix_hit import COLD, PrefixHit
from harness.timing.arms.sibling import LABELS, Sibling
from harness.timing.clock import clock_for
from harness.timing.energy import joules_per_call
from harness.timing.launched import kernels_launched
from harness.timing.protocol import Timed
from harness.timing.recheck import Outputs, WrongAfterwards
from harness.timing.telemetry import Telemetry
from harness.timing.visited import experts_visited

DECODE_STEPS = {"cpu": 8, "cuda": 4}
"""Tokens per decode sample: long enough to time, short enough that the context stays what the case says."""
OURS = frozenset({CANDIDATE, CONTROL, COLD})
"""Arms that compute with the stack's own weights, rounded where it rounds."""


class Contenders:
    """All arms of a case on one device, on the same prompt."""

    def __init__(self, case: Case, config: builder.BuildConfig, process: int) -> None:
        self.case, self.config, self.process = case, config, process
        self.spec, self.source, self.stack, self.target = config.spec, config.source, config.stack, config.target
        shape = case.workload
        prompt = self._prompt("timing")
        self.shape = Shape(prompt, min(DECODE_STEPS[self.target.device.type], shape.new_tokens))
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

    def open(self, telemetry: Telemetry) -> list[ArmReport]:
        """Build both models and open every arm; one that cannot run here leaves its reason."""
        began = time.perf_counter()
        hf = builder.reference(self.spec, self.source, self.target.dtype, self.target.device)
        hf_s = timed_s(self.target.device, began)
        self.hf = hf
        began = time.perf_counter()
        integrity = ReferenceIntegrity(hf)
        ours = builder.candidate(self.config, hf, integrity.look).model
        integrity.require()
        ours_s = timed_s(self.target.device, began)
        told = dict(zip(self.case.optimizations, self.case.stacked(), strict=True))
        label = "+".join(told[name] for name in self.stack) or "eager build"
        arms: list[tuple[Arm, float]] = [(self._peer(name), hf_s) for name in self.case.arms]
        shared = self.case.workload.shared_prefix_tokens
        if shared and "prefix_cache" in self.config.provides:
            arms += [(Candidate(ours, COLD, f"{label}, nothing cached"), ours_s)]
            arms += [(PrefixHit(prefix_lm(ours), name, label, shared), ours_s) for name in (CANDIDATE, CONTROL)]
        else:
            arms += [(Candidate(ours, name, label), ours_s) for name in (CANDIDATE, CONTROL)]
        reports = [self._open(arm, load_s, telemetry) for arm, load_s in arms]
        if not {CANDIDATE, REFERENCE} <= {arm.name for arm in self.arms}:
            raise HarnessError("the reference and the candidate must both run, or there is nothing to compare")
        return reports

    def _peer(self, name: str) -> Arm:
        if name in LABELS:
            return Sibling(name, self.config, self.hf, self.case.workload.shared_prefix_tokens)
        return PEERS[name](hugging_face_lm(self.hf))

    def _open(self, arm: Arm, load_s: float, telemetry: Telemetry) -> ArmReport:
        before = memory.allocated(self.target.device)
        used_before = telemetry.memory_bytes()
        absent = None
        try:
            arm.open(self.shape)
            self.arms.append(arm)
        except ArmAbsent as reason:
            absent = str(reason)
        used = telemetry.memory_bytes()
        return ArmReport(
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
        experts = self._experts(phase, tokens)
        load = Workload(phase, shape.batch, tokens, context, experts)
        cost = self.spec.work(self.source.config, self.target.dtype, load)
        unread = saved_bytes(self.spec, self.hf, self.stack)
        # Ranks do their shares at the same time.
        world = self.target.world
        return Work(phase=phase, bytes=(cost.bytes - unread) // world, flops=cost.flops // world, experts=experts)

    def _experts(self, phase: Phase, tokens: int) -> float | None:
        if self.spec.routing is None:
            return None
        (reference,) = (arm for arm in self.arms if arm.name == REFERENCE)
        work = self.timed(reference, phase)
        work.reset()
        layers = ReferenceModel(self.hf, decoder=self.spec.decoder).core.layers
        return experts_visited(layers, self.spec.routing, self.shape.batch, tokens, work.run)

    def joules_per_token(self, telemetry: Telemetry) -> dict[str, float]:
        """By arm, in the last phase: of new tokens where there are any. Seconds an arm."""
        phase = tuple(self.phases())[-1]
        tokens = self.shape.batch * (1 if phase == "decode" else self.shape.prompt.shape[1])
        clock = clock_for(self.target.device)
        spent: dict[str, float] = {}
        for arm in self.arms:
            joules = joules_per_call(self.timed(arm, phase), clock, telemetry, partial(agreed, self.target))
            if joules is not None:
                spent[arm.name] = summed(self.target, joules) / tokens
        return spent

    def kernels_per_layer(self) -> dict[str, float]:
        """By arm, of a decode step where the workload has one."""
        if not self.shape.decode_steps:
            return {}
        layers = len(ReferenceModel(self.hf, decoder=self.spec.decoder))
        found: dict[str, float] = {}
        for arm in self.arms:
            arm.rewind()
            launched = kernels_launched(partial(arm.decode, self.first, 1), self.target.device)
            if launched is not None:
                found[arm.name] = launched / layers
        return found

    def keep(self) -> None:
        """Copies of what each arm gave in the phase that was just timed: its next call may use the same buffer."""
        for name, output in self.last.items():
            self.kept.setdefault(name, []).append(output.clone())

    def recheck(self) -> dict[str, str]:
        """Every arm on the very buffers that were timed, on inputs rewritten in place, against a reference that was not
        timed: peers that are wrong, each with what is. WrongAfterwards where the candidate or the reference is."""
        self.shape.inputs.overwrite(self._prompt("afterwards"))
        self.first.copy_(self.shape.prompt[:, :1])
        plain = recheck.judge_of(PEERS[REFERENCE](hugging_face_lm(self.hf)), self.shape, self.first)
        ours = plain
        if lossy(self.spec, self.stack):
            held = rounded(self.spec, self.hf, self.stack)
            ours = recheck.judge_of(PEERS[REFERENCE](hugging_face_lm(held)), self.shape, self.first)
        wrong: dict[str, str] = {}
        for arm in self.arms:
            try:
                self._judge_again(arm, ours if arm.name in OURS else plain)
            except WrongAfterwards as error:
                if arm.name in OURS or arm.name == REFERENCE:
                    raise
                wrong[arm.name] = str(error)
        return wrong

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
