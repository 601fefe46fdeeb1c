"""One, two and four real processes give what an uncut build gives behind images, whether weights are drawn or read;
uneven shares are refused."""

from typing import Any

import pytest
import torch

from harness.errors import ConfigError
from harness.spec.optimization import Target
from models.qwen3_vl_2b import SPEC


@pytest.mark.parametrize("weights", ["random", "checkpoint"])
@pytest.mark.parametrize("world", ["1", "2", "4"])
def test_ranks_give_the_logits_of_the_uncut_build(ranks: dict[str, Any], world: str, weights: str) -> None:
    found = ranks[world][weights]
    assert found["error"] < 2e-6
    assert found["alike"]


@pytest.mark.parametrize("world", [1, 2, 4])
def test_a_rank_holds_its_share(ranks: dict[str, Any], world: int) -> None:
    """4 query and 2 key-value heads of 128, which four ranks keep in pairs; 768 feed-forward channels."""
    held, kv_heads = ranks[str(world)]["random"]["held"], max(1, 2 // world)
    hidden = SPEC.sizes["tiny"]["text_config"]["hidden_size"]
    assert held["last.attention.qkv.packed.weight"] == [(4 // world + 2 * kv_heads) * 128, hidden]
    assert held["last.mlp.gate_up.weight"] == [2 * 768 // world, hidden]
    assert held["keys"] == [2, kv_heads, 24, 128]


def test_a_world_that_does_not_divide_the_model_is_refused() -> None:
    model = SPEC.build(SPEC.sizes["tiny"], torch.float32, torch.device("meta"))
    shard = SPEC.menu["tensor_parallel"].shard
    assert shard is not None
    with pytest.raises(ConfigError, match="cannot be divided evenly among 3 ranks"):
        shard(model, Target(torch.device("cpu"), torch.float32, "none", 0, 3))
