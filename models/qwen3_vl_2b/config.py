"""The geometry of Qwen3-VL dense models, read from a Hugging Face config; anything not implemented here raises."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import ConfigError
from harness.spec.hf_config import HFConfig
from models.common.decoder.config_fields import require_rope

SIZES: dict[str, HFConfig] = {
    path.stem: json.loads(path.read_text())
    for path in sorted((Path(__file__).parent / "configs").glob("*.json"))
    if path.stem not in ("generation", "preprocessor")
}

TEXT_REQUIRED = {
    "model_type": "qwen3_vl_text",
    "hidden_act": "silu",
    "attention_bias": False,
    "use_sliding_window": False,
}
VISION_REQUIRED = {
    "hidden_act": "gelu_pytorch_tanh",
    "in_channels": 3,
}
"""Fields with one implemented value."""
VISION_TYPES = ("qwen3_vl", "qwen3_vl_vision")
TOWER_THETA = 10000.0


@dataclass(frozen=True)
class TextGeometry:
    vocab: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    eps: float
    rope_theta: float
    sections: tuple[int, int, int]
    """Frequencies of the head that turn by time, height and width."""
    max_positions: int
    tied: bool

    @property
    def scale(self) -> float:
        return self.head_dim**-0.5


@dataclass(frozen=True)
class VisionGeometry:
    patch: int
    frames: int
    """Frames of one patch."""
    channels: int
    hidden: int
    intermediate: int
    blocks: int
    heads: int
    side: int
    """Rows, and columns, of the learned position table."""
    merge: int
    """Rows, and columns, of patches that become one token."""
    out: int
    deep: tuple[int, ...]
    """Blocks whose output is merged into a deep feature."""
    rope_theta: float
    eps: float = 1e-6

    @property
    def patch_size(self) -> int:
        """Values of one patch row."""
        return self.channels * self.frames * self.patch**2

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def unit(self) -> int:
        """Patches of one token."""
        return self.merge**2


@dataclass(frozen=True)
class Geometry:
    text: TextGeometry
    vision: VisionGeometry
    image_token: int
    video_token: int


def geometry(config: HFConfig) -> Geometry:
    """Raises ConfigError naming the field whose value would silently change the maths."""
    _require(config, {"model_type": "qwen3_vl"}, "")
    if "auto_map" in config:
        raise ConfigError("config field `auto_map` asks for code from the checkpoint, which is never run")
    text = _text(_field(config, "text_config", ""), config)
    vision = _vision(_field(config, "vision_config", ""))
    if vision.out != text.hidden:
        raise ConfigError(f"`vision_config.out_hidden_size` {vision.out} is not the language model's {text.hidden}")
    if len(vision.deep) > text.layers:
        raise ConfigError(f"`vision_config.deepstack_visual_indexes` names more features than {text.layers} layers")
    image, video = _field(config, "image_token_id", ""), _field(config, "video_token_id", "")
    for name, token in (("image_token_id", image), ("video_token_id", video)):
        if not 0 <= token < text.vocab:
            raise ConfigError(f"config field `{name}` {token} is not in the vocabulary of {text.vocab}")
    return Geometry(text, vision, image, video)


def _text(config: Mapping[str, Any], whole: HFConfig) -> TextGeometry:
    at = "text_config."
    _require(config, TEXT_REQUIRED, at)
    if set(config.get("layer_types") or ["full_attention"]) != {"full_attention"}:
        raise ConfigError(
            f"config field `{at}layer_types` holds more than 'full_attention', which is all there is here"
        )
    heads, kv_heads = _field(config, "num_attention_heads", at), _field(config, "num_key_value_heads", at)
    if heads % kv_heads:
        raise ConfigError(f"`{at}num_attention_heads` {heads} is no multiple of `num_key_value_heads` {kv_heads}")
    head_dim = _field(config, "head_dim", at)
    theta, sections = _rope(config, at)
    if 2 * sum(sections) != head_dim:
        raise ConfigError(f"`{at}rope_scaling.mrope_section` {list(sections)} does not cover `head_dim` {head_dim}")
    return TextGeometry(
        vocab=_field(config, "vocab_size", at),
        hidden=_field(config, "hidden_size", at),
        intermediate=_field(config, "intermediate_size", at),
        layers=_field(config, "num_hidden_layers", at),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        eps=_field(config, "rms_norm_eps", at),
        rope_theta=theta,
        sections=sections,
        max_positions=_field(config, "max_position_embeddings", at),
        tied=_field(whole, "tie_word_embeddings", ""),
    )


def _rope(config: Mapping[str, Any], at: str) -> tuple[float, tuple[int, int, int]]:
    """transformers 5 writes `rope_parameters`, earlier versions `rope_theta` beside `rope_scaling`."""
    name = "rope_parameters" if config.get("rope_parameters") else "rope_scaling"
    rope = _field(config, name, at)
    require_rope(rope, f"{at}{name}", "default")
    if rope.get("mrope_interleaved") is not True:
        raise ConfigError(f"config field `{at}{name}.mrope_interleaved` is not true; only interleaved axes are here")
    time, height, width = _field(rope, "mrope_section", f"{at}{name}.")
    if height != width or not height <= time <= height + 4:
        raise ConfigError(f"config field `{at}{name}.mrope_section`: {[time, height, width]} cannot be interleaved")
    theta = rope["rope_theta"] if "rope_theta" in rope else _field(config, "rope_theta", at)
    return float(theta), (time, height, width)


def _vision(config: Mapping[str, Any]) -> VisionGeometry:
    at = "vision_config."
    _require(config, VISION_REQUIRED, at)
    if config.get("model_type", VISION_TYPES[0]) not in VISION_TYPES:
        raise ConfigError(f"config field `{at}model_type` is {config['model_type']!r}; {VISION_TYPES} are implemented")
    rope = config.get("rope_parameters") or {}
    require_rope(rope, f"{at}rope_parameters", "axial")
    positions, hidden, heads = (
        _field(config, name, at) for name in ("num_position_embeddings", "hidden_size", "num_heads")
    )
    side = math.isqrt(positions)
    if side**2 != positions:
        raise ConfigError(f"config field `{at}num_position_embeddings` {positions} is no square")
    if hidden % (4 * heads):
        raise ConfigError(f"`{at}hidden_size` {hidden} gives {heads} heads no whole quarter to turn by row and column")
    blocks, deep = _field(config, "depth", at), tuple(_field(config, "deepstack_visual_indexes", at))
    if sorted(set(deep)) != list(deep) or not set(deep) <= set(range(blocks)):
        raise ConfigError(f"config field `{at}deepstack_visual_indexes` {list(deep)}: not ascending blocks of {blocks}")
    return VisionGeometry(
        patch=_field(config, "patch_size", at),
        frames=_field(config, "temporal_patch_size", at),
        channels=_field(config, "in_channels", at),
        hidden=hidden,
        intermediate=_field(config, "intermediate_size", at),
        blocks=blocks,
        heads=heads,
        side=side,
        merge=_field(config, "spatial_merge_size", at),
        out=_field(config, "out_hidden_size", at),
        deep=deep,
        rope_theta=float(rope.get("rope_theta", TOWER_THETA)),
    )


def _require(config: Mapping[str, Any], required: Mapping[str, Any], at: str) -> None:
    for name, value in required.items():
        if config.get(name, value) != value:
            raise ConfigError(f"config field `{at}{name}` is {config[name]!r}; this model implements {value!r} only")


def _field(config: Mapping[str, Any], name: str, at: str) -> Any:
    if config.get(name) is None:
        raise ConfigError(f"config field `{at}{name}` is missing: any default would be a guess")
    return config[name]
