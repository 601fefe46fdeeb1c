"""Reading a Hugging Face config: a field is there, a value is one that is implemented, or the error names the field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import ConfigError
from harness.spec.hf_config import HFConfig


def sizes(folder: Path) -> dict[str, HFConfig]:
    """Size name -> config, from `<size>.json`; `generation.json` beside them is no size."""
    return {
        path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json")) if path.stem != "generation"
    }


def require(config: HFConfig, values: Mapping[str, Any]) -> None:
    """Raises ConfigError naming the first field that holds another value than the one implemented, and for a config
    that asks for its own code or mixes kinds of layers."""
    for name, value in values.items():
        if config.get(name, value) != value:
            raise ConfigError(f"config field `{name}` is {config[name]!r}; this model implements {value!r} only")
    if "auto_map" in config:
        raise ConfigError("config field `auto_map` asks for code from the checkpoint, which is never run")
    if set(config.get("layer_types") or ["full_attention"]) != {"full_attention"}:
        raise ConfigError("config field `layer_types` holds more than 'full_attention', which is all there is here")


def field(config: HFConfig, name: str) -> Any:
    if config.get(name) is None:
        raise ConfigError(f"config field `{name}` is missing: any default would be a guess")
    return config[name]


def groups(config: HFConfig) -> tuple[int, int]:
    """(query heads, key-value heads), the first a multiple of the second."""
    heads, kv_heads = field(config, "num_attention_heads"), field(config, "num_key_value_heads")
    if heads % kv_heads:
        raise ConfigError(f"`num_attention_heads` {heads} is no multiple of `num_key_value_heads` {kv_heads}")
    return heads, kv_heads


def rope_theta(config: HFConfig) -> float:
    """transformers 5 writes `rope_parameters`, earlier versions `rope_theta` beside `rope_scaling`."""
    rope = config.get("rope_parameters")
    if rope is None:
        return float(field(config, "rope_theta"))
    require_rope(rope, "rope_parameters", "default")
    return float(field(rope, "rope_theta"))


def require_rope(rope: Mapping[str, Any], name: str, kind: str) -> None:
    """Raises ConfigError unless the rope settings, in the config field `name`, are of that kind, or of none: earlier
    versions of transformers write it as `type`."""
    found = rope.get("rope_type", rope.get("type", kind))
    if found != kind:
        raise ConfigError(f"config field `{name}.rope_type` is {found!r}; only {kind!r} is here")
