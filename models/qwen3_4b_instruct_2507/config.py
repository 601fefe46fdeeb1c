"""The geometry of Qwen3 dense models, read from a Hugging Face config; anything not implemented here raises."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

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

    @property
    def scale(self) -> float:
        return self.head_dim**-0.5


def geometry(config: HFConfig) -> Geometry:
    """Raises ConfigError naming the field whose value would silently change the maths."""
    for name, value in REQUIRED.items():
        if config.get(name, value) != value:
            raise ConfigError(f"config field `{name}` is {config[name]!r}; this model implements {value!r} only")
    if "auto_map" in config:
        raise ConfigError("config field `auto_map` asks for code from the checkpoint, which is never run")
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    if heads % kv_heads:
        raise ConfigError(f"`num_attention_heads` {heads} is no multiple of `num_key_value_heads` {kv_heads}")
    return Geometry(
        vocab=config["vocab_size"],
        hidden=config["hidden_size"],
        intermediate=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=kv_heads,
        head_dim=config["head_dim"],
        eps=config["rms_norm_eps"],
        rope_theta=config["rope_theta"],
        max_positions=config["max_position_embeddings"],
        tied=config["tie_word_embeddings"],
    )
