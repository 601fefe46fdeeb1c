"""The Hugging Face model that this one is held against."""

from __future__ import annotations

from typing import Any

from models.common.decoder.hf_causal_lm import causal_lm_reference


def glm4_moe() -> Any:
    """transformers' own GLM-4 MoE: SDPA attention, and its grouped experts, pinned so that generation keeps them."""
    from transformers import Glm4MoeConfig

    return Glm4MoeConfig


reference = causal_lm_reference(glm4_moe, experts_implementation="grouped_mm")
