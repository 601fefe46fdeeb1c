"""The Hugging Face model that this one is held against."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from harness.spec.config import HFConfig
from models.common.decoder.reference import causal_lm


def reference(config: HFConfig, dtype: torch.dtype, device: torch.device, weights: Path | None) -> nn.Module:
    """transformers' own Qwen3."""
    from transformers import Qwen3Config

    return causal_lm(Qwen3Config, config, dtype, device, weights)
