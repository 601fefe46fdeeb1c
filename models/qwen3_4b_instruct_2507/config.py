"""The geometry of Qwen3 dense models, read from a Hugging Face config; anything not implemented here raises."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import ConfigError
from harness.spec import HFConfig

SIZES: dict[str, HFConfig] = {
    path.stem: json.loads(path.read_text())
    for path in sorted((Path(__file__).parent / "configs").glob("*.json"))
    if path.stem != "generation"
}

REQUIRED = {
    "model_type": "qwen3",
    "hidden_act": "silu",
    "attention_bias": False,
    "use_sliding_window": False,
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
    for name, value in REQUIRED.items():
        if config.get(name, value) != value:
            raise ConfigError(f"config field `{name}` is {config[name]!r}; this model implements {value!r} only")
    if "auto_map" in config:
        raise ConfigError("config field `auto_map` asks for code from the checkpoint, which is never run")
    if set(config.get("layer_types") or ["full_attention"]) != {"full_attention"}:
        raise ConfigError("config field `layer_types` holds more than 'full_attention', which is all there is here")
    heads, kv_heads = _field(config, "num_attention_heads"), _field(config, "num_key_value_heads")
    if heads % kv_heads:
        raise ConfigError(f"`num_attention_heads` {heads} is no multiple of `num_key_value_heads` {kv_heads}")
    return Geometry(
        vocab=_field(config, "vocab_size"),
        hidden=_field(config, "hidden_size"),
        intermediate=_field(config, "intermediate_size"),
        layers=_field(config, "num_hidden_layers"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=_field(config, "head_dim"),
        eps=_field(config, "rms_norm_eps"),
        rope_theta=_rope_theta(config),
        max_positions=_field(config, "max_position_embeddings"),
        tied=_field(config, "tie_word_embeddings"),
    )


def _rope_theta(config: HFConfig) -> float:
    """transformers 5 writes `rope_parameters`, earlier versions `rope_theta` beside `rope_scaling`."""
    rope = config.get("rope_parameters")
    if rope is None:
        return float(_field(config, "rope_theta"))
    if rope.get("rope_type", "default") != "default":
        raise ConfigError(f"config field `rope_parameters.rope_type` is {rope['rope_type']!r}; only 'default' is here")
    return float(_field(rope, "rope_theta"))


def _field(config: HFConfig, name: str) -> Any:
    if config.get(name) is None:
        raise ConfigError(f"config field `{name}` is missing: any default would be a guess")
    return config[name]
