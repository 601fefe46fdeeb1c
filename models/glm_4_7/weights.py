"""Hugging Face tensor name -> ours."""

from __future__ import annotations

RENAMES = (
    ("model.", ""),
    ("embed_tokens.", "embed."),
    ("self_attn.q_norm", "attention.rotary.q_norm"),
    ("self_attn.k_norm", "attention.rotary.k_norm"),
    ("self_attn.o_proj", "attention.o_proj"),
    ("self_attn.", "attention.qkv."),
    ("mlp.gate.e_score_correction_bias", "mlp.routed.router.correction"),
    ("mlp.gate.", "mlp.routed.router."),
    ("mlp.experts.", "mlp.routed.experts."),
    ("mlp.shared_experts.", "mlp.shared."),
    ("mlp.gate_proj", "mlp.gate_up.gate_proj"),
    ("mlp.up_proj", "mlp.gate_up.up_proj"),
    ("mlp.shared.gate_proj", "mlp.shared.gate_up.gate_proj"),
    ("mlp.shared.up_proj", "mlp.shared.gate_up.up_proj"),
    ("input_layernorm", "input_norm"),
    ("post_attention_layernorm", "post_norm"),
)
PERTURBED = ("norm", "bias")
NEXT_TOKENS = "model.layers.92."
"""The layer behind the last one, which predicts a second token: published with the weights, no part of the model."""


def rename(name: str) -> str | None:
    """None for what the checkpoint holds and this model leaves out."""
    if name.startswith(NEXT_TOKENS):
        return None
    for old, new in RENAMES:
        name = name.replace(old, new)
    return name


def perturb(name: str) -> float:
    """Norm weights start at 1 in Hugging Face, biases and the router's correction at 0; noise makes a missing one
    visible."""
    return 0.1 if any(part in name for part in PERTURBED) else 0.0
