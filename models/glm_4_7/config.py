"""The geometry of GLM-4.7, read from a Hugging Face config; anything not implemented here raises."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.errors import ConfigError
from harness.spec.hf_config import HFConfig
from models.common.decoder.config_fields import field, groups, require, rope_theta, sizes

SIZES = sizes(Path(__file__).parent / "configs")
REQUIRED = {
    "model_type": "glm4_moe",
    "hidden_act": "silu",
    "rope_scaling": None,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "use_sliding_window": False,
}
"""Fields with one implemented value, which is also what their absence means."""
STATED = {"attention_bias": True, "use_qk_norm": True, "norm_topk_prob": True, "n_group": 1, "topk_group": 1}
"""Fields with one implemented value which their absence does not mean."""


@dataclass(frozen=True)
class Geometry:
    vocab: int
    hidden: int
    intermediate: int
    """Channels of a dense layer's block."""
    layers: int
    dense_layers: int
    """The first ones; every later layer has experts."""
    predicting_layers: int
    """Behind the last one in a checkpoint, each for one more token ahead; not built."""
    heads: int
    kv_heads: int
    head_dim: int
    rotated: int
    """Channels of a head that are rotated, the first ones."""
    experts: int
    chosen: int
    """Experts to a token, beside the shared one."""
    expert_size: int
    """Channels of one expert."""
    shared_size: int
    """Channels of the expert that every token visits."""
    routed_scale: float
    eps: float
    rope_theta: float
    max_positions: int
    tied: bool

    @property
    def moe_layers(self) -> int:
        return self.layers - self.dense_layers


def geometry(config: HFConfig) -> Geometry:
    """Raises ConfigError naming the field whose value would silently change the maths."""
    require(config, REQUIRED)
    require({name: field(config, name) for name in STATED}, STATED)
    heads, kv_heads = groups(config)
    head_dim = field(config, "head_dim")
    experts, chosen = _choice(config)
    layers, dense_layers = field(config, "num_hidden_layers"), field(config, "first_k_dense_replace")
    if not 0 <= dense_layers <= layers:
        raise ConfigError(f"config field `first_k_dense_replace` is {dense_layers} of {layers} layers")
    return Geometry(
        vocab=field(config, "vocab_size"),
        hidden=field(config, "hidden_size"),
        intermediate=field(config, "intermediate_size"),
        layers=layers,
        dense_layers=dense_layers,
        predicting_layers=_predicting(config),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        rotated=_rotated(config, head_dim),
        experts=experts,
        chosen=chosen,
        expert_size=field(config, "moe_intermediate_size"),
        shared_size=field(config, "moe_intermediate_size") * field(config, "n_shared_experts"),
        routed_scale=float(field(config, "routed_scaling_factor")),
        eps=field(config, "rms_norm_eps"),
        rope_theta=rope_theta(config),
        max_positions=field(config, "max_position_embeddings"),
        tied=field(config, "tie_word_embeddings"),
    )


def _choice(config: HFConfig) -> tuple[int, int]:
    experts, chosen = field(config, "n_routed_experts"), field(config, "num_experts_per_tok")
    if not 0 < chosen <= experts:
        raise ConfigError(f"`num_experts_per_tok` {chosen} of `n_routed_experts` {experts} cannot be chosen")
    if field(config, "n_shared_experts") < 1:
        raise ConfigError("config field `n_shared_experts` must be at least 1: a layer without one is not implemented")
    return experts, chosen


def _rotated(config: HFConfig, head_dim: int) -> int:
    """transformers 5 writes the factor into `rope_parameters`, earlier versions beside `rope_theta`."""
    factor = field(config.get("rope_parameters") or config, "partial_rotary_factor")
    rotated = int(head_dim * factor)
    if not 0 < rotated <= head_dim or rotated % 2:
        raise ConfigError(f"config field `partial_rotary_factor` {factor} rotates {rotated} of {head_dim} channels")
    return rotated


def _predicting(config: HFConfig) -> int:
    """transformers 5 writes `num_mtp_layers`, earlier versions `num_nextn_predict_layers`."""
    name = "num_mtp_layers" if "num_mtp_layers" in config else "num_nextn_predict_layers"
    return int(field(config, name))
