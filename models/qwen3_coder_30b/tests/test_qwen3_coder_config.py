"""A value that this build does not implement is refused by the name of its field."""

import pytest

from harness.errors import ConfigError
from models.qwen3_coder_30b.config import SIZES, geometry


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_act", "gelu"),
        ("use_sliding_window", True),
        ("rope_scaling", {"rope_type": "yarn", "factor": 4.0}),
        ("rope_parameters", {"rope_type": "linear", "rope_theta": 1e4}),
        ("rope_parameters", {"type": "linear", "rope_theta": 1e4}),
        ("layer_types", ["sliding_attention"]),
        ("head_dim", None),
        ("attention_bias", True),
        ("model_type", "qwen3"),
        ("auto_map", {"AutoModel": "evil.Model"}),
        ("num_key_value_heads", 3),
        ("norm_topk_prob", False),
        ("norm_topk_prob", None),
        ("mlp_only_layers", [0]),
        ("decoder_sparse_step", 2),
        ("shared_expert_intermediate_size", 512),
        ("num_experts_per_tok", 33),
        ("moe_intermediate_size", None),
    ],
)
def test_unsupported_values_name_their_field(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        geometry({**SIZES["tiny"], field: value})


def test_published_geometry() -> None:
    g = geometry(SIZES["full"])
    assert (g.layers, g.hidden, g.heads, g.kv_heads, g.head_dim) == (48, 2048, 32, 4, 128)
    assert (g.experts, g.chosen, g.expert_size, g.vocab) == (128, 8, 768, 151936)
    assert (g.rope_theta, g.eps, g.tied) == (10_000_000, 1e-6, False)
