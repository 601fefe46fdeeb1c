"""Hugging Face parameter name -> ours."""

from __future__ import annotations

RENAMES = (
    ("model.", ""),
    ("embed_tokens.", "embed."),
    ("self_attn.o_proj", "attention.o_proj"),
    ("self_attn.", "attention.qkv."),
    ("mlp.gate_proj", "mlp.gate_up.gate_proj"),
    ("mlp.up_proj", "mlp.gate_up.up_proj"),
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
