"""What every arm can do: take a prompt, prefill it, decode from it, and go back to do it again."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from harness.errors import HarnessError
from harness.spec.model_inputs import ModelInputs
from harness.spec.runtime import HuggingFaceLM


class ArmAbsent(HarnessError):
    """This arm cannot run here; the message is the reason that the report shows."""


@dataclass(frozen=True)
class Shape:
    """One timed case: the prompts and how many tokens one timed decode call makes."""

    inputs: ModelInputs
    decode_steps: int

    @property
    def prompt(self) -> Tensor:
        """Token ids [batch, prompt_tokens]."""
        return self.inputs.tokens

    @property
    def batch(self) -> int:
        return self.prompt.shape[0]

    @property
    def capacity(self) -> int:
        """Cache slots that suffice, and no more: a static cache is read to its end by some arms."""
        return self.prompt.shape[1] + self.decode_steps


class Answer(NamedTuple):
    """What a timed call gave, where the arm left it: its next call may overwrite it."""

    logits: Tensor
    """[B, vocab] of the last token."""
    fed: tuple[Tensor, ...] = ()
    """What each decode step was fed, token ids [B, 1]; none of a prefill."""


class Arm(ABC):
    """Prefill and decode on fixed buffers. `open` does everything that is not to be timed."""

    name: str
    label: str

    def __init__(self) -> None:
        self.compile_s = 0.0
        self.capture_s = 0.0

    @abstractmethod
    def open(self, shape: Shape) -> None:
        """Reserve caches, compile, capture. Raises ArmAbsent when this cannot run here."""

    @abstractmethod
    def prefill(self, inputs: ModelInputs) -> Tensor:
        """The whole prompt, images included, into an empty cache; logits [B, vocab] of its last token."""

    @abstractmethod
    def rewind(self) -> None:
        """Back to where the prompt ends."""

    @abstractmethod
    def decode(self, tokens: Tensor, steps: int) -> Answer:
        """`steps` greedy tokens from tokens [B, 1] on."""


def last_tokens(prompt: Tensor) -> Tensor:
    """prompt [B, T] -> [B, 1], a copy with strides of its own. A slice of one row keeps the prompt's strides through
    `clone`, and a compiler that guards strides would compile again for the next token, which has others."""
    return prompt.new_empty(prompt.shape[0], 1).copy_(prompt[:, -1:])


@contextmanager
def decoding(model: HuggingFaceLM) -> Iterator[None]:
    """What transformers' `generate` does around its decode steps: on a GPU, experts that are computed in groups become
    batched ones, which copy the chosen experts' weights and are faster for few tokens."""
    config = model.config
    kept = getattr(config, "_experts_implementation", None)
    if kept != "grouped_mm" or model.device.type != "cuda":
        yield
        return
    config._experts_implementation = "batched_mm"
    try:
        yield
    finally:
        config._experts_implementation = kept


def timed_s(device: torch.device, began: float) -> float:
    """Seconds since `began` (perf_counter), once the device is idle."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
