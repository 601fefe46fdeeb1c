"""Hugging Face parameter name -> ours."""

from __future__ import annotations

TEXT = (
    ("model.language_model.", ""),
    ("embed_tokens.", "embed."),
    ("self_attn.q_norm", "attention.rotary.q_norm"),
    ("self_attn.k_norm", "attention.rotary.k_norm"),
    ("self_attn.o_proj", "attention.o_proj"),
    ("self_attn.", "attention.qkv."),
    ("mlp.gate_proj", "mlp.gate_up.gate_proj"),
    ("mlp.up_proj", "mlp.gate_up.up_proj"),
    ("input_layernorm", "input_norm"),
    ("post_attention_layernorm", "post_norm"),
)
TOWER = (
    ("model.visual.", "tower."),
    ("patch_embed.proj.", "embedding."),
    ("pos_embed.", "embedding.positions."),
    ("deepstack_merger_list.", "deep_mergers."),
    (".norm1.", ".input_norm."),
    (".norm2.", ".post_norm."),
    (".attn.", ".attention."),
    (".mlp.linear_fc1.", ".mlp.up."),
    (".mlp.linear_fc2.", ".mlp.down."),
    (".linear_fc1.", ".up."),
    (".linear_fc2.", ".down."),
)


def rename(name: str) -> str:
    for old, new in TOWER if name.startswith("model.visual.") else TEXT:
        name = name.replace(old, new)
    return name


def perturb(name: str) -> float:
    """Norm weights start at 1 and biases at 0 in Hugging Face; noise makes a missing one visible. The position table
    starts so small that reading it wrongly would hide."""
    if "pos_embed" in name:
        return 0.5
    return 0.1 if "norm" in name or name.endswith(".bias") else 0.0
