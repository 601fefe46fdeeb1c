"""Hugging Face as it comes: dynamic cache, eager, SDPA."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from harness.spec.model_inputs import ModelInputs
from harness.spec.runtime import HuggingFaceLM
from harness.timing.arms.arm import Answer, Arm, Shape, decoding

if TYPE_CHECKING:
    from transformers import DynamicCache


class Reference(Arm):
    """The model called token by token, without the host work of `generate` around it: a stronger baseline than the
    user's default."""

    name = "reference"
    label = "Hugging Face, dynamic cache, eager"
    cache: DynamicCache

    def __init__(self, model: HuggingFaceLM) -> None:
        super().__init__()
        self.model = model
        self.keywords: dict[str, Tensor] = {}
        self.prompt_state: list[tuple[Tensor, Tensor]] = []

    def open(self, shape: Shape) -> None:
        self.keywords = shape.inputs.keywords()
        self.prefill(shape.inputs)

    def prefill(self, inputs: ModelInputs) -> Tensor:
        from transformers import DynamicCache

        self.cache = DynamicCache(config=self.model.config)
        logits = self._forward(inputs.tokens, **self.keywords)
        # Growing makes new tensors, so the old ones are the state to come back to.
        self.prompt_state = [(layer.keys, layer.values) for layer in self.cache.layers]
        return logits

    def rewind(self) -> None:
        for layer, (keys, values) in zip(self.cache.layers, self.prompt_state, strict=True):
            layer.keys, layer.values = keys, values

    def decode(self, tokens: Tensor, steps: int) -> Answer:
        fed, logits = [], tokens
        with decoding(self.model):
            for _ in range(steps):
                fed.append(tokens)
                logits = self._forward(tokens)
                tokens = logits.argmax(-1, keepdim=True)
        return Answer(logits, tuple(fed))

    def _forward(self, tokens: Tensor, **keywords: Tensor) -> Tensor:
        out: Tensor = self.model(
            input_ids=tokens, past_key_values=self.cache, use_cache=True, logits_to_keep=1, **keywords
        ).logits[:, -1]
        return out
