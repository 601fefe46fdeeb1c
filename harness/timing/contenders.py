"""The arms of one case side by side: built, opened on one prompt, asked for a phase, and judged again afterwards."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch

from harness.build import builder
from harness.build.quantized_reference import lossy, rounded, saved_bytes
from harness.build.ranks import agreed, meet, summed
from harness.errors import HarnessError
from harness.parity.reference.reference_model import ReferenceModel
from harness.records.case import Case
from harness.records.proof_size import TimedSize
from harness.records.record import CANDIDATE, CONTROL, REFERENCE, ArmReport, Phase, PhaseDispatches, Work
from harness.spec.model import Workload
from harness.spec.runtime import hugging_face_lm
from harness.timing import asked_again, memory, recheck
from harness.timing.arms.arm import Answer, Arm, ArmAbsent, Shape, last_tokens, timed_s
from harness.timing.arms.by_name import PEERS
from harness.timing.arms.candidate import Candidate
from harness.timing.arms.line_up import line_up, stream_of
from harness.timing.arms.prefix_hit import COLD
from harness.timing.cache_sweep import Sweep
from harness.timing.clock import clock_for
from harness.timing.energy import joules_per_call
from harness.timing.feeds import Feeds
from harness.timing.launched import kernels_launched
from harness.timing.protocol import Timed
from harness.timing.recheck import Judge, Outputs, Sample, WrongAfterwards
from harness.timing.telemetry import Telemetry
from harness.timing.visited import experts_visited

OURS = frozenset({CANDIDATE, CONTROL, COLD})
"""Arms that compute with the stack's own weights, rounded where it rounds."""


class Contenders:
    """All arms of a case on one device, on the same prompt."""

    def __init__(self, case: Case, config: builder.BuildConfig, process: int) -> None:
        self.case, self.config, self.process = case, config, process
        self.spec, self.source, self.stack, self.target = config.spec, config.source, config.stack, config.target
        self.feeds = Feeds(case, config, process)
        self.shape = Shape(self.feeds.prompt("timing"), TimedSize.of(case).steps)
        self.first = last_tokens(self.shape.prompt)
        self.sweep = Sweep(self.target.device)
        self.arms: list[Arm] = []
        self.last: dict[str, Answer] = {}
        self.samples: dict[str, dict[tuple[Phase, int], Sample]] = {}

    def open(self, telemetry: Telemetry) -> list[ArmReport]:
        """Build both models and open every arm; one that cannot run here leaves its reason."""
        began = time.perf_counter()
        hf = builder.reference(self.spec, self.source, self.target.dtype, self.target.device)
        hf_s = timed_s(self.target.device, began)
        self.hf = hf
        lined_up = line_up(self.case, self.config, hf)
        reports = [self._open(arm, hf_s, telemetry) for arm in lined_up.peers]
        reports += [self._open(arm, lined_up.ours_s, telemetry) for arm in lined_up.ours]
        if not {CANDIDATE, REFERENCE} <= {arm.name for arm in self.arms}:
            raise HarnessError("the reference and the candidate must both run, or there is nothing to compare")
        return reports

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

    def begin(self, phase: Phase) -> None:
        """Draw what the arms are given in the next round of `phase`."""
        self.feeds.begin(phase)
        for arm in self.arms:
            self.feeds.of(stream_of(arm))

    def timed(self, arm: Arm, phase: Phase) -> Timed:
        """The arm on inputs of the round. A decode step begins behind a prompt that the arm computed off the clock."""
        stands = ""

        def reset() -> None:
            nonlocal stands
            feed = self.feeds.of(stream_of(arm))
            self.first.copy_(feed.first)
            if phase == "prefill" or feed.prompt_name != stands:
                self.shape.inputs.overwrite(feed.prompt)
            if phase == "decode":
                if feed.prompt_name != stands:
                    arm.prefill(self.shape.inputs)
                stands = feed.prompt_name
                arm.rewind()
            self.sweep()
            meet(self.target)

        def keep(place: int) -> None:
            logits, fed = self.last[arm.name]
            answer = Answer(logits.clone(), tuple(tokens.clone() for tokens in fed))
            sample = Sample(phase, self.feeds.of(stream_of(arm)), answer)
            self.samples.setdefault(arm.name, {})[phase, place] = sample

        return replace(self._call(arm, phase), reset=reset, keep=keep)

    def _call(self, arm: Arm, phase: Phase) -> Timed:
        """The arm on whatever the buffers hold, behind the prompt that it computed last."""

        def prefill() -> None:
            self.last[arm.name] = Answer(arm.prefill(self.shape.inputs))

        def decode() -> None:
            self.last[arm.name] = arm.decode(self.first, self.shape.decode_steps)

        if phase == "prefill":
            return Timed(arm.name, prefill, partial(meet, self.target), 1)

        def rewind() -> None:
            arm.rewind()
            meet(self.target)

        return Timed(arm.name, decode, rewind, self.shape.decode_steps)

    def dispatches(self, phase: Phase) -> PhaseDispatches:
        """What the stack launches in the phase, in any arm that is all of it."""
        seen = {name for arm in self.arms if isinstance(arm, Candidate) for name in arm.dispatches.get(phase, ())}
        return PhaseDispatches(phase=phase, launched=tuple(sorted(seen)))

    def refuse_memory(self, phase: Phase) -> None:
        """Raises WrongAfterwards where the candidate is faster on inputs that it has seen."""
        (candidate,) = (arm for arm in self.arms if arm.name == CANDIDATE)
        asked_again.require_no_memory(
            self.timed(candidate, phase), clock_for(self.target.device), partial(self.begin, phase)
        )

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
        work = self._call(reference, phase)
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
            joules = joules_per_call(self._call(arm, phase), clock, telemetry, partial(agreed, self.target))
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

    def recheck(self) -> dict[str, str]:
        """Every arm against a reference that was not timed: what it gave in the timed blocks, and what the very buffers
        give on inputs that nobody has seen. Peers that are wrong, each with what is; WrongAfterwards where the
        candidate or the reference is."""
        prompt, first = self.feeds.prompt("afterwards"), self.feeds.first("afterwards")
        self.shape.inputs.overwrite(prompt)
        self.first.copy_(first)
        found = {arm.name: recheck.outputs(arm, self.shape, self.first) for arm in self.arms}
        plain = Judge(PEERS[REFERENCE](hugging_face_lm(self.hf)), self.shape)
        ours = plain
        if lossy(self.spec, self.stack):
            held = rounded(self.spec, self.hf, self.stack)
            ours = Judge(PEERS[REFERENCE](hugging_face_lm(held)), self.shape)
        expected = {judge: judge.outputs(self.first) for judge in dict.fromkeys((plain, ours))}
        wrong: dict[str, str] = {}
        for arm in self.arms:
            judge = ours if arm.name in OURS else plain
            try:
                self._judge(arm, found[arm.name], expected[judge], judge)
            except WrongAfterwards as error:
                if arm.name in OURS or arm.name == REFERENCE:
                    raise
                wrong[arm.name] = str(error)
        return wrong

    def _judge(self, arm: Arm, found: Outputs, expected: Outputs, judge: Judge) -> None:
        samples = self.samples[arm.name].values()
        limit = recheck.limit_of(self.spec, self.target.dtype)
        recheck.require_computed(arm.name, found, [sample.answer.logits for sample in samples])
        recheck.require_model(arm.name, found, expected, limit)
        recheck.require_sampled(arm.name, samples, judge, limit)

    def judged_blocks(self, name: str) -> int:
        """Timed blocks in which the arm's output was kept to be judged."""
        return len(self.samples.get(name, {}))

    def close(self) -> None:
        """Give the device's memory back before kernels are timed on it."""
        del self.hf
        self.arms.clear()
        self.last.clear()
        self.samples.clear()
        gc.collect()
        if self.target.device.type == "cuda":
            torch.cuda.empty_cache()
