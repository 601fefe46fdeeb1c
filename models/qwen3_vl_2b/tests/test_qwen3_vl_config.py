"""A value that this build does not implement is refused by the name of its field."""

import copy
from typing import Any

import pytest

from harness.errors import ConfigError
from models.qwen3_vl_2b.config import SIZES, geometry


def changed(path: str, value: object) -> dict[str, Any]:
    config = copy.deepcopy(dict(SIZES["tiny"]))
    place = config
    *parents, leaf = path.split(".")
    for parent in parents:
        place = place[parent]
    place[leaf] = value
    return config


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model_type", "qwen3_vl_moe"),
        ("auto_map", {"AutoModel": "evil.Model"}),
        ("image_token_id", 5000),
        ("text_config.hidden_act", "gelu"),
        ("text_config.attention_bias", True),
        ("text_config.use_sliding_window", True),
        ("text_config.layer_types", ["sliding_attention"]),
        ("text_config.num_key_value_heads", 3),
        ("text_config.head_dim", None),
        ("text_config.rope_scaling.rope_type", "yarn"),
        ("text_config.rope_scaling", {"type": "yarn", "mrope_interleaved": True, "mrope_section": [24, 20, 20]}),
        ("text_config.rope_scaling.mrope_interleaved", False),
        ("text_config.rope_scaling.mrope_section", [24, 20, 16]),
        ("text_config.rope_scaling.mrope_section", [32, 16, 16]),
        ("vision_config.hidden_act", "gelu"),
        ("vision_config.in_channels", 4),
        ("vision_config.model_type", "clip"),
        ("vision_config.num_position_embeddings", 65),
        ("vision_config.deepstack_visual_indexes", [1, 9]),
        ("vision_config.deepstack_visual_indexes", [1, 0]),
        ("vision_config.out_hidden_size", 128),
        ("vision_config.rope_parameters", {"rope_type": "default", "rope_theta": 1e4}),
        ("vision_config.patch_size", None),
    ],
)
def test_unsupported_values_name_their_field(path: str, value: object) -> None:
    with pytest.raises(ConfigError, match=path.rpartition(".")[2]):
        geometry(changed(path, value))


def test_published_geometry() -> None:
    g = geometry(SIZES["full"])
    text, vision = g.text, g.vision
    assert (text.layers, text.hidden, text.heads, text.kv_heads, text.head_dim) == (28, 2048, 16, 8, 128)
    assert (text.intermediate, text.vocab, text.rope_theta, text.sections) == (6144, 151936, 5_000_000, (24, 20, 20))
    assert (vision.blocks, vision.hidden, vision.heads, vision.head_dim, vision.side) == (24, 1024, 16, 64, 48)
    assert (vision.patch_size, vision.unit, vision.out, vision.deep) == (1536, 4, 2048, (5, 11, 17))
    assert (g.image_token, g.video_token) == (151655, 151656)


def test_a_config_as_transformers_writes_it_is_read_the_same() -> None:
    from transformers import Qwen3VLConfig

    for size, config in SIZES.items():
        assert geometry(Qwen3VLConfig(**config).to_dict()) == geometry(config), size
