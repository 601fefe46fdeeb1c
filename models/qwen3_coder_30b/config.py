"""The geometry of Qwen3 mixture-of-experts models, read from a Hugging Face config; anything not implemented raises."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.errors import ConfigError
from harness.spec.hf_config import HFConfig
from models.common.decoder.config_fields import field, groups, require, rope_theta, sizes

SIZES = sizes(Path(__file__).parent / "configs")
REQUIRED = {
    "model_type": "qwen3_moe",
    "hidden_act": "silu",
    "attention_bias": False,
    "qkv_bias": False,
    "use_sliding_window": False,
    "rope_scaling": None,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "shared_expert_intermediate_size": 0,
}
"""Fields with one implemented value; `intermediate_size` is never read, for every layer is sparse."""


@dataclass(frozen=True)
class Geometry:
    vocab: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    experts: int
    chosen: int
    """Experts to a token."""
    expert_size: int
    """Intermediate channels of one expert."""
    eps: float
    rope_theta: float
    max_positions: int
    tied: bool


def geometry(config: HFConfig) -> Geometry:
    """Raises ConfigError naming the field whose value would silently change the maths."""
    require(config, REQUIRED)
    heads, kv_heads = groups(config)
    if field(config, "norm_topk_prob") is not True:
        raise ConfigError("config field `norm_topk_prob` must be true: nothing else is implemented")
    # transformers 5 writes the published `num_experts` under another name.
    experts = field(config, "num_local_experts" if "num_local_experts" in config else "num_experts")
    chosen = field(config, "num_experts_per_tok")
    if not 0 < chosen <= experts:
        raise ConfigError(f"`num_experts_per_tok` {chosen} of `num_experts` {experts} cannot be chosen")
    return Geometry(
        vocab=field(config, "vocab_size"),
        hidden=field(config, "hidden_size"),
        layers=field(config, "num_hidden_layers"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=field(config, "head_dim"),
        experts=experts,
        chosen=chosen,
        expert_size=field(config, "moe_intermediate_size"),
        eps=field(config, "rms_norm_eps"),
        rope_theta=rope_theta(config),
        max_positions=field(config, "max_position_embeddings"),
        tied=field(config, "tie_word_embeddings"),
    )
