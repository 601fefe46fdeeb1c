"""The Hugging Face model that this one is held against, and what it makes of images and positions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.spec.hf_config import HFConfig
from harness.spec.model_inputs import Features, ModelInputs


def reference(config: HFConfig, dtype: torch.dtype, device: torch.device, weights: Path | None) -> nn.Module:
    """transformers' own Qwen3-VL, SDPA attention; random weights by its own initialization, or a local checkpoint."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    if weights is not None:
        model = Qwen3VLForConditionalGeneration.from_pretrained(
            weights,
            dtype=dtype,
            attn_implementation="sdpa",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        ).to(device)
    else:
        with torch.device(device):
            model = Qwen3VLForConditionalGeneration._from_config(
                Qwen3VLConfig(**config), dtype=dtype, attn_implementation="sdpa"
            )
    return model.eval().requires_grad_(False)


def features(tower: Any, inputs: ModelInputs) -> Features:
    """What the tower (of any dtype) gives the language model for the images of a batch."""
    keywords = inputs.keywords()
    out = tower(keywords["pixel_values"], grid_thw=keywords["image_grid_thw"], return_dict=True)
    return Features(out.pooler_output, tuple(out.deepstack_features))


def positions(model: Any, inputs: ModelInputs) -> tuple[Tensor, Tensor]:
    """[3, B, T] and [B], by transformers' own rule; text alone stands at 0, 1, 2 ... on every axis."""
    keywords = inputs.keywords()
    if keywords:
        found, deltas = model.model.get_rope_index(
            inputs.tokens, keywords["mm_token_type_ids"], image_grid_thw=keywords["image_grid_thw"]
        )
        return found, deltas.squeeze(1)
    batch, tokens = inputs.tokens.shape
    along = torch.arange(tokens, device=inputs.tokens.device)
    return along.expand(3, batch, -1), torch.zeros(batch, dtype=torch.int64, device=inputs.tokens.device)
