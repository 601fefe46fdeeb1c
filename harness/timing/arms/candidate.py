"""The build under test."""

from __future__ import annotations

import time

from torch import Tensor

from harness.build.inputs import prepare
from harness.parity.kernels.dispatches import dispatched
from harness.records.record import Phase
from harness.spec.kernel import Kernel
from harness.spec.model_inputs import ModelInputs
from harness.spec.runtime import CausalLM, KVCache
from harness.timing.arms.arm import Answer, Arm, Shape, timed_s


class OurBuild(Arm):
    """A build of our model, on a cache of its own that every prefill begins anew."""

    model: CausalLM
    cache: KVCache
    prompt_tokens = 0
    kernels: tuple[Kernel, ...] = ()
    """Declared by the stack, where they run."""

    def __init__(self) -> None:
        super().__init__()
        self.dispatches: dict[Phase, tuple[str, ...]] = {}
        """What the calls of a phase launch: seen when they run for the first time and are captured."""

    def open(self, shape: Shape) -> None:
        self.cache = self.model.new_cache(shape.batch, shape.capacity)
        self.prefill(shape.inputs)
        self.get_ready(shape)

    def get_ready(self, shape: Shape) -> None:
        """What is recorded once is recorded here, behind a prefilled prompt: steps when they first come, a prompt when
        it comes again."""
        began = time.perf_counter()
        if shape.decode_steps:
            with dispatched(self.kernels) as steps:
                self.decode(shape.prompt[:, :1], shape.decode_steps)
            self.dispatches["decode"] = steps.names()
        with dispatched(self.kernels) as prompt:
            for _ in range(2):
                self.prefill(shape.inputs)
        self.dispatches["prefill"] = prompt.names()
        self.capture_s = timed_s(shape.prompt.device, began)
        self.rewind()

    def prefill(self, inputs: ModelInputs) -> Tensor:
        self.cache.rewind(0)
        self.prompt_tokens = inputs.tokens.shape[1]
        prepare(self.model, self.cache, inputs)
        return self.model(inputs.tokens, self.cache, keep=1)[:, -1]

    def rewind(self) -> None:
        self.cache.rewind(self.prompt_tokens)

    def decode(self, tokens: Tensor, steps: int) -> Answer:
        fed, logits = [], tokens
        for _ in range(steps):
            fed.append(tokens)
            logits = self.model.decode(tokens, self.cache)
            tokens = logits.argmax(-1, keepdim=True)
        return Answer(logits, tuple(fed))


class Candidate(OurBuild):
    """Our model with its stack. Timed twice under two names, so that the protocol is tested by a pair that must tie."""

    def __init__(self, model: CausalLM, name: str, label: str, kernels: tuple[Kernel, ...] = ()) -> None:
        super().__init__()
        self.model, self.name, self.label, self.kernels = model, name, label, kernels
