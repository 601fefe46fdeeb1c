"""The Hugging Face model that this one is held against."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from harness.spec.config import HFConfig
from models.common.decoder.reference import causal_lm


def reference(config: HFConfig, dtype: torch.dtype, device: torch.device, weights: Path | None) -> nn.Module:
    """transformers' own GLM-4 MoE: SDPA attention, and its grouped experts, pinned so that generation keeps them."""
    from transformers import Glm4MoeConfig

    return causal_lm(Glm4MoeConfig, config, dtype, device, weights, experts_implementation="grouped_mm")
