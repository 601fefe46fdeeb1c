"""Hugging Face tensor name -> ours; a checkpoint's experts put together, its layers past the last one left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor

from harness.spec.config import HFConfig
from models.common.moe.expert_weights import merged
from models.glm_4_7.config import geometry

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


def rename(name: str) -> str:
    for old, new in RENAMES:
        name = name.replace(old, new)
    return name


def perturb(name: str) -> float:
    """Norm weights start at 1 in Hugging Face, biases and the router's correction at 0; noise makes a missing one
    visible."""
    return 0.1 if any(part in name for part in PERTURBED) else 0.0


def merge(config: HFConfig, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """What follows the last layer predicts a second token: published with the weights, no part of the model."""
    g = geometry(config)
    beyond = tuple(f"model.layers.{g.layers + index}." for index in range(g.predicting_layers))
    return merged(((name, tensor) for name, tensor in tensors if not name.startswith(beyond)), g.experts)
