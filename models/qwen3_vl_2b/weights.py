"""Hugging Face parameter name -> ours."""

from __future__ import annotations

from models.common.decoder.weights import GATED_RENAMES, LAYER_RENAMES, renaming

text = renaming(("model.language_model.", ""), *LAYER_RENAMES, *GATED_RENAMES)
tower = renaming(
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
    return tower(name) if name.startswith("model.visual.") else text(name)


def perturb(name: str) -> float:
    """Norm weights start at 1 and biases at 0 in Hugging Face; noise makes a missing one visible. The position table
    starts so small that reading it wrongly would hide."""
    if "pos_embed" in name:
        return 0.5
    return 0.1 if "norm" in name or name.endswith(".bias") else 0.0
