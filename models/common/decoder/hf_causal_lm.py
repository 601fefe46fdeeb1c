"""A Hugging Face causal language model, of random weights or from a local checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.spec.hf_config import HFConfig

Reference = Callable[[HFConfig, torch.dtype, torch.device, Path | None], nn.Module]


def causal_lm_reference(config_class: Callable[[], Any], **options: Any) -> Reference:
    """Return what builds a Hugging Face model of the class that `config_class` imports when it is asked for: importing
    transformers takes seconds. As `causal_lm`."""

    def reference(config: HFConfig, dtype: torch.dtype, device: torch.device, weights: Path | None) -> nn.Module:
        return causal_lm(config_class(), config, dtype, device, weights, **options)

    return reference


def causal_lm(
    config_class: type, config: HFConfig, dtype: torch.dtype, device: torch.device, weights: Path | None, **options: Any
) -> nn.Module:
    """Built in `dtype` on `device` with SDPA attention, frozen; `options` go to transformers as they are. Code from a
    checkpoint is never run, nothing is fetched."""
    from transformers import AutoModelForCausalLM

    options = {"dtype": dtype, "attn_implementation": "sdpa", "trust_remote_code": False, **options}
    if weights is not None:
        model = AutoModelForCausalLM.from_pretrained(weights, use_safetensors=True, local_files_only=True, **options)
        model = model.to(device)
    else:
        with torch.device(device):
            model = AutoModelForCausalLM.from_config(config_class(**config), **options)
    return model.eval().requires_grad_(False)
