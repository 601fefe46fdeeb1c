"""The build under test where the beginning of the prompt is already cached."""

from __future__ import annotations

from torch import Tensor

from harness.build.inputs import reopened
from harness.spec.kernel import Kernel
from harness.spec.model_inputs import ModelInputs
from harness.spec.runtime import OpenedPrefix, PrefixCache, PrefixLM
from harness.timing.arms.arm import ArmAbsent, Shape
from harness.timing.arms.candidate import Candidate

COLD = "cold"
"""The arm that is the same build with nothing cached."""


class PrefixHit(Candidate):
    """Every prefill looks its prompt up, takes the first `shared` tokens from the pool and computes the rest. What one
    sample computed is forgotten before the next, so that each finds as much as the first."""

    prefixes: PrefixCache

    def __init__(self, model: PrefixLM, name: str, label: str, shared: int, kernels: tuple[Kernel, ...] = ()) -> None:
        super().__init__(model, name, f"{label}, {shared} prompt tokens cached", kernels)
        self.pool, self.shared = model.prefixes, shared
        self.opened: OpenedPrefix | None = None
        self.capacity = 0

    def open(self, shape: Shape) -> None:
        if shape.inputs.pixels is not None:
            raise ArmAbsent("prefixes with images are proven, not timed: a prefix may end inside an image")
        page_tokens = self.pool.page_tokens
        self.capacity = shape.capacity
        # Room for the open rows and for the prefix beside them.
        self.prefixes = self.pool.resized(2 * shape.batch * -(-shape.capacity // page_tokens), page_tokens)
        cache, _ = self.prefixes.open(shape.prompt[:, : self.shared], self.shared)
        self.model(shape.prompt[:, : self.shared], cache, keep=1)
        self.prefixes.close(cache)
        self.prefill(shape.inputs)
        self.get_ready(shape)

    def prefill(self, inputs: ModelInputs) -> Tensor:
        prompt = inputs.tokens
        if self.opened is not None:
            self.opened.cache.rewind(self.opened.matched)
            self.prefixes.close(self.opened.cache)
        self.opened = reopened(self.model, self.prefixes, inputs, self.capacity)
        self.cache = self.opened.cache
        self.prompt_tokens = prompt.shape[1]
        return self.model(prompt[:, self.opened.matched :], self.cache, keep=1)[:, -1]
