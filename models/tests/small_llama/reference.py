"""The Hugging Face model that this one is held against."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from harness.spec.hf_config import HFConfig
from models.common.decoder.hf_causal_lm import causal_lm


def reference(config: HFConfig, dtype: torch.dtype, device: torch.device, weights: Path | None) -> nn.Module:
    """transformers' own Llama."""
    from transformers import LlamaConfig

    return causal_lm(LlamaConfig, config, dtype, device, weights)
