"""The build under test."""

from __future__ import annotations

import time

from torch import Tensor

from harness.build.inputs import prepare
from harness.spec.model_inputs import ModelInputs
from harness.spec.runtime import CausalLM, KVCache
from harness.timing.arms.arm import Answer, Arm, Shape, timed_s


class OurBuild(Arm):
    """A build of our model, on a cache of its own that every prefill begins anew."""

    model: CausalLM
    cache: KVCache
    prompt_tokens = 0

    def open(self, shape: Shape) -> None:
        self.cache = self.model.new_cache(shape.batch, shape.capacity)
        self.prefill(shape.inputs)
        began = time.perf_counter()
        self.capture(shape)
        self.capture_s = timed_s(shape.prompt.device, began)
        self.rewind()

    def capture(self, shape: Shape) -> None:
        """What is recorded once is recorded here: a step when it first comes, a prompt when it comes again."""
        if shape.decode_steps:
            self.decode(shape.prompt[:, :1], 1)
        for _ in range(2):
            self.prefill(shape.inputs)

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

    def __init__(self, model: CausalLM, name: str, label: str) -> None:
        super().__init__()
        self.model, self.name, self.label = model, name, label
