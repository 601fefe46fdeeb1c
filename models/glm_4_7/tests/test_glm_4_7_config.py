"""A value that this build does not implement is refused by the name of its field."""

import pytest

from harness.errors import ConfigError
from models.glm_4_7.config import SIZES, geometry


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_type", "glm4_moe_lite"),
        ("hidden_act", "gelu"),
        ("rope_scaling", {"rope_type": "yarn", "factor": 4.0}),
        ("rope_parameters", {"rope_type": "linear", "rope_theta": 1e4, "partial_rotary_factor": 0.5}),
        ("rope_parameters", {"type": "linear", "rope_theta": 1e4, "partial_rotary_factor": 0.5}),
        ("use_sliding_window", True),
        ("partial_rotary_factor", None),
        ("partial_rotary_factor", 1.5),
        ("rope_parameters", {"rope_type": "default", "rope_theta": 1e6}),
        ("attention_bias", False),
        ("attention_bias", None),
        ("use_qk_norm", False),
        ("use_qk_norm", None),
        ("head_dim", None),
        ("num_key_value_heads", 5),
        ("norm_topk_prob", False),
        ("n_group", 4),
        ("topk_group", 2),
        ("scoring_func", "softmax"),
        ("routed_scaling_factor", None),
        ("num_experts_per_tok", 33),
        ("n_shared_experts", 0),
        ("first_k_dense_replace", 5),
        ("auto_map", {"AutoModel": "evil.Model"}),
        ("layer_types", ["sliding_attention"]),
    ],
)
def test_unsupported_values_name_their_field(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field if field != "rope_parameters" else "rope_type|partial_rotary_factor"):
        geometry({**SIZES["tiny"], field: value})


def test_published_geometry() -> None:
    g = geometry(SIZES["full"])
    assert (g.layers, g.dense_layers, g.moe_layers, g.hidden) == (92, 3, 89, 5120)
    assert (g.heads, g.kv_heads, g.head_dim, g.rotated) == (96, 8, 128, 64)
    assert (g.experts, g.chosen, g.expert_size, g.shared_size) == (160, 8, 1536, 1536)
    assert (g.intermediate, g.vocab, g.routed_scale) == (12288, 151552, 2.5)
    assert (g.rope_theta, g.eps, g.tied, g.max_positions) == (1_000_000, 1e-5, False, 202752)


def test_the_slice_is_the_published_model_with_fewer_layers() -> None:
    assert SIZES["slice"]["num_hidden_layers"] == 7
    assert {**SIZES["slice"], "num_hidden_layers": 92} == SIZES["full"]
