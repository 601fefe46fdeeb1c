"""The geometry of Llama models, read from a Hugging Face config; anything not implemented here raises."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.spec.hf_config import HFConfig
from models.common.decoder.config_fields import field, groups, require, rope_theta, sizes

SIZES = sizes(Path(__file__).parent / "configs")
REQUIRED = {
    "model_type": "llama",
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "pretraining_tp": 1,
    "rope_scaling": None,
}
"""Fields with one implemented value."""


@dataclass(frozen=True)
class Geometry:
    vocab: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    eps: float
    rope_theta: float
    max_positions: int
    tied: bool


def geometry(config: HFConfig) -> Geometry:
    """Raises ConfigError naming the field whose value would silently change the maths."""
    require(config, REQUIRED)
    heads, kv_heads = groups(config)
    return Geometry(
        vocab=field(config, "vocab_size"),
        hidden=field(config, "hidden_size"),
        intermediate=field(config, "intermediate_size"),
        layers=field(config, "num_hidden_layers"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=field(config, "head_dim"),
        eps=field(config, "rms_norm_eps"),
        rope_theta=rope_theta(config),
        max_positions=field(config, "max_position_embeddings"),
        tied=field(config, "tie_word_embeddings"),
    )
