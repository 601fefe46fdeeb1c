"""The Hugging Face model that this one is held against."""

from __future__ import annotations

from typing import Any

from models.common.decoder.hf_causal_lm import causal_lm_reference


def qwen3_moe() -> Any:
    """transformers' own Qwen3-MoE: SDPA attention, and its grouped experts, pinned so that generation keeps them."""
    from transformers import Qwen3MoeConfig

    return Qwen3MoeConfig


reference = causal_lm_reference(qwen3_moe, experts_implementation="grouped_mm")
