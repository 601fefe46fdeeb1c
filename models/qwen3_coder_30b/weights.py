"""Hugging Face parameter name -> ours; a checkpoint's experts put together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor

from harness.spec.config import HFConfig
from models.common.moe.expert_weights import merged
from models.qwen3_coder_30b.config import geometry

RENAMES = (
    ("model.", ""),
    ("embed_tokens.", "embed."),
    ("self_attn.q_norm", "attention.rotary.q_norm"),
    ("self_attn.k_norm", "attention.rotary.k_norm"),
    ("self_attn.o_proj", "attention.o_proj"),
    ("self_attn.", "attention.qkv."),
    ("mlp.gate.", "mlp.router."),
    ("input_layernorm", "input_norm"),
    ("post_attention_layernorm", "post_norm"),
)


def rename(name: str) -> str:
    for old, new in RENAMES:
        name = name.replace(old, new)
    return name


def perturb(name: str) -> float:
    """Norm weights start at 1 in Hugging Face; noise makes a missing one visible."""
    return 0.1 if "norm" in name else 0.0


def merge(config: HFConfig, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    return merged(tensors, geometry(config).experts)
