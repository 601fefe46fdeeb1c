"""How a model that sees is fed and judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.spec.hf_config import HFConfig
from harness.spec.model_inputs import Features, ModelInputs

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class Part:
    """A module of the vision tower, judged alone on the reference's own input to it."""

    name: str
    op: str
    reference: str
    """Its path in the reference's tower, or `path:input` for all that comes before that module."""
    ours: Callable[[Any, ModelInputs, Tensor], Tensor]
    """Our model, the prompt and the part's input -> its output."""
    residual: bool = False
    """Whether the part adds to its input: then what it added is judged."""


@dataclass(frozen=True)
class Vision:
    """How a model that sees is fed and judged. Its build is a `harness.spec.runtime.VisionLM`."""

    inputs: Callable[[HFConfig, int, Sequence[int], torch.Generator], ModelInputs]
    """(config, tokens, images of each row, generator) -> a batch on the CPU. The layout, where images stand and how
    large they are, follows from the first three alone; of three images of a row, or more, the largest is neither the
    first nor the last."""
    tower: str
    """Path of the vision tower in the reference."""
    features: Callable[[nn.Module, ModelInputs], Features]
    """The reference's tower, in any dtype, on the images of a batch."""
    positions: Callable[[nn.Module, ModelInputs], tuple[Tensor, Tensor]]
    """The reference model's rotary positions [axes, B, T] and [B] what decoding adds to them."""
    parts: Callable[[HFConfig], tuple[Part, ...]]
