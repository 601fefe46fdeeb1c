"""A value that this build does not implement is refused by the name of its field."""

import pytest

from harness.errors import ConfigError
from models.qwen3_4b_instruct_2507.config import SIZES, geometry


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_act", "gelu"),
        ("use_sliding_window", True),
        ("rope_scaling", {"rope_type": "yarn", "factor": 4.0}),
        ("attention_bias", True),
        ("model_type", "qwen3_moe"),
        ("auto_map", {"AutoModel": "evil.Model"}),
        ("num_key_value_heads", 3),
        ("rope_parameters", {"rope_type": "linear", "rope_theta": 1e4}),
        ("rope_parameters", {"type": "linear", "rope_theta": 1e4}),
        ("layer_types", ["sliding_attention"]),
        ("head_dim", None),
    ],
)
def test_unsupported_values_name_their_field(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        geometry({**SIZES["tiny"], field: value})


def test_published_geometry() -> None:
    g = geometry(SIZES["full"])
    assert (g.layers, g.hidden, g.heads, g.kv_heads, g.head_dim) == (36, 2560, 32, 8, 128)
    assert (g.intermediate, g.vocab, g.rope_theta, g.eps, g.tied) == (9728, 151936, 5_000_000, 1e-6, True)
