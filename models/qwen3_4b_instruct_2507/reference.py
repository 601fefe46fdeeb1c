"""The Hugging Face model that this one is held against."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from harness.spec import HFConfig


def reference(config: HFConfig, dtype: torch.dtype, device: torch.device, weights: Path | None) -> nn.Module:
    """transformers' own Qwen3, SDPA attention; random weights by its own initialization, or a local checkpoint."""
    from transformers import AutoModelForCausalLM, Qwen3Config

    if weights is not None:
        model = AutoModelForCausalLM.from_pretrained(
            weights,
            dtype=dtype,
            attn_implementation="sdpa",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        ).to(device)
    else:
        with torch.device(device):
            model = AutoModelForCausalLM.from_config(
                Qwen3Config(**config), dtype=dtype, attn_implementation="sdpa", trust_remote_code=False
            )
    return model.eval().requires_grad_(False)
