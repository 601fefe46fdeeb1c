"""Hugging Face with its static cache, eager, and the same compiled."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.spec.model_inputs import ModelInputs
from harness.spec.runtime import HuggingFaceLM
from harness.timing.arms.arm import Answer, Arm, ArmAbsent, Shape, decoding, last_tokens, timed_s

if TYPE_CHECKING:
    from transformers import StaticCache


class HFStatic(Arm):
    """Static cache no longer than the case needs (its attention reads the cache to the end)."""

    name = "hf_static"
    label = "Hugging Face, static cache, eager"
    cache: StaticCache

    def __init__(self, model: HuggingFaceLM) -> None:
        super().__init__()
        self.model = model
        self.prompt_tokens = 0
        self.keywords: dict[str, Tensor] = {}
        self.offsets: Tensor | int = 0
        """[B, 1]: what an image takes less, or more, in rotary positions than in tokens."""

    def open(self, shape: Shape) -> None:
        from transformers import StaticCache

        self.cache = StaticCache(config=self.model.config, max_cache_len=shape.capacity)
        self.keywords = shape.inputs.keywords()
        self.prefill(shape.inputs)

    def prefill(self, inputs: ModelInputs) -> Tensor:
        self._set_length(0)
        self.prompt_tokens = inputs.tokens.shape[1]
        out = self.model(
            input_ids=inputs.tokens, past_key_values=self.cache, use_cache=True, logits_to_keep=1, **self.keywords
        )
        if self.keywords:
            self.offsets = out.rope_deltas
        logits: Tensor = out.logits[:, -1]
        return logits

    def rewind(self) -> None:
        self._set_length(self.prompt_tokens)

    def _set_length(self, length: int) -> None:
        for layer in self.cache.layers:
            layer.cumulative_length.fill_(length)

    def decode(self, tokens: Tensor, steps: int) -> Answer:
        fed, logits = [], tokens
        positions = torch.full_like(tokens, self.prompt_tokens) + self.offsets
        with decoding(self.model):
            for _ in range(steps):
                fed.append(tokens)
                logits, tokens = self._step(tokens, positions)
                positions = positions + 1
        return Answer(logits, tuple(fed))

    def _step(self, tokens: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.model(
            input_ids=tokens, position_ids=positions, past_key_values=self.cache, use_cache=True, logits_to_keep=1
        ).logits[:, -1]
        return logits, logits.argmax(-1, keepdim=True)


class HFCompiled(HFStatic):
    """The decode step, argmax included, through torch.compile with CUDA graphs; prefill stays eager, as in
    `generate`."""

    compiled: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

    def __init__(self, model: HuggingFaceLM, name: str, mode: str) -> None:
        super().__init__(model)
        self.name, self.mode = name, mode
        self.label = f"Hugging Face, static cache, torch.compile {mode}"

    def open(self, shape: Shape) -> None:
        if shape.prompt.device.type != "cuda":
            raise ArmAbsent("its CUDA graphs need a GPU")
        if not shape.decode_steps:
            raise ArmAbsent("only its decode step is compiled, and this case has none")
        super().open(shape)
        self.compiled = torch.compile(super()._step, mode=self.mode, fullgraph=True, dynamic=False)
        began = time.perf_counter()
        # Compile, record and replay before anything is timed, over two steps: the second is fed what the first gave.
        for _ in range(3):
            self.rewind()
            self.decode(last_tokens(shape.prompt), min(2, shape.decode_steps))
        self.compile_s = timed_s(shape.prompt.device, began)
        self.rewind()

    def _step(self, tokens: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        torch.compiler.cudagraph_mark_step_begin()
        logits, following = self.compiled(tokens, positions)
        # The graph's own memory is overwritten by its next replay.
        return logits.clone(), following.clone()
