"""The Hugging Face model that this one is held against."""

from __future__ import annotations

from typing import Any

from models.common.decoder.hf_causal_lm import causal_lm_reference


def qwen3() -> Any:
    """transformers' own Qwen3."""
    from transformers import Qwen3Config

    return Qwen3Config


reference = causal_lm_reference(qwen3)
