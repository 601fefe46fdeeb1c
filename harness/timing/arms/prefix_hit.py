"""The build under test where the beginning of the prompt is already cached."""

from __future__ import annotations

import time
from typing import Any

from torch import Tensor

from harness.build.inputs import reopened
from harness.spec.inputs import ModelInputs
from harness.timing.arms.arm import ArmAbsent, Shape, timed_s
from harness.timing.arms.candidate import Candidate

COLD = "cold"
"""The arm that is the same build with nothing cached."""


class PrefixHit(Candidate):
    """Every prefill looks its prompt up, takes the first `shared` tokens from the pool and computes the rest. What one
    sample computed is forgotten before the next, so that each finds as much as the first."""

    def __init__(self, model: Any, name: str, label: str, shared: int) -> None:
        super().__init__(model, name, f"{label}, {shared} prompt tokens cached")
        self.shared = shared
        self.prefixes: Any = None
        self.matched = 0
        self.capacity = 0

    def open(self, shape: Shape) -> None:
        if shape.inputs.pixels is not None:
            raise ArmAbsent("prefixes with images are proven, not timed: a prefix may end inside an image")
        page_tokens = self.model.prefixes.page_tokens
        self.capacity = shape.capacity
        # Room for the open rows and for the prefix beside them.
        self.prefixes = self.model.prefixes.resized(2 * shape.batch * -(-shape.capacity // page_tokens), page_tokens)
        cache, _ = self.prefixes.open(shape.prompt[:, : self.shared], self.shared)
        self.model(shape.prompt[:, : self.shared], cache, keep=1)
        self.prefixes.close(cache)
        self.prefill(shape.inputs)
        began = time.perf_counter()
        self.capture(shape)
        self.capture_s = timed_s(shape.prompt.device, began)
        self.rewind()

    def prefill(self, inputs: ModelInputs) -> Tensor:
        prompt = inputs.tokens
        if self.cache is not None:
            self.cache.rewind(self.matched)
            self.prefixes.close(self.cache)
        self.cache, self.matched = reopened(self.model, self.prefixes, inputs, self.capacity)
        self.prompt_tokens = prompt.shape[1]
        out: Tensor = self.model(prompt[:, self.matched :], self.cache, keep=1)[:, -1]
        return out
